"""Mul: the product of two tensors, with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Contract, DType, Graph
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops.base import Context, Reals, Variant, elementwise_lead, register
from intaglio.quantizer.ops.lines import Lines, fit
from intaglio.quantizer.requant import Interval, Method, Requant, exact_requant, product_scale, tflite_requant


@dataclass(frozen=True)
class MulAttrs(ew.ClampAttrs):
    """clamp: the fused activation."""


@dataclass(frozen=True, eq=False)
class MulParams:
    """Integers of a product.

    Attributes:
        zero_points: of the inputs.
        requant: product of the differences to output; None where lines do it.
        lines: 32-bit arithmetic of the product, zero point and clip included, or (mirrored) of its magnitude, to
            which the sign, the zero point and the clip are then applied.
        zero_point, low, high: of the output.
    """

    zero_points: tuple[int, int]
    requant: Requant | None
    lines: Lines | None
    mirrored: bool
    zero_point: int
    low: int
    high: int

    def apply(self, x: Ints, y: Ints) -> Ints:
        """Evaluate over int64 arrays that broadcast."""
        product = (x - self.zero_points[0]) * (y - self.zero_points[1])
        if self.requant is not None:
            return self.requant.apply(product[..., None])[..., 0]
        assert self.lines is not None
        if not self.mirrored:
            return self.lines.apply(product)
        size = (np.abs(product) * self.lines.a + self.lines.c) >> self.lines.shift
        return fp.saturate(np.sign(product) * size + self.zero_point, self.low, self.high)


@register
class Mul(ew.BinaryOperator[MulAttrs]):
    """Inputs: x and y, one of them may be constant. Output: their product, broadcast."""

    name = "Mul"
    attrs = MulAttrs
    variants = (*ew.BinaryOperator.variants, Variant("portable", "mul.c.j2", lead=elementwise_lead))

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, y = inputs
        assert x is not None and y is not None
        return [ctx.node.attrs.clamp.apply(x * y)]

    def slopes(self, ctx: Context, operand: int, constants: Ints) -> list[float] | None:
        unit = float(product_scale((ctx.input(0).scale, ctx.input(1).scale), (ctx.output.scale,)))
        return [unit * int(v) for v in constants - ctx.input(1 - operand).zero_point]

    def meaning(self, ctx: Context, x: Ints, y: Ints) -> Ints:
        product = (x - ctx.input(0).zero_point) * (y - ctx.input(1).zero_point)
        if ctx.contract is Contract.TFLITE:
            return self._litert(ctx).apply(product[..., None])[..., 0]
        return self._map(ctx).apply(product)

    def _map(self, ctx: Context) -> AffineMap:
        ratio = product_scale((ctx.input(0).scale, ctx.input(1).scale), (ctx.output.scale,))
        return AffineMap(ratio, ctx.output.zero_point, *self.clip(ctx), acc.rounding(ctx.contract))

    def _litert(self, ctx: Context) -> Requant:
        """LiteRT multiplies and divides the scales in binary32."""
        x, y, out = ctx.input(0), ctx.input(1), ctx.output
        scale = float(np.float32(x.scale) * np.float32(y.scale) / np.float32(out.scale))
        return tflite_requant([scale], out.zero_point, *self.clip(ctx), Method.DOUBLE)

    def lower_pair(self, ctx: Context) -> MulParams:
        zeros = ctx.input(0).zero_point, ctx.input(1).zero_point
        out, clip, (low, high) = ctx.output, self.clip(ctx), interval(ctx)
        litert = ctx.contract is Contract.TFLITE
        if ctx.input(0).dtype is not DType.INT16:
            unit = float(product_scale((ctx.input(0).scale, ctx.input(1).scale), (out.scale,)))
            products = np.arange(low, high + 1)
            table = self._litert(ctx).apply(products[:, None])[:, 0] if litert else self._map(ctx).apply(products)
            lines, mirrored = fit(table[None, :], low, *clip, [unit]), False
            if lines is None and litert:
                lines, mirrored = self._mirrored(ctx, max(-low, high), unit), True
            if lines is not None:
                return MulParams(zeros, None, lines, mirrored, out.zero_point, *clip)
        requant = self._litert(ctx) if litert else exact_requant([self._map(ctx)], [(low, high)], str(ctx.node))
        return MulParams(zeros, requant, None, False, out.zero_point, *clip)

    def _mirrored(self, ctx: Context, largest: int, unit: float) -> Lines | None:
        """The line of a product's magnitude: LiteRT rounds halves away from zero, so one line serves both signs."""
        requant, (low, high), zero = self._litert(ctx), self.clip(ctx), ctx.output.zero_point
        products = np.arange(largest + 1)
        scaled = [fp.multiply_double_rounding(s * products, requant.multiplier, requant.shift) for s in (1, -1)]
        if not np.array_equal(scaled[0], -scaled[1]):
            return None
        reach = 1 + max(high - zero, zero - low)
        return fit(np.minimum(scaled[0], reach)[None, :], 0, -1, reach, [unit], splits=(True,))

    def examples(self) -> Iterator[Graph]:
        yield from ew.binary_examples(self.name, MulAttrs(), out_scale=0.21)
        yield next(iter(ew.binary_examples(self.name, MulAttrs(acc.RELU), out_scale=0.11)))


def interval(ctx: Context) -> Interval:
    """The products that the inputs' ranges allow."""
    sides = [[v - ctx.input(i).zero_point for v in ctx.ranges[i]] for i in range(2)]
    products = [a * b for a in sides[0] for b in sides[1]]
    return min(products), max(products)
