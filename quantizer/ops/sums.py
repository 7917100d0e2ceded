"""Sums and differences of two scales, their arithmetic proven over every pair of 8-bit inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import ProofError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Contract, DType
from intaglio.quantizer.ops.base import Context
from intaglio.quantizer.ops.lines import SPLIT
from intaglio.quantizer.realmath import round_away
from intaglio.quantizer.requant import Interval

_NONE = 1 << 62


@dataclass(frozen=True)
class Plane:
    """(x * a + y * b + c) >> shift; the zero points and the rounding are in c.

    Attributes:
        bits: 32 or 64, of every intermediate.
        split: the coefficients are multiplied in two parts, as `lines.Lines` does: the sum of the low ones, shifted by
            10, joins that of the high ones.
        even: None; or the zero point of the output, and what was a half before c's rounding goes to the integer whose
            distance to it is even.
    """

    a: int
    b: int
    c: int
    shift: int
    bits: int
    split: bool = False
    even: int | None = None

    @property
    def words(self) -> list[int]:
        """What the 32-bit kernels read: a, b, c; split: their high parts, then their low ones."""
        whole = [self.a, self.b, self.c]
        return [w >> SPLIT for w in whole] + [w & ((1 << SPLIT) - 1) for w in whole] if self.split else whole

    @property
    def rest(self) -> int:
        """The shift after the parts are joined."""
        return self.shift - SPLIT if self.split else self.shift

    def apply(self, x: Ints, y: Ints) -> Ints:
        """Evaluate over int64 arrays that broadcast."""
        value = self.c + x * self.a + y * self.b
        result = value >> self.shift
        if self.even is None:
            return result
        half = (value & ((1 << self.shift) - 1)) == 0
        return np.asarray(result - (half.astype(np.int64) & (result - self.even)), np.int64)

    def fits(self, x: Interval, y: Interval) -> bool:
        """Whether nothing overflows for such inputs, summed in the order c, x, y, and the result has 32 bits."""
        room = 2 ** (self.bits - 1)
        words = self.words
        steps = list(words)
        reached = [0]
        for a, b, c in (words[3:], words[:3]) if self.split else (words,):
            first = [c + v * a for v in x]
            total = [f + v * b for f in first for v in y]
            steps += [v * a for v in x] + [v * b for v in y] + first + total
            # The low part is not monotone with the high one: every end meets every other.
            reached = [t + (low >> SPLIT) for t in total for low in reached]
            steps += reached
        return all(-room <= s < room for s in steps) and all(-(2**31) <= r >> self.rest < 2**31 for r in reached)


@dataclass(frozen=True)
class TfliteSum:
    """LiteRT's addition: both inputs brought to a common scale with headroom, summed, brought to the output's.

    Attributes:
        offsets: added to the inputs (minus their zero points).
        left_shift: bits of headroom.
        scales: (multiplier, shift) of x, of y and of the sum.
        sign: 1, or -1 for a difference.
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

    def apply(self, x: Ints, y: Ints) -> Ints:
        """Evaluate over int64 arrays that broadcast."""
        total = self.side(x, 0) + self.sign * self.side(y, 1)
        return fp.multiply_double_rounding(total, *self.scales[2]) + self.zero_point


@dataclass(frozen=True)
class SumParams:
    """form: what the device computes; low, high: the clip."""

    form: Plane | TfliteSum
    low: int
    high: int

    def apply(self, x: Ints, y: Ints) -> Ints:
        """Evaluate over int64 arrays that broadcast."""
        return fp.saturate(self.form.apply(x, y), self.low, self.high)


def lower_sum(ctx: Context, sign: int, clip: Interval) -> SumParams:
    """Lower x + sign * y.

    8-bit inputs: a plane in 32 bits, whole or in two parts, else in 64, that is proven over all pairs that the inputs
    can make; contract `tflite` has LiteRT's own steps to fall back on. int16: what defines the contract, `wide_plane`
    and `tflite_sum`.

    Raises:
        ProofError: no plane equals the definition (a tie that 64 bits do not decide).
    """
    if ctx.input(0).dtype is DType.INT16:
        return SumParams(tflite_sum(ctx, sign) if ctx.contract is Contract.TFLITE else wide_plane(ctx, sign), *clip)
    (x_low, x_high), (y_low, y_high) = ctx.ranges[0], ctx.ranges[1]
    x, y = np.arange(x_low, x_high + 1)[:, None], np.arange(y_low, y_high + 1)[None, :]
    expected = sum_of_pairs(ctx, sign, x, y, clip)
    for bits, split in ((32, False), (32, True), (64, False)):
        for plane in _planes(ctx, sign, bits, split=split):
            fitted = _fit(plane, x, y, expected, clip)
            if fitted is not None and fitted.fits(ctx.ranges[0], ctx.ranges[1]):
                return SumParams(fitted, *clip)
    if ctx.contract is Contract.TFLITE:
        return SumParams(tflite_sum(ctx, sign), *clip)
    for shift in range(1, 24):
        # Ratios that are multiples of a power of two make halves that the sum shows as such.
        plane = replace(_plane(ctx, sign, shift, 32), even=ctx.output.zero_point)
        if plane.fits(ctx.ranges[0], ctx.ranges[1]) and np.array_equal(fp.saturate(plane.apply(x, y), *clip), expected):
            return SumParams(plane, *clip)
    raise ProofError(str(ctx.node), "no 64-bit arithmetic gives the exact sums of these scales", "calibrate it anew")


def sum_of_pairs(ctx: Context, sign: int, x: Ints, y: Ints, clip: Interval) -> Ints:
    """The contract's definition for stored 8-bit integers that broadcast."""
    if ctx.contract is Contract.TFLITE:
        return fp.saturate(tflite_sum(ctx, sign).apply(x, y), *clip)
    first, second = ratios(ctx)
    unit = lcm(first.denominator, second.denominator)
    p, q = int(first * unit), sign * int(second * unit)
    small = (abs(p) + abs(q)) << 9 < 2**60 and unit < 2**60
    kind = np.int64 if small else object
    total = (x - ctx.input(0).zero_point).astype(kind) * p + (y - ctx.input(1).zero_point).astype(kind) * q
    rounded = (2 * total + unit) // (2 * unit)
    if ctx.contract is Contract.ONNX:
        tie = (2 * total + unit) % (2 * unit) == 0
        rounded = rounded - (tie & (rounded % 2 != 0))
    low, high = clip
    zero = ctx.output.zero_point
    return np.asarray(np.clip(rounded, low - zero, high - zero).astype(np.int64) + zero, np.int64)


def ratios(ctx: Context) -> tuple[Fraction, Fraction]:
    """The inputs' scales over the output's, exactly."""
    out = fp.rational(ctx.output.scale)
    return fp.rational(ctx.input(0).scale) / out, fp.rational(ctx.input(1).scale) / out


def _plane(ctx: Context, sign: int, shift: int, bits: int) -> Plane:
    """The nearest plane with so many fractional bits."""
    first, second = ratios(ctx)
    a, b = round(first * 2**shift), sign * round(second * 2**shift)
    zero = -a * ctx.input(0).zero_point - b * ctx.input(1).zero_point
    return Plane(a, b, zero + (ctx.output.zero_point << shift) + (1 << shift >> 1), shift, bits)


def wide_plane(ctx: Context, sign: int) -> Plane:
    """The definition for int16: coefficients of 32 bits, at most 30 fractional ones, summed in 64."""
    for shift in range(30, 0, -1):
        plane = _plane(ctx, sign, shift, 64)
        if max(abs(plane.a), abs(plane.b)) < 2**31 and plane.fits(*_whole(ctx)):
            return plane
    raise ProofError(str(ctx.node), "a scale is far above the output's: sums leave 32 bits", "calibrate it anew")


def _whole(ctx: Context) -> tuple[Interval, Interval]:
    """The types' ranges: the definition must not depend on what is known of the inputs."""
    first, second = ctx.input(0).dtype, ctx.input(1).dtype
    return (first.low, first.high), (second.low, second.high)


def _planes(ctx: Context, sign: int, bits: int, *, split: bool) -> Iterator[Plane]:
    """Planes near the real one, the finest shift that fits first."""
    nudges = sorted(((i, j) for i in range(-3, 4) for j in range(-3, 4)), key=lambda n: abs(n[0]) + abs(n[1]))
    tried = 0
    for shift in range(bits - 6 + SPLIT * split, SPLIT, -1):
        plane = replace(_plane(ctx, sign, shift, bits), split=split)
        if not plane.fits(ctx.ranges[0], ctx.ranges[1]):
            continue
        for i, j in nudges:
            yield replace(plane, a=plane.a + i, b=plane.b + j)
        tried += 1
        if tried == 2:
            return


def _fit(plane: Plane, x: Ints, y: Ints, expected: Ints, clip: Interval) -> Plane | None:
    """The plane with the c, if there is one, for which it equals `expected` at every pair.

    a * x + b * y + c must be at least expected << shift, except where the clip raises it, and below
    (expected + 1) << shift, except where the clip lowers it.
    """
    low, high = clip
    line = x * plane.a + y * plane.b
    start = (expected << plane.shift) - line
    least = int(np.max(start, where=expected > low, initial=-_NONE))
    most = int(np.min(start, where=expected < high, initial=_NONE - (1 << plane.shift))) + (1 << plane.shift) - 1
    if least > most:
        return None
    return replace(plane, c=min(max(plane.c, least), most))


def pot_shifts(ctx: Context) -> tuple[int, int] | None:
    """By how much LiteRT shifts the inputs to the right where it adds by shifts; None where it multiplies."""
    kinds = (ctx.input(0), ctx.input(1), ctx.output)
    chosen = ctx.contract is Contract.TFLITE and ctx.node.attrs.shifts and ctx.output.dtype is DType.INT16
    if not chosen or any(kind.zero_point for kind in kinds):
        return None
    # CheckedLog2 takes what is near a power of two for one.
    logarithms = np.log(np.array([kind.scale for kind in kinds], np.float32)) * (np.float32(1) / np.log(np.float32(2)))
    x, y, out = (int(v) for v in round_away(logarithms))
    if np.any(np.abs(logarithms - np.array([x, y, out], np.float32)) >= 1e-3):
        return None
    return out - x, out - y


def tflite_sum(ctx: Context, sign: int) -> TfliteSum:
    """LiteRT's parameters (`kernels/add.cc`, `sub.cc`)."""
    x, y, out = ctx.input(0), ctx.input(1), ctx.output
    shifts = pot_shifts(ctx)
    if shifts is not None:
        # 2**30 as a multiplier and one bit of headroom change nothing: what is left is the rounding shift.
        unit = 1 << 30
        return TfliteSum((0, 0), 1, ((unit, -shifts[0]), (unit, -shifts[1]), (unit, 1)), sign, 0)
    left_shift = 15 if x.dtype is DType.INT16 else 20
    twice = 2.0 * max(x.scale, y.scale)
    scales = (
        fp.quantize_multiplier(x.scale / twice),
        fp.quantize_multiplier(y.scale / twice),
        fp.quantize_multiplier(twice / ((1 << left_shift) * out.scale)),
    )
    return TfliteSum((-x.zero_point, -y.zero_point), left_shift, scales, sign, out.zero_point)
