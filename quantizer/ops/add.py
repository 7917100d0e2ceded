"""Add: the sum of two tensors, with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import DType, Graph, Node, TensorType
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops.accumulate import RELU
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, elementwise_lead, register
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class AddAttrs(ew.ClampAttrs):
    """clamp: the fused activation."""


class SumOperator(ew.BinaryLimits, Operator[ew.ClampAttrs, ew.SumParams]):
    """x + sign * y."""

    sign = 1
    variants = (Variant("portable", "sum_of_two.c.j2", lead=elementwise_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return ew.broadcast(node, inputs)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, y = inputs
        assert x is not None and y is not None
        return [ctx.node.attrs.clamp.apply(x + self.sign * y)]

    def lower(self, ctx: Context) -> ew.SumParams:
        return ew.lower_sum(ctx, self.sign)

    def evaluate(self, ctx: Context, params: ew.SumParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, y = inputs
        assert x is not None and y is not None
        return [params.definition.apply(x, y, params.low, params.high)]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, y = inputs
        assert x is not None and y is not None
        if ctx.input(0).dtype is DType.INT16:
            return super().define(ctx, inputs)
        kind = ctx.input(0).dtype
        table = ew.pairs_table(ctx, self.sign)
        x, y = np.broadcast_arrays(x, y)
        return [table[x - kind.low, y - kind.low]]

    def output_ranges(self, ctx: Context, params: ew.SumParams) -> tuple[Interval, ...]:
        return ((params.low, params.high),)

    def examples(self) -> Iterator[Graph]:
        yield from ew.binary_examples(self.name, self.attrs())
        yield from list(ew.binary_examples(self.name, self.attrs(RELU)))[:3]


@register
class Add(SumOperator):
    """Inputs: x and y, one of them may be constant. Output: their sum, broadcast."""

    name = "Add"
    attrs = AddAttrs
