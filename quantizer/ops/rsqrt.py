"""Rsqrt: one over the square root; inputs at or below 0 give the largest output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class RsqrtAttrs(Attrs):
    """None."""


@register
class Rsqrt(UnaryOperator[RsqrtAttrs]):
    """Input: x. Output: 1 / sqrt(x)."""

    name = "Rsqrt"
    attrs = RsqrtAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(1 / np.sqrt(np.maximum(x, np.finfo(x.dtype).tiny)), x.dtype)
