"""From the definition of a requantisation to the cheapest integers that are proven equal to it.

A layer's accumulator lies in an interval that is known exactly, since its weights are. Over that interval the
map accumulator -> output is monotone, so a multiplier and a shift compute it everywhere when they compute it
on both sides of each step. Where no multiplier passes, the steps themselves become a table, if it is small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    TIES = "ties"
    """MUL64, then what is exactly a half is told by 32-bit arithmetic and moved to where the contract rounds it."""
    MUL128 = "mul128"
    """A multiplier of two words, high * 2**31 + low, and accumulators of two: four products, their high 66 bits."""
    TABLE = "table"
    """The number of thresholds that the accumulator has reached."""


_ARITHMETIC: dict[Method, Callable[..., Ints]] = {
    Method.DOUBLE: fp.multiply_double_rounding,
    Method.REDUCED: fp.multiply_reduced,
    Method.MUL32: fp.multiply_shift,
    Method.MUL64: fp.multiply_shift,
    Method.MUL96: fp.multiply_two_words,
    Method.TIES: fp.multiply_shift,
    Method.MUL128: fp.multiply_four_words,
}
_SPLIT = {Method.MUL96: 30, Method.MUL128: 31}
"""Bits of the low word of a multiplier of two."""

TABLE_BYTES = 4096
"""The largest table of steps that a layer may have."""


@dataclass(frozen=True, eq=False)
class Requant:
    """Integers that realise one requantisation per channel (or one for all channels).

    Attributes:
        method: the arithmetic; one for all channels of a layer.
        multiplier: int64 (channels,) or (1,).
        shift: int64 like multiplier. DOUBLE, REDUCED: TFLite's signed exponent, left when positive.
            MUL32, MUL64, MUL96, TIES, MUL128: the right shift, >= 0 (MUL96: > 30; MUL128: > 62).
        thresholds: TABLE only: int64 (channels, high - low), ascending; saturated into the int64 range.
        zero_point, low, high: added after scaling; the clip.
        wide: the accumulator is int64.
        bounds: what the accumulator is clipped to first, as far as the map's steps reach; None: it is not.
        halves: TIES only: what `fixedpoint.settle_ties` takes, int64 (channels, 2): 2 p and q of each scale p / q; 0
            and 1 where a channel has no halves.
        rounding: TIES only: where halves go.
    """

    method: Method
    multiplier: Ints
    shift: Ints
    zero_point: int
    low: int
    high: int
    thresholds: Ints | None = None
    wide: bool = False
    bounds: Interval | None = None
    halves: Ints | None = None
    rounding: Rounding = Rounding.HALF_UP

    @property
    def words(self) -> Ints:
        """What the device's arithmetic reads: int64 (channels, words), each an int32; none of a table."""
        if self.method is Method.TABLE:
            return np.zeros((self.channels, 0), np.int64)
        if self.method in _SPLIT:
            bits = _SPLIT[self.method]
            return np.stack([self.multiplier >> bits, self.multiplier & ((1 << bits) - 1), self.shift], axis=1)
        words = np.stack([self.multiplier, self.shift], axis=1)
        return words if self.halves is None else np.concatenate([words, self.halves], axis=1)

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
        if self.bounds is not None:
            acc = fp.saturate(acc, *self.bounds)
        if self.method is Method.TABLE:
            assert self.thresholds is not None
            out = np.empty_like(acc)
            if self.channels == 1:
                out = self.low + np.searchsorted(self.thresholds[0], acc, side="right")
            else:
                for c in range(self.channels):
                    out[..., c] = self.low + np.searchsorted(self.thresholds[c], acc[..., c], side="right")
            return np.moveaxis(out, -1, axis)
        scaled = _ARITHMETIC[self.method](acc, self.multiplier, self.shift)
        if self.halves is not None:
            scaled = fp.settle_ties(acc, scaled, self.halves[:, 0], self.halves[:, 1], self.rounding)
        return np.moveaxis(fp.saturate(scaled + self.zero_point, self.low, self.high), -1, axis)

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


def exact_requant(definitions: Sequence[AffineMap], intervals: Sequence[Interval], where: str) -> Requant:
    """Find the cheapest arithmetic proven equal to the definitions over the intervals.

    Args:
        definitions: one per channel, or one for all; they share zero_point, low, high and rounding.
        intervals: of the accumulators, as many as definitions.
        where: the node, for messages.

    Raises:
        ProofError: an accumulator may exceed 62 bits, or there is no such arithmetic but a large table.
    """
    if any(lo < -(2**62) or hi > 2**62 for lo, hi in intervals):
        raise ProofError(where, "an accumulator may exceed 62 bits", "use smaller weights or fewer inputs")
    first = definitions[0]
    wide = any(lo < fp.INT32_LOW or hi > fp.INT32_HIGH for lo, hi in intervals)
    bounds, found = None, None
    for bounds in _bounds(definitions, intervals, wide=wide):
        found = _cheapest(definitions, [_clipped(interval, bounds) for interval in intervals])
        if found is not None:
            break
    if found is None:
        return _table(definitions, where, wide=wide)
    method, pairs = found
    return Requant(
        method,
        np.array([m for m, _ in pairs], np.int64),
        np.array([s for _, s in pairs], np.int64),
        first.zero_point,
        first.low,
        first.high,
        wide=wide,
        bounds=bounds,
        halves=np.array([_halves(d) for d in definitions], np.int64) if method is Method.TIES else None,
        rounding=first.rounding,
    )


def _bounds(
    definitions: Sequence[AffineMap], intervals: Sequence[Interval], *, wide: bool
) -> Iterator[Interval | None]:
    """What to clip the accumulator to, the cheapest first: 64 bits to the steps' 32 at once, others if they must be."""
    lo, hi = min(lo for lo, _ in intervals), max(hi for _, hi in intervals)
    steps = [d.thresholds()[[0, -1]].tolist() for d in definitions if d.scale > 0 and d.high > d.low]
    first, last = min((t[0] - 1 for t in steps), default=0), max((t[1] for t in steps), default=0)
    bounds = max(lo, min(first, hi)), min(hi, max(last, lo))
    if wide and bounds[0] >= fp.INT32_LOW and bounds[1] <= fp.INT32_HIGH:
        yield bounds
    yield None
    yield bounds


def _clipped(interval: Interval, bounds: Interval | None) -> Interval:
    """What is left of an interval."""
    if bounds is None:
        return interval
    lo, hi = (min(max(end, bounds[0]), bounds[1]) for end in interval)
    return lo, hi


def _cheapest(
    definitions: Sequence[AffineMap], intervals: Sequence[Interval]
) -> tuple[Method, list[tuple[int, int]]] | None:
    """The first method that has a (multiplier, shift) for every channel."""
    found: dict[int, tuple[int, tuple[int, int]]] = {}
    level = 0
    while True:
        # Channels that are done at this level already; one that fails sends all of them to the next.
        todo = [c for c in range(len(definitions)) if c not in found or found[c][0] != level]
        if not todo:
            return _METHODS[level], [pair for _, (_, pair) in sorted(found.items())]
        for c in todo:
            pair = _search(definitions[c], intervals[c], _METHODS[level])
            while pair is None:
                level += 1
                if level == len(_METHODS):
                    return None
                pair = _search(definitions[c], intervals[c], _METHODS[level])
            found[c] = level, pair


def _table(definitions: Sequence[AffineMap], where: str, *, wide: bool) -> Requant:
    """The steps themselves, where they are few.

    Raises:
        ProofError: they are many.
    """
    first, channels = definitions[0], len(definitions)
    size = channels * (first.high - first.low) * (8 if wide else 4)
    if size > TABLE_BYTES:
        raise ProofError(
            where,
            f"no multiplier is proven for these scales, and a table of every step would take {size} bytes",
            "use scales whose ratio is not that of small whole numbers",
        )
    ones = np.ones(channels, np.int64)
    thresholds = np.stack([_thresholds(d) for d in definitions])
    return Requant(
        Method.TABLE, ones, 0 * ones, first.zero_point, first.low, first.high, thresholds=thresholds, wide=wide
    )


def _thresholds(definition: AffineMap) -> Ints:
    """The thresholds; those of a constant map lie beyond any accumulator."""
    if definition.scale <= 0:
        reached = definition.at(0) - definition.low
        ends = [-(2**63)] * reached + [2**63 - 1] * (definition.high - definition.low - reached)
        return np.array(ends, np.int64)
    return definition.thresholds()


def _steps(definition: AffineMap, interval: Interval, reach: int) -> Ints:
    """Return the accumulators to be tried: the interval's ends and so many on both sides of each step within it."""
    lo, hi = interval
    points = [p for d in range(reach) for p in (lo + d, hi - d) if lo <= p <= hi]
    if definition.scale > 0:
        first, last = definition.at(lo), definition.at(hi)
        ts = definition.thresholds()[first - definition.low : last - definition.low]
        beside = [ts + d for d in range(-reach, reach)]
        return np.sort(np.concatenate([points, *(v[(v > lo) & (v < hi)] for v in beside)]), kind="stable")
    return np.array(sorted(set(points)), np.int64)


def _halves(definition: AffineMap) -> tuple[int, int]:
    """What `fixedpoint.settle_ties` takes of a scale; (0, 1) where it has no halves, or none that 29 bits can tell."""
    scale = definition.scale
    if type(definition) is not AffineMap or scale.denominator % 2 or scale.denominator >= 2**29:
        return 0, 1
    return (2 * scale.numerator + 2**31) % 2**32 - 2**31, scale.denominator


def _search(definition: AffineMap, interval: Interval, method: Method) -> tuple[int, int] | None:
    """Return the first (multiplier, shift) of a method's candidates that passes at every point, or None.

    TIES: what is no half must be right without the settling, so the accumulators on both sides of a step are those
    that are no halves: two neighbours never are both.
    """
    candidates = _candidates(definition, max(abs(interval[0]), abs(interval[1]), 1), method)
    if not candidates:
        return None
    points = _steps(definition, interval, 2 if method is Method.TIES else 1)
    expected = definition.apply(points) - definition.zero_point
    low, high = definition.low - definition.zero_point, definition.high - definition.zero_point
    twice, divisor = _halves(definition)

    def arithmetic(acc: Ints, multiplier: int | Ints, shift: int | Ints) -> Ints:
        scaled = _ARITHMETIC[method](acc, multiplier, shift)
        if method is Method.TIES:
            scaled = fp.settle_ties(acc, scaled, twice, divisor, definition.rounding)
        return fp.saturate(scaled, low, high)

    # A few points, tried on all candidates at once, reject most.
    few = slice(None, None, max(len(points) // 128, 1))
    multipliers, shifts = (np.array(column, np.int64)[:, None] for column in zip(*candidates, strict=True))
    for i in np.flatnonzero((arithmetic(points[few], multipliers, shifts) == expected[few]).all(axis=1)):
        multiplier, shift = candidates[i]
        if np.array_equal(arithmetic(points, multiplier, shift), expected):
            return multiplier, shift
    return None


_METHODS = (Method.MUL32, Method.MUL64, Method.MUL96, Method.TIES, Method.MUL128)
"""The cheapest first."""
_SHIFTS = {
    Method.MUL32: range(31),
    Method.MUL64: range(61, -1, -1),
    Method.MUL96: range(90, 30, -1),
    Method.TIES: range(61, -1, -1),
    Method.MUL128: range(124, 62, -1),
}


def _candidates(definition: AffineMap, largest: int, method: Method) -> list[tuple[int, int]]:
    """The (multiplier, shift) pairs of a method, in the order in which they are wanted.

    MUL32: the smallest multiplier first, which is the cheapest. The others: the most precise that fit; with fewer
    bits than that, only luck would pass.
    """
    result: list[tuple[int, int]] = []
    for shift in _SHIFTS[method]:
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
    if method is Method.MUL128:
        # The middle word is below 2**62 + 2**61 + 2**31.
        return multiplier < 2**61
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
