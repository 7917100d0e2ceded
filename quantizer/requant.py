"""From the definition of a requantisation to the cheapest integers that are proven equal to it.

A layer's accumulator lies in an interval that is known exactly, since its weights are. Over that interval the
map accumulator -> output is monotone, so a multiplier and a shift compute it everywhere when they compute it
on both sides of each step. Where no multiplier passes, the steps themselves become a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import ProofError
from intaglio.quantizer.fixedpoint import AffineMap, Ints, Rounding

Interval = tuple[int, int]


class Method(StrEnum):
    """How the device maps an accumulator to an output before adding the zero point and clipping."""

    DOUBLE = "double"
    """TFLite: doubling high multiply, then a rounding shift: two roundings."""
    REDUCED = "reduced"
    """TFLite int16x8: 16-bit multiplier, one rounding, 64-bit accumulator."""
    MUL32 = "mul32"
    """(acc * multiplier + half) >> shift, proven, every intermediate within int32."""
    MUL64 = "mul64"
    """The same with a 64-bit product."""
    MUL96 = "mul96"
    """A multiplier of two words, high * 2**30 + low: (acc * high + (acc * low >> 30) + half) >> (shift - 30)."""
    TABLE = "table"
    """The number of thresholds that the accumulator has reached."""


@dataclass(frozen=True, eq=False)
class Requant:
    """Integers that realise one requantisation per channel (or one for all channels).

    Attributes:
        method: the arithmetic; one for all channels of a layer.
        multiplier: int64 (channels,) or (1,).
        shift: int64 like multiplier. DOUBLE, REDUCED: TFLite's signed exponent, left when positive.
            MUL32, MUL64, MUL96: the right shift, >= 0 (MUL96: > 30).
        thresholds: TABLE only: int64 (channels, high - low), ascending; saturated into the int64 range.
        zero_point, low, high: added after scaling; the clip.
        wide: the accumulator is int64.
    """

    method: Method
    multiplier: Ints
    shift: Ints
    zero_point: int
    low: int
    high: int
    thresholds: Ints | None = None
    wide: bool = False

    @property
    def channels(self) -> int:
        """Number of channels with parameters of their own; 1 when they share them."""
        return len(self.multiplier)

    def apply(self, acc: Ints, axis: int = -1) -> Ints:
        """Map accumulators to outputs with the arithmetic of the device.

        Args:
            acc: int64, any shape; its `axis` runs over the channels.
        """
        acc = np.moveaxis(np.asarray(acc, np.int64), axis, -1)
        if self.method is Method.TABLE:
            assert self.thresholds is not None
            out = np.empty_like(acc)
            if self.channels == 1:
                out = self.low + np.searchsorted(self.thresholds[0], acc, side="right")
            else:
                for c in range(self.channels):
                    out[..., c] = self.low + np.searchsorted(self.thresholds[c], acc[..., c], side="right")
            return np.moveaxis(out, -1, axis)
        arithmetic = {
            Method.DOUBLE: fp.multiply_double_rounding,
            Method.REDUCED: fp.multiply_reduced,
            Method.MUL32: fp.multiply_shift,
            Method.MUL64: fp.multiply_shift,
            Method.MUL96: fp.multiply_two_words,
        }[self.method]
        scaled = arithmetic(acc, self.multiplier, self.shift) + self.zero_point
        return np.moveaxis(fp.saturate(scaled, self.low, self.high), -1, axis)

    def range(self, intervals: Sequence[Interval]) -> Interval:
        """The smallest and largest output over the channels' accumulator intervals (the map is monotone)."""
        ends = np.array(intervals, np.int64)
        values = self.apply(ends.T)
        return int(values.min()), int(values.max())


def tflite_requant(
    scales: Sequence[float], zero_point: int, low: int, high: int, method: Method, *, wide: bool = False
) -> Requant:
    """Build the requantisation that LiteRT's reference kernels compute.

    Args:
        scales: binary64 effective scales as LiteRT computes them, one per channel or one.
        method: DOUBLE or REDUCED.
        wide: the accumulator is int64.
    """
    pairs = [fp.quantize_multiplier(scale) for scale in scales]
    multipliers = [fp.reduce_multiplier(m) if method is Method.REDUCED else m for m, _ in pairs]
    return Requant(
        method,
        np.array(multipliers, np.int64),
        np.array([s for _, s in pairs], np.int64),
        zero_point,
        low,
        high,
        wide=wide,
    )


def exact_requant(
    definitions: Sequence[AffineMap], intervals: Sequence[Interval], where: str, *, long_multiply: bool = True
) -> Requant:
    """Find the cheapest arithmetic proven equal to the definitions over the intervals.

    Args:
        definitions: one per channel, or one for all; they share zero_point, low, high and rounding.
        intervals: of the accumulators, as many as definitions.
        where: the node, for messages.
        long_multiply: whether a 64-bit product is cheap enough to be tried before a table.

    Raises:
        ProofError: an accumulator may exceed int64.
    """
    if any(lo < -(2**62) or hi > 2**62 for lo, hi in intervals):
        raise ProofError(where, "an accumulator may exceed 62 bits", "use smaller weights or fewer inputs")
    first = definitions[0]
    wide = any(lo < fp.INT32_LOW or hi > fp.INT32_HIGH for lo, hi in intervals)
    methods = ([] if wide else [Method.MUL32]) + ([Method.MUL64, Method.MUL96] if long_multiply else [])
    level = 0
    found: dict[int, tuple[int, tuple[int, int]]] = {}
    while level < len(methods):
        # Channels that are done at this level already; one that fails sends all of them to the next.
        todo = [c for c in range(len(definitions)) if c not in found or found[c][0] != level]
        if not todo:
            pairs = [pair for _, (_, pair) in sorted(found.items())]
            return Requant(
                methods[level],
                np.array([m for m, _ in pairs], np.int64),
                np.array([s for _, s in pairs], np.int64),
                first.zero_point,
                first.low,
                first.high,
                wide=wide,
            )
        for c in todo:
            steps = _steps(definitions[c], intervals[c])
            pair = None
            while level < len(methods) and pair is None:
                pair = _search(definitions[c], intervals[c], steps, methods[level])
                level += pair is None
            if pair is None:
                break
            found[c] = level, pair
    ones = np.ones(len(definitions), np.int64)
    table = np.stack([_table(d) for d in definitions])
    return Requant(Method.TABLE, ones, 0 * ones, first.zero_point, first.low, first.high, thresholds=table, wide=wide)


def _table(definition: AffineMap) -> Ints:
    if definition.scale == 0:
        reached = definition.at(0) - definition.low
        ends = [-(2**63)] * reached + [2**63 - 1] * (definition.high - definition.low - reached)
        return np.array(ends, np.int64)
    return definition.thresholds()


def _steps(definition: AffineMap, interval: Interval) -> Ints:
    """Return the accumulators to be tried: the interval's ends and both sides of each step within it."""
    lo, hi = interval
    points = [lo, hi]
    if definition.scale > 0:
        first, last = definition.at(lo), definition.at(hi)
        ts = definition.thresholds()[first - definition.low : last - definition.low]
        return np.sort(np.concatenate([points, ts, ts[ts > lo] - 1]), kind="stable")
    return np.array(sorted(set(points)), np.int64)


def _search(definition: AffineMap, interval: Interval, points: Ints, method: Method) -> tuple[int, int] | None:
    """Return the first (multiplier, shift) of a method's candidates that passes at every point, or None."""
    candidates = _candidates(definition, max(abs(interval[0]), abs(interval[1]), 1), method)
    if not candidates:
        return None
    expected = definition.apply(points) - definition.zero_point
    low, high = definition.low - definition.zero_point, definition.high - definition.zero_point
    arithmetic = fp.multiply_two_words if method is Method.MUL96 else fp.multiply_shift
    # A few points, tried on all candidates at once, reject most.
    few = slice(None, None, max(len(points) // 128, 1))
    multipliers, shifts = (np.array(column, np.int64)[:, None] for column in zip(*candidates, strict=True))
    tried = np.clip(arithmetic(points[few], multipliers, shifts), low, high)
    for i in np.flatnonzero((tried == expected[few]).all(axis=1)):
        multiplier, shift = candidates[i]
        if np.array_equal(np.clip(arithmetic(points, multiplier, shift), low, high), expected):
            return multiplier, shift
    return None


def _candidates(definition: AffineMap, largest: int, method: Method) -> list[tuple[int, int]]:
    """The (multiplier, shift) pairs of a method, in the order in which they are wanted.

    MUL32: the smallest multiplier first, which is the cheapest. The others: the most precise that fit; with fewer
    bits than that, only luck would pass.
    """
    shifts = {Method.MUL32: range(31), Method.MUL64: range(61, -1, -1), Method.MUL96: range(90, 30, -1)}[method]
    result: list[tuple[int, int]] = []
    for shift in shifts:
        nearest = round(definition.scale * 2**shift)
        fitting = [(m, shift) for m in (nearest, nearest + 1, nearest - 1) if _fits(largest, m, shift, method)]
        result += fitting
        if method is not Method.MUL32 and len(result) > 6:
            break
    return result


def _fits(largest: int, multiplier: int, shift: int, method: Method) -> bool:
    """Whether no intermediate of the device's arithmetic overflows for accumulators up to `largest`."""
    # The scaled value is an int32 to which the zero point, of 16 bits at most, is added before the clip.
    if multiplier < 0 or largest * multiplier >> shift >= 2**31 - 2**16:
        return False
    if method is Method.MUL96:
        high = multiplier >> 30
        return high < 2**31 and largest < 2**32 and largest * (high + 1) + (1 << (shift - 31)) < 2**63
    room = 31 if method is Method.MUL32 else 63
    return multiplier < 2**31 and largest * multiplier + (1 << shift >> 1) < 2**room


def lifted(definition: AffineMap, interval: Interval) -> tuple[AffineMap, int]:
    """Move a division by a whole number to accumulators that are not negative.

    Halves of both signs round upwards, which no inexact multiplier does; of non-negative accumulators alone a
    slightly large one does.

    Returns:
        (a map, an integer) such that the map of accumulator + integer is the definition of the accumulator; the
        definition itself and 0 where that gains nothing.
    """
    divisor = definition.scale.denominator
    # An odd divisor leaves no halves; a power of two is exact; halves to even go both ways wherever they lie.
    useless = divisor % 2 or divisor & (divisor - 1) == 0 or definition.rounding is Rounding.HALF_EVEN
    if definition.scale.numerator != 1 or useless or interval[0] >= 0:
        return definition, 0
    steps = -(interval[0] // divisor)
    return replace(definition, zero_point=definition.zero_point - steps), steps * divisor


def product_scale(numerators: Sequence[float], denominators: Sequence[float]) -> Fraction:
    """Return the exact rational product(numerators) / product(denominators) of binary32 scales."""
    result = Fraction(1)
    for value in numerators:
        result *= fp.rational(value)
    for value in denominators:
        result /= fp.rational(value)
    return result
