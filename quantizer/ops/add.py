"""Add: the sum of two tensors, with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import DType, Graph
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops import sums
from intaglio.quantizer.ops.accumulate import RELU
from intaglio.quantizer.ops.base import Context, Reals, Variant, elementwise_lead, register


@dataclass(frozen=True)
class AddAttrs(ew.ClampAttrs):
    """clamp: the fused activation."""


class SumOperator(ew.BinaryOperator[ew.ClampAttrs]):
    """x + sign * y."""

    sign = 1
    variants = (*ew.BinaryOperator.variants, Variant("portable", "sum_of_two.c.j2", lead=elementwise_lead))

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, y = inputs
        assert x is not None and y is not None
        return [ctx.node.attrs.clamp.apply(x + self.sign * y)]

    def meaning(self, ctx: Context, x: Ints, y: Ints) -> Ints:
        if ctx.input(0).dtype is DType.INT16:
            return sums.lower_sum(ctx, self.sign, self.clip(ctx)).apply(x, y)
        return sums.sum_of_pairs(ctx, self.sign, x, y, self.clip(ctx))

    def slopes(self, ctx: Context, operand: int, constants: Ints) -> list[float] | None:
        first, second = sums.ratios(ctx)
        return [float(first if operand == 0 else self.sign * second)] * len(constants)

    def lower_pair(self, ctx: Context) -> sums.SumParams:
        return sums.lower_sum(ctx, self.sign, self.clip(ctx))

    def examples(self) -> Iterator[Graph]:
        attrs: Any = self.attrs()
        yield from ew.binary_examples(self.name, attrs)
        yield next(iter(ew.binary_examples(self.name, replace(attrs, clamp=RELU))))


@register
class Add(SumOperator):
    """Inputs: x and y, one of them may be constant. Output: their sum, broadcast."""

    name = "Add"
    attrs = AddAttrs
