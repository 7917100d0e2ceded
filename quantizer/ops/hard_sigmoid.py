"""HardSigmoid: alpha * x + beta, clipped to 0 .. 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class HardSigmoidAttrs(Attrs):
    """alpha, beta: slope and offset."""

    alpha: float = 0.2
    beta: float = 0.5


@register
class HardSigmoid(UnaryOperator[HardSigmoidAttrs]):
    """Input: x. Output: alpha * x + beta, clipped to 0 .. 1."""

    name = "HardSigmoid"
    attrs = HardSigmoidAttrs
    example_scales = (0.047, 1 / 256, -128)

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        line = m.number(attrs.alpha) * x + m.number(attrs.beta)
        return np.minimum(np.maximum(line, m.number(0)), m.number(1))
