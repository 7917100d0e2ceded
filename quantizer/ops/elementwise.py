"""What elementwise operators of two inputs share: broadcasting, and sums of two scales proven over all pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, limit
from intaglio.quantizer.ops.build import quantised, single


@dataclass(frozen=True)
class ClampAttrs(Attrs):
    """clamp: the fused activation."""

    clamp: acc.Clamp = acc.NO_CLAMP


def broadcast(node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
    """The shape rule: numpy's broadcasting.

    Raises:
        UnsupportedError: the shapes do not broadcast.
    """
    shapes = [t.shape for t in inputs if t is not None]
    try:
        return (tuple(int(n) for n in np.broadcast_shapes(*shapes)),)
    except ValueError:
        listed = " and ".join(str(list(s)) for s in shapes)
        raise UnsupportedError(str(node), f"shapes {listed} do not broadcast", "re-export the model") from None


@dataclass(frozen=True)
class Loop:
    """One loop of a broadcast kernel: extent, and the strides of the inputs in elements (0: repeated)."""

    extent: int
    strides: tuple[int, ...]


def loops(kernel: Kernel) -> list[Loop]:
    """The fewest nested loops that walk the output in order, outermost first."""
    rank = len(kernel.y.shape)
    shapes = [(1,) * (rank - len(t.shape)) + t.shape for t in kernel.inputs if t is not None]
    result: list[Loop] = []
    steps = [1] * len(shapes)
    for axis in reversed(range(rank)):
        extent = kernel.y.shape[axis]
        if extent == 1:
            continue
        strides = tuple(step if s[axis] > 1 else 0 for step, s in zip(steps, shapes, strict=True))
        if result and all(
            inner * result[0].extent == outer for inner, outer in zip(result[0].strides, strides, strict=True)
        ):
            result[0] = Loop(result[0].extent * extent, result[0].strides)
        else:
            result.insert(0, Loop(extent, strides))
        steps = [step * s[axis] for step, s in zip(steps, shapes, strict=True)]
    return result or [Loop(1, (1,) * len(shapes))]


class BinaryLimits:
    """The limits that elementwise operators of two inputs share."""

    @limit
    def types(self, ctx: Context) -> bool:
        """Inputs and output are all int8, all uint8 or all int16."""
        kinds = {ctx.input(0).dtype, ctx.input(1).dtype, ctx.output.dtype}
        return len(kinds) == 1 and kinds.pop() in (DType.INT8, DType.UINT8, DType.INT16)

    @limit
    def quantised(self, ctx: Context) -> bool:
        """Inputs and output are quantised per tensor."""
        kinds = (ctx.input(0), ctx.input(1), ctx.output)
        return all(t.qparams is not None and len(t.qparams.scale) == 1 for t in kinds)


@dataclass(frozen=True)
class Linear:
    """out = clip((x * a + y * b + c) >> shift, low, high), in 32 or 64 bits.

    Attributes:
        a, b, c: integers; the zero points and the rounding are in c.
        shift: to the right.
    """

    a: int
    b: int
    c: int
    shift: int

    def apply(self, x: Ints, y: Ints, low: int, high: int) -> Ints:
        """Evaluate over int64 arrays that broadcast."""
        return fp.saturate((x * self.a + y * self.b + self.c) >> self.shift, low, high)

    def bits(self, size: int) -> int:
        """Bits of the largest magnitude that an intermediate takes for inputs up to `size`."""
        return (size * (abs(self.a) + abs(self.b)) + abs(self.c)).bit_length()


@dataclass(frozen=True)
class TfliteSum:
    """TFLite's addition: both inputs scaled to a common scale with headroom, summed, scaled to the output's.

    Attributes:
        offsets: added to the inputs (minus their zero points); left_shift: bits of headroom.
        scales: (multiplier, shift) of x, of y (negated multiplier: subtracted) and of the sum.
        zero_point: of the output.
    """

    offsets: tuple[int, int]
    left_shift: int
    scales: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    sign: int
    zero_point: int

    def side(self, value: Ints, index: int) -> Ints:
        """An input on the common scale."""
        multiplier, shift = self.scales[index]
        return fp.multiply_double_rounding((value + self.offsets[index]) << self.left_shift, multiplier, shift)

    def apply(self, x: Ints, y: Ints, low: int, high: int) -> Ints:
        """Evaluate over int64 arrays that broadcast."""
        total = self.side(x, 0) + self.sign * self.side(y, 1)
        return fp.saturate(fp.multiply_double_rounding(total, *self.scales[2]) + self.zero_point, low, high)


@dataclass(frozen=True)
class SumParams:
    """A sum or difference of two scales.

    Attributes:
        definition: the arithmetic that defines the integers.
        narrow: 32-bit arithmetic proven equal to it over every pair of inputs; None when there is none.
        wide: the same with 64-bit products.
        low, high: the clip.
    """

    definition: Linear | TfliteSum
    narrow: Linear | None
    wide: Linear | None
    low: int
    high: int


def lower_sum(ctx: Context, sign: int) -> SumParams:
    """Lower x + sign * y.

    8-bit inputs: the arithmetic is proven over all 65,536 pairs. 16-bit: contract `tflite` as LiteRT computes it;
    the others by a linear form whose coefficients have 44 fractional bits (docs/numerics.md bounds its error).
    """
    low, high = ctx.node.attrs.clamp.integers(ctx.output, ctx.contract)
    if ctx.input(0).dtype is DType.INT16:
        definition = tflite_sum(ctx, sign) if ctx.contract is Contract.TFLITE else linear(ctx, sign, 44)
        return SumParams(definition, None, definition if isinstance(definition, Linear) else None, low, high)
    expected = pairs_table(ctx, sign)
    narrow = next(
        (f for f in _candidates(ctx, sign, range(23, 7, -1), 31) if _equal(ctx, f, expected, low, high)), None
    )
    wide = next((f for f in _candidates(ctx, sign, (32, 36, 40, 28), 63) if _equal(ctx, f, expected, low, high)), None)
    if ctx.contract is Contract.TFLITE:
        return SumParams(tflite_sum(ctx, sign), narrow, wide, low, high)
    best = narrow or wide
    if best is None:
        best = _finest(ctx, sign, expected, low, high)
    return SumParams(best, narrow, wide or best, low, high)


def _all_pairs(ctx: Context) -> tuple[Ints, Ints]:
    kind = ctx.input(0).dtype
    values = np.arange(kind.low, kind.high + 1, dtype=np.int64)
    return values[:, None], values[None, :]


def pairs_table(ctx: Context, sign: int) -> Ints:
    """The definition over all pairs of 8-bit inputs: int64 (256, 256)."""
    x, y = _all_pairs(ctx)
    low, high = ctx.node.attrs.clamp.integers(ctx.output, ctx.contract)
    if ctx.contract is Contract.TFLITE:
        return tflite_sum(ctx, sign).apply(x, y, low, high)
    return exact_sum(ctx, sign, x, y)


def exact_sum(ctx: Context, sign: int, x: Ints, y: Ints) -> Ints:
    """x * s_x + sign * y * s_y over s_out in exact arithmetic, rounded by the contract and clipped."""
    first, second = ratios(ctx)
    denominator = first.denominator * second.denominator
    p = first.numerator * second.denominator
    q = sign * second.numerator * first.denominator
    total = (x - ctx.input(0).zero_point).astype(object) * p + (y - ctx.input(1).zero_point).astype(object) * q
    rounded = (2 * total + denominator) // (2 * denominator)
    if ctx.contract is Contract.ONNX:
        tie = (2 * total + denominator) % (2 * denominator) == 0
        rounded = rounded - (tie & (rounded % 2 != 0))
    low, high = ctx.node.attrs.clamp.integers(ctx.output, ctx.contract)
    return np.clip(rounded + ctx.output.zero_point, low, high).astype(np.int64)


def ratios(ctx: Context) -> tuple[Fraction, Fraction]:
    """The inputs' scales over the output's, exactly."""
    out = fp.rational(ctx.output.scale)
    return fp.rational(ctx.input(0).scale) / out, fp.rational(ctx.input(1).scale) / out


def linear(ctx: Context, sign: int, shift: int) -> Linear:
    """The linear form with so many fractional bits."""
    first, second = ratios(ctx)
    a, b = round(first * 2**shift), sign * round(second * 2**shift)
    zero = -a * ctx.input(0).zero_point - b * ctx.input(1).zero_point
    return Linear(a, b, zero + (ctx.output.zero_point << shift) + (1 << shift >> 1), shift)


def _candidates(ctx: Context, sign: int, shifts: Sequence[int], room: int, coefficient: int = 31) -> Iterator[Linear]:
    size = max(-ctx.input(0).dtype.low, ctx.input(0).dtype.high)
    for shift in shifts:
        base = linear(ctx, sign, shift)
        for nudge in (0, -1, 1, -(1 << shift >> 10), 1 << shift >> 10):
            form = Linear(base.a, base.b, base.c + nudge, shift)
            if form.bits(size) <= room and max(abs(form.a), abs(form.b)) < 2**coefficient:
                yield form


def _equal(ctx: Context, form: Linear, expected: Ints, low: int, high: int) -> bool:
    x, y = _all_pairs(ctx)
    return bool(np.array_equal(form.apply(x, y, low, high), expected))


def _finest(ctx: Context, sign: int, expected: Ints, low: int, high: int) -> Linear:
    """The finest form that 64 bits hold; it is proven like the others.

    Raises:
        UnsupportedError: even that differs somewhere (a tie that only exact rationals decide).
    """
    for form in _candidates(ctx, sign, range(52, 40, -1), 63, 54):
        if _equal(ctx, form, expected, low, high):
            return form
    raise UnsupportedError(
        str(ctx.node), "no 64-bit arithmetic gives the exact sums of these scales", "calibrate with other data"
    )


def tflite_sum(ctx: Context, sign: int) -> TfliteSum:
    """TFLite's parameters (`kernels/add.cc`, `sub.cc`)."""
    x, y, out = ctx.input(0), ctx.input(1), ctx.output
    left_shift = 15 if x.dtype is DType.INT16 else 20
    twice = 2.0 * max(x.scale, y.scale)
    scales = (
        fp.quantize_multiplier(x.scale / twice),
        fp.quantize_multiplier(y.scale / twice),
        fp.quantize_multiplier(twice / ((1 << left_shift) * out.scale)),
    )
    return TfliteSum((-x.zero_point, -y.zero_point), left_shift, scales, sign, out.zero_point)


def binary_examples(op: str, attrs: Any, *, out_scale: float = 0.06) -> Iterator[Graph]:
    """Broadcast shapes, dtypes, contracts and a constant operand."""
    rng = np.random.default_rng(5)
    shapes = [((1, 4, 3, 5), (1, 4, 3, 5)), ((1, 4, 3, 5), (5,)), ((1, 1, 3, 1), (1, 4, 3, 5)), ((1, 6), (1, 1))]
    for dtype in ("int8", "int16"):
        wide = dtype == "int16"
        for i, (left, right) in enumerate(shapes):
            for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
                x = quantised(dtype, left, 0.0003 if wide else 0.041, 0 if wide else -5)
                y = quantised(dtype, right, 0.0002 if wide else 0.067, 0 if wide else 9)
                out = (dtype, out_scale / 150 if wide else out_scale, 0 if wide else 3)
                operand: Any = y
                if i == 1:
                    operand = (y, rng.integers(y.dtype.low, y.dtype.high, right, endpoint=True))
                yield single(op, attrs, [x, operand], [out], contract)
