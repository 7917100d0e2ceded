"""Sigmoid: 1 / (1 + exp(-x))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class SigmoidAttrs(Attrs):
    """None."""


@register
class Sigmoid(UnaryOperator[SigmoidAttrs]):
    """Input: x. Output: 1 / (1 + exp(-x))."""

    name = "Sigmoid"
    attrs = SigmoidAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        one = x.dtype.type(1)
        return np.asarray(one / (one + np.exp(-x)))
