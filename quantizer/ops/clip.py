"""Clip: ReLU (0, none), ReLU6 (0, 6), ReLU_N1_TO_1 (-1, 1) and general bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.accumulate import Clamp
from intaglio.quantizer.ops.base import Context, Reals, register
from intaglio.quantizer.ops.lookup import PiecewiseOperator
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

    def function(self, attrs: Any, x: Reals) -> Reals:
        return Clamp(attrs.low, attrs.high).apply(x)

    def slopes(self, attrs: Any) -> tuple[float, float]:
        return 1.0, 1.0

    def clip(self, ctx: Context) -> Interval:
        return Clamp(ctx.node.attrs.low, ctx.node.attrs.high).integers(ctx.output, ctx.contract)

    def example_attrs(self) -> list[Any]:
        return [ClipAttrs(0.0, None), ClipAttrs(0.0, 6.0), ClipAttrs(-1.0, 1.0)]
