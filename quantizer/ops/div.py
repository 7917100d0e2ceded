"""Div: a tensor over constants, one or one per channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedexp import reciprocal
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Contract, DType, Graph
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops.base import Context, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Requant, exact_requant, product_scale


@dataclass(frozen=True)
class DivAttrs(ew.ClampAttrs):
    """clamp: the fused activation."""


@dataclass(frozen=True, eq=False)
class DivParams:
    """int16: zero_point of x; signs of the divisors, int64 (channels,); requant of (x - zero_point) * sign."""

    zero_point: int
    signs: Ints
    requant: Requant

    def apply(self, x: Ints, y: Ints) -> Ints:
        """Evaluate; y is in the parameters."""
        value = (x - self.zero_point) * self.signs
        return self.requant.apply(value) if len(self.signs) > 1 else self.requant.apply(value[..., None])[..., 0]


def headroom(value: Ints) -> Ints:
    """By how many bits int32 values can be shifted to the left."""
    width = np.frompyfunc(lambda v: (int(v) if v >= 0 else -int(v) - 1).bit_length(), 1, 1)(value)
    return np.asarray(31 - width, object).astype(np.int64)


@register
class Div(ew.BinaryOperator[DivAttrs]):
    """Inputs: x (..., C), constant divisors of C elements or one. Output: of x's shape."""

    name = "Div"
    attrs = DivAttrs
    constant_only = True
    variants = (*ew.BinaryOperator.variants, Variant("portable", "div.c.j2", lead=elementwise_lead))

    @limit
    def divisors(self, ctx: Context) -> bool:
        """The divisors are constant, not zero, and one in all or one per channel of the last axis."""
        x, y = ctx.input(0), ctx.input(1)
        if 1 not in ctx.constants or ctx.output.shape != x.shape:
            return False
        per_channel = bool(x.shape) and y.elements == x.shape[-1] == (y.shape or (1,))[-1]
        return (y.elements == 1 or per_channel) and bool(np.all(ctx.integers(1) != y.zero_point))

    @limit
    def litert_types(self, ctx: Context) -> bool:
        """In contract tflite, the types are of 8 bits; LiteRT's division of int16 is not covered."""
        return ctx.contract is not Contract.TFLITE or ctx.input(0).dtype is not DType.INT16

    @limit
    def litert_shifts(self, ctx: Context) -> bool:
        """In contract tflite, no shift of LiteRT's is above 31 or below 0 for these scales: C does not define that."""
        if ctx.contract is not Contract.TFLITE or 1 not in ctx.constants:
            return True
        values = ew.every_value(ctx.input(0)) - ctx.input(0).zero_point
        shifts = [
            over + headroom(values) - self._multiplier(ctx)[1]
            for over in {int(d).bit_length() - 1 for d in np.abs(ctx.integers(1) - ctx.input(1).zero_point).ravel()}
        ]
        return all(bool(np.all((s >= 0) & (s <= 31))) for s in shifts)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, y = inputs
        assert x is not None and y is not None
        return [ctx.node.attrs.clamp.apply(x / y)]

    def slopes(self, ctx: Context, operand: int, constants: Ints) -> list[float] | None:
        unit = float(product_scale((ctx.input(0).scale,), (ctx.input(1).scale, ctx.output.scale)))
        return [unit / int(d) for d in constants - ctx.input(1).zero_point]

    def meaning(self, ctx: Context, x: Ints, y: Ints) -> Ints:
        value, divisor = np.broadcast_arrays(x - ctx.input(0).zero_point, y - ctx.input(1).zero_point)
        result = np.empty(value.shape, np.int64)
        for d in np.unique(divisor):
            there = divisor == d
            if ctx.contract is Contract.TFLITE:
                result[there] = self._litert(ctx, value[there], int(d))
            else:
                result[there] = self._map(ctx, int(d)).apply(value[there] * np.sign(d))
        return result

    def _map(self, ctx: Context, divisor: int) -> AffineMap:
        ratio = product_scale((ctx.input(0).scale,), (ctx.input(1).scale, ctx.output.scale))
        return AffineMap(
            ratio * Fraction(1, abs(divisor)), ctx.output.zero_point, *self.clip(ctx), acc.rounding(ctx.contract)
        )

    def _litert(self, ctx: Context, value: Ints, divisor: int) -> Ints:
        """LiteRT's steps (`kernels/internal/reference/div.h`): a reciprocal in Q0.31, then two multiplications."""
        out = ctx.output
        multiplier, shift = self._multiplier(ctx)
        inverse, over = reciprocal(abs(divisor), 31)
        value = value * np.sign(divisor)
        left = headroom(value)
        quotient = fp.saturating_rounding_doubling_high_mul(value << left, inverse)
        scaled = fp.saturating_rounding_doubling_high_mul(quotient, multiplier)
        rounded = fp.rounding_divide_by_pot(scaled, over + left - shift)
        return fp.saturate(rounded + out.zero_point, *self.clip(ctx))

    def _multiplier(self, ctx: Context) -> tuple[int, int]:
        """LiteRT divides the scales in binary32."""
        x, y, out = ctx.input(0), ctx.input(1), ctx.output
        return fp.quantize_multiplier(float(np.float32(x.scale) / (np.float32(y.scale) * np.float32(out.scale))))

    def lower_pair(self, ctx: Context) -> DivParams:
        divisors = ctx.integers(1).ravel() - ctx.input(1).zero_point
        maps = [self._map(ctx, int(d)) for d in divisors]
        zero = ctx.input(0).zero_point
        size = max(abs(v - zero) for v in ctx.ranges[0])
        requant = exact_requant(maps, [(-size, size)] * len(maps), str(ctx.node))
        return DivParams(zero, np.sign(divisors), requant)

    def examples(self) -> Iterator[Graph]:
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for dtype, scale, zero in ((DType.INT8, 0.05, 7), (DType.INT16, 0.0004, 0)):
                for values in ([40, -90, 3], [55]):
                    if contract is Contract.TFLITE and dtype is DType.INT16:
                        continue
                    divisor = (quantised(dtype, (len(values),), 0.02, 0), np.array(values))
                    x = quantised(dtype, (1, 4, 3), scale, zero)
                    out = (dtype, scale / 3 if contract is Contract.TFLITE else scale * 2, zero)
                    yield single(self.name, DivAttrs(), [x, divisor], [out], contract)
