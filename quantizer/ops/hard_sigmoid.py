"""HardSigmoid: alpha * x + beta, clipped to 0 .. 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


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

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.clip(attrs.alpha * x + attrs.beta, 0, 1), x.dtype)
