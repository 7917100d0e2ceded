"""Mul: the product of two tensors, with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intaglio.quantizer.fixedpoint import AffineMap, Ints, binary32_scale
from intaglio.quantizer.ir import Contract, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, elementwise_lead, register
from intaglio.quantizer.requant import Interval, Method, Requant, exact_requant, product_scale, tflite_requant


@dataclass(frozen=True)
class MulAttrs(ew.ClampAttrs):
    """clamp: the fused activation."""


@dataclass(frozen=True, eq=False)
class MulParams:
    """zero_points: of the inputs; requant: product of the differences to output."""

    zero_points: tuple[int, int]
    requant: Requant


@register
class Mul(ew.BinaryLimits, Operator[MulAttrs, MulParams]):
    """Inputs: x and y, one of them may be constant. Output: their product, broadcast."""

    name = "Mul"
    attrs = MulAttrs
    variants = (Variant("portable", "mul.c.j2", lead=elementwise_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return ew.broadcast(node, inputs)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, y = inputs
        assert x is not None and y is not None
        return [ctx.node.attrs.clamp.apply(x * y)]

    def _map(self, ctx: Context) -> AffineMap:
        x, y, out = ctx.input(0), ctx.input(1), ctx.output
        low, high = ctx.node.attrs.clamp.integers(out, ctx.contract)
        ratio = product_scale((x.scale, y.scale), (out.scale,))
        return AffineMap(ratio, out.zero_point, low, high, acc.rounding(ctx.contract))

    def lower(self, ctx: Context) -> MulParams:
        x, y, out = ctx.input(0), ctx.input(1), ctx.output
        if ctx.contract is Contract.TFLITE:
            low, high = ctx.node.attrs.clamp.integers(out, ctx.contract)
            scale = binary32_scale((x.scale, y.scale), out.scale)
            requant = tflite_requant([scale], out.zero_point, low, high, Method.DOUBLE)
        else:
            requant = exact_requant([self._map(ctx)], [_interval(ctx)], str(ctx.node))
        return MulParams((x.zero_point, y.zero_point), requant)

    def evaluate(self, ctx: Context, params: MulParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, y = inputs
        assert x is not None and y is not None
        return [params.requant.apply((x - params.zero_points[0]) * (y - params.zero_points[1]))]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        if ctx.contract is Contract.TFLITE:
            return super().define(ctx, inputs)
        x, y = inputs
        assert x is not None and y is not None
        return [self._map(ctx).apply((x - ctx.input(0).zero_point) * (y - ctx.input(1).zero_point))]

    def output_ranges(self, ctx: Context, params: MulParams) -> tuple[Interval, ...]:
        return (params.requant.range([_interval(ctx)]),)

    def examples(self) -> Iterator[Graph]:
        yield from ew.binary_examples(self.name, MulAttrs(), out_scale=0.21)
        yield from list(ew.binary_examples(self.name, MulAttrs(acc.RELU), out_scale=0.11))[:3]


def _interval(ctx: Context) -> Interval:
    """The products that the inputs' ranges allow."""
    sides = [[v - ctx.input(i).zero_point for v in ctx.ranges[i]] for i in range(2)]
    products = [a * b for a in sides[0] for b in sides[1]]
    return min(products), max(products)
