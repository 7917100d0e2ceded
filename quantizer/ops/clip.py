"""Clip: ReLU (0, none), ReLU6 (0, 6), ReLU_N1_TO_1 (-1, 1) and general bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.accumulate import Clamp
from intaglio.quantizer.ops.base import Context, register
from intaglio.quantizer.ops.lookup import ANY_TYPE, PiecewiseOperator
from intaglio.quantizer.realmath import Arithmetic
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class ClipAttrs(Attrs):
    """low, high: real bounds; None where there is none."""

    low: float | None = None
    high: float | None = None


@register
class Clip(PiecewiseOperator[ClipAttrs]):
    """Input: x. Output: x, not below `low` and not above `high`."""

    name = "Clip"
    attrs = ClipAttrs

    litert = ANY_TYPE

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        low = x if attrs.low is None else np.maximum(x, m.number(attrs.low))
        return low if attrs.high is None else np.minimum(low, m.number(attrs.high))

    def slopes(self, attrs: Any) -> tuple[float, float]:
        return 1.0, 1.0

    def clip(self, ctx: Context) -> Interval:
        return Clamp(ctx.node.attrs.low, ctx.node.attrs.high).integers(ctx.output, ctx.contract)

    def example_attrs(self) -> list[Any]:
        return [ClipAttrs(0.0, None), ClipAttrs(0.0, 6.0), ClipAttrs(-1.0, 1.0)]
