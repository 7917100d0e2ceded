"""Softplus: log(1 + exp(x))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class SoftplusAttrs(Attrs):
    """None."""


@register
class Softplus(UnaryOperator[SoftplusAttrs]):
    """Input: x. Output: log(1 + exp(x))."""

    name = "Softplus"
    attrs = SoftplusAttrs

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return np.maximum(x, m.number(0)) + m.log(1 + m.exp(-abs(x)))
