"""ReduceMax: the largest value along axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ops.base import Context, Reals, register
from intaglio.quantizer.ops.reduce import ExtremumOperator, ReduceAttrs, ReduceLoops


@dataclass(frozen=True)
class ReduceMaxAttrs(ReduceAttrs):
    """axes: searched, ascending; keep_dims: they stay with length 1."""


@register
class ReduceMax(ExtremumOperator[ReduceMaxAttrs]):
    """Input: x. Output: its largest values along axes."""

    name = "ReduceMax"
    attrs = ReduceMaxAttrs

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        return [inputs[0].max(axis=ctx.node.attrs.axes).reshape(ctx.output.shape)]

    def evaluate(self, ctx: Context, params: ReduceLoops, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [inputs[0].max(axis=ctx.node.attrs.axes).reshape(ctx.output.shape)]
