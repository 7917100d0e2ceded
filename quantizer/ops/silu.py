"""Silu: x / (1 + exp(-x)), also called Swish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class SiluAttrs(Attrs):
    """None."""


@register
class Silu(UnaryOperator[SiluAttrs]):
    """Input: x. Output: x / (1 + exp(-x)), also called Swish."""

    name = "Silu"
    attrs = SiluAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(x / (1 + np.exp(-x)), x.dtype)
