"""Tanh: the hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class TanhAttrs(Attrs):
    """None."""


@register
class Tanh(UnaryOperator[TanhAttrs]):
    """Input: x. Output: the hyperbolic tangent."""

    name = "Tanh"
    attrs = TanhAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.tanh(x))
