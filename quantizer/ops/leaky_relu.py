"""LeakyRelu: x for x >= 0, alpha * x below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import ANY_TYPE, PiecewiseOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class LeakyReluAttrs(Attrs):
    """alpha: slope below zero."""

    alpha: float = 0.01


@register
class LeakyRelu(PiecewiseOperator[LeakyReluAttrs]):
    """Input: x. Output: x for x >= 0, alpha * x below."""

    name = "LeakyRelu"
    attrs = LeakyReluAttrs
    litert = ANY_TYPE

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return np.where(x >= 0, x, m.number(attrs.alpha) * x)

    def slopes(self, attrs: Any) -> tuple[float, float]:
        return 1.0, float(attrs.alpha)

    def example_attrs(self) -> list[Any]:
        return [LeakyReluAttrs(0.125), LeakyReluAttrs(-0.3)]
