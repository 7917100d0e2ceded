"""Cos: the cosine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class CosAttrs(Attrs):
    """None."""


@register
class Cos(UnaryOperator[CosAttrs]):
    """Input: x. Output: the cosine."""

    name = "Cos"
    attrs = CosAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.cos(x))
