"""Add: the sum of two tensors, with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Contract, DType, Graph
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops import sums
from intaglio.quantizer.ops.accumulate import RELU
from intaglio.quantizer.ops.base import Context, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single


@dataclass(frozen=True)
class AddAttrs(ew.ClampAttrs):
    """clamp: the fused activation. shifts: LiteRT's flag `pot_scale_int16`, by which it adds int16 of scales that are
    powers of two with shifts (contract tflite)."""

    shifts: bool = False


class SumOperator(ew.BinaryOperator[AddAttrs]):
    """x + sign * y."""

    sign = 1
    variants = (
        *ew.BinaryOperator.variants,
        Variant("portable", "sum_of_two.c.j2", lead=elementwise_lead, is_tail=True),
    )

    @limit
    def litert_shifts(self, ctx: Context) -> bool:
        """In contract tflite, int16 with `pot_scale_int16` and scales that are powers of two have one shape, and one
        input has the output's scale, the other one of up to 2**-15 times it: LiteRT does nothing else."""
        shifts = sums.pot_shifts(ctx)
        one_shape = ctx.input(0).shape == ctx.input(1).shape
        return shifts is None or (one_shape and min(shifts) == 0 and max(shifts) <= 15)

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
        for scales in ((2**-10, 2**-10), (2**-13, 2**-10)):
            pair = [quantised("int16", (1, 3, 7), scale) for scale in scales]
            yield single(self.name, replace(attrs, shifts=True), pair, [("int16", 2**-10, 0)], Contract.TFLITE)


@register
class Add(SumOperator):
    """Inputs: x and y, one of them may be constant. Output: their sum, broadcast."""

    name = "Add"
    attrs = AddAttrs
