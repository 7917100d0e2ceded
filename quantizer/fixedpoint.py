"""Integer arithmetic as the device does it: the only Python that multiplies, shifts, rounds and saturates.

Every function takes and returns numpy int64 arrays (or Python integers, where a value may need more bits)
and is exact: nothing is computed in floating point except `quantize_multiplier`, whose definition is.
Sources: gemmlowp `fixedpoint/fixedpoint.h`, TensorFlow Lite `kernels/internal/common.h`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

INT32_LOW = -(2**31)
INT32_HIGH = 2**31 - 1


def rational(value: float) -> Fraction:
    """Return the exact rational value of a binary32 (or binary64) number."""
    return Fraction(float(value))


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Split a positive real into (multiplier, shift): real ~ multiplier / 2**31 * 2**shift.

    The multiplier has 31 bits, rounded half away from zero. Source: TensorFlow Lite `QuantizeMultiplier`.
    """
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        return INT32_HIGH, 30
    return multiplier, shift


def saturate(value: Ints, low: int, high: int) -> Ints:
    """Clip to [low, high]."""
    return np.asarray(np.clip(value, low, high), np.int64)


def wrap_int32(value: Ints) -> Ints:
    """Reduce modulo 2**32 into the int32 range."""
    wrapped: Ints = (value + 2**31) % 2**32 - 2**31
    return wrapped


def saturating_rounding_doubling_high_mul(a: Ints, b: Ints | int) -> Ints:
    """Return round(a * b / 2**31), half towards +infinity, saturated (gemmlowp's SRDHM on int32)."""
    a = np.asarray(a, np.int64)
    return np.asarray(np.minimum((a * b + (1 << 30)) >> 31, INT32_HIGH), np.int64)


def rounding_divide_by_pot(value: Ints, exponent: Ints | int) -> Ints:
    """Return value / 2**exponent rounded half away from zero (gemmlowp's RoundingDivideByPOT)."""
    value = np.asarray(value, np.int64)
    mask = (np.int64(1) << np.asarray(exponent, np.int64)) - 1
    remainder = value & mask
    threshold = (mask >> 1) + (value < 0)
    return (value >> exponent) + (remainder > threshold)


def multiply_double_rounding(value: Ints, multiplier: Ints | int, shift: Ints | int) -> Ints:
    """Scale int32 by multiplier * 2**(shift - 31), rounding twice (TFLite's convolution, int8).

    The left shift wraps as int32 arithmetic on the device would.
    """
    shift = np.asarray(shift, np.int64)
    left = np.maximum(shift, 0)
    right = np.maximum(-shift, 0)
    shifted = wrap_int32(np.asarray(value, np.int64) << left)
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(shifted, multiplier), right)


def reduce_multiplier(multiplier: int) -> int:
    """Round a 31-bit multiplier to 16 bits (TFLite's int16x8 kernels)."""
    return (multiplier + (1 << 15)) >> 16 if multiplier < 0x7FFF0000 else 0x7FFF


def multiply_reduced(value: Ints, multiplier: Ints | int, shift: Ints | int) -> Ints:
    """Scale int48 by reduced multiplier * 2**(shift - 15), rounding once (TFLite's int16x8 kernels)."""
    total = 15 - np.asarray(shift, np.int64)
    product = np.asarray(value, np.int64) * np.asarray(multiplier, np.int64)
    return (product + (np.int64(1) << (total - 1))) >> total


def multiply_shift(value: Ints, multiplier: Ints | int, shift: Ints | int) -> Ints:
    """Return floor(value * multiplier / 2**shift + 1/2); shift 0 means no rounding."""
    shift = np.asarray(shift, np.int64)
    product = np.asarray(value, np.int64) * np.asarray(multiplier, np.int64)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    return (product + half) >> shift


def multiply_two_words(value: Ints, multiplier: int | Ints, shift: int | Ints) -> Ints:
    """Return floor(value * multiplier / 2**shift + 1/2) for multipliers up to 61 bits and shifts above 30.

    Exact, since floor((a * 2**30 + b) / 2**s) = floor((a + floor(b / 2**30)) / 2**(s - 30)).
    """
    value = np.asarray(value, np.int64)
    multiplier, shift = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    high, low = multiplier >> 30, multiplier & (2**30 - 1)
    total: Ints = (value * high + (value * low >> 30) + (np.int64(1) << (shift - 31))) >> (shift - 30)
    return total


def multiply_four_words(value: Ints, multiplier: int | Ints, shift: int | Ints) -> Ints:
    """Return floor(value * multiplier / 2**shift + 1/2) for 62-bit values, 61-bit multipliers and shifts above 62.

    Both are split at 31 bits; exact, since floors of floors are floors.
    """
    value = np.asarray(value, np.int64)
    multiplier, shift = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    mask = 2**31 - 1
    high, low = multiplier >> 31, multiplier & mask
    middle = (value >> 31) * low + (value & mask) * high + ((value & mask) * low >> 31)
    top = (value >> 31) * high + (middle >> 31)
    total: Ints = (top + (np.int64(1) << (shift - 62) >> 1)) >> (shift - 62)
    return total


def settle_ties(value: Ints, result: Ints, twice: Ints | int, divisor: Ints | int, rounding: Rounding) -> Ints:
    """Move results that a halfway value left on the wrong side of it.

    Args:
        value: what was scaled by p / divisor, a fraction in lowest terms.
        result: value * p / divisor rounded to nearest, halves either way.
        twice: 2 * p modulo 2**32, as int32.
        divisor: below 2**29.

    value * p / divisor - result is `rest` / (2 * divisor). As its size is below 2**31, 32 bits are enough to know it.
    """
    divisor = np.asarray(divisor, np.int64)
    rest = wrap_int32(wrap_int32(value) * twice - 2 * wrap_int32(result) * divisor)
    if rounding is Rounding.HALF_UP:
        return np.asarray(result + (rest == divisor), np.int64)
    return np.asarray(result + np.where(np.abs(rest) == divisor, (result & 1) * np.sign(rest), 0), np.int64)


class Rounding(StrEnum):
    """How a contract rounds a rational to an integer."""

    HALF_UP = "half-up"
    """floor(x + 1/2): contract `exact`."""
    HALF_EVEN = "half-even"
    """To nearest, ties to even: contract `onnx` (ONNX QuantizeLinear)."""


def round_rational(value: Fraction, rounding: Rounding) -> int:
    """Round a rational to an integer."""
    if rounding is Rounding.HALF_EVEN:
        return round(value)
    return math.floor(value + Fraction(1, 2))


@dataclass(frozen=True)
class AffineMap:
    """The definition of a requantisation: clip(round(acc * scale) + zero_point, low, high).

    Attributes:
        scale: exact rational; not negative.
        zero_point: added after rounding.
        low, high: the clip, fused activation included.
        rounding: of the contract.
    """

    scale: Fraction
    zero_point: int
    low: int
    high: int
    rounding: Rounding = Rounding.HALF_UP

    def at(self, acc: int) -> int:
        """Evaluate for one accumulator, in unbounded integers."""
        value = round_rational(acc * self.scale, self.rounding) + self.zero_point
        return min(max(value, self.low), self.high)

    def thresholds(self) -> Ints:
        """Return, for each output v in low+1 .. high, the smallest accumulator that maps to v or more.

        The map is monotone, so these integers are the map: at(acc) = low + number of thresholds <= acc.
        A threshold beyond int64, which is never reached, is saturated. A scale of zero gives none that can be
        reached and must be handled by the caller.

        Returns:
            int64 (high - low,), ascending, not writable.
        """
        return _thresholds(self)

    def apply(self, acc: Ints) -> Ints:
        """Evaluate exactly for an array of int64 accumulators."""
        acc = np.asarray(acc, np.int64)
        if self.scale == 0:
            return np.full(acc.shape, self.at(0), np.int64)
        # One rational evaluation costs as much as some 256 thresholds.
        if self.high - self.low > 256 * acc.size:
            return np.array([self.at(int(a)) for a in acc.ravel()], np.int64).reshape(acc.shape)
        return self.low + np.searchsorted(self.thresholds(), acc, side="right")


# A layer's channels each have a map, and each is asked several times; int16 maps are half a megabyte.
@lru_cache(maxsize=64)
def _thresholds(definition: AffineMap) -> Ints:
    count = definition.high - definition.low
    result = np.empty(count, np.int64)
    # round(x) >= k  <=>  x >= k - 1/2  <=>  acc >= (2 * k - 1) * denominator / (2 * numerator), the tie itself
    # counting for half-even only when k is even.
    first = definition.low + 1 - definition.zero_point
    bottom, step = 2 * definition.scale.numerator, 2 * definition.scale.denominator
    whole, part = divmod(step, bottom)
    even = definition.rounding is Rounding.HALF_EVEN
    fits = bottom < 2**54 and (abs(2 * first) + 2 * count) * step < bottom * 2**62
    # Within a block, j * part stays below 2**62.
    block = max(2**62 // bottom, 1) if fits else 1
    for start in range(0, count, block):
        size = min(block, count - start)
        quotient, remainder = divmod((2 * (first + start) - 1) * (step // 2), bottom)
        if not fits:
            tie = even and not remainder and (first + start) % 2
            result[start] = min(max(quotient + (remainder > 0 or bool(tie)), -(2**63)), 2**63 - 1)
            continue
        j = np.arange(size)
        rest = remainder + j * part
        ties = (rest % bottom == 0) & ((first + start + j) % 2 == 1)
        result[start : start + size] = quotient + j * whole - (-rest // bottom) + (ties if even else 0)
    result.flags.writeable = False
    return result


@dataclass(frozen=True)
class BinaryMap(AffineMap):
    """clip(round(acc * scale) + zero_point), the product in binary64 and halves rounded away from zero.

    `scale` must be a positive binary64 number, accumulators below 2**53. Source: LiteRT's reference FULLY_CONNECTED,
    which computes `round(static_cast<double>(acc) * effective_output_scale)`.
    """

    def _rounded(self, acc: NDArray[np.float64]) -> NDArray[np.float64]:
        product = acc * float(self.scale)
        whole = np.trunc(product)
        # The difference is exact, so that halves are told from what lies just below them.
        return whole + np.where(np.abs(product - whole) >= 0.5, np.sign(product), 0.0)

    def at(self, acc: int) -> int:
        return int(self.apply(np.array([acc], np.int64))[0])

    def thresholds(self) -> Ints:
        wanted = np.arange(self.low + 1, self.high + 1, dtype=np.float64) - self.zero_point
        # Beyond the accumulators that there can be, steps of one would be lost in binary64.
        least, most = -(2.0**53), 2.0**53
        found = np.clip(np.ceil((wanted - 0.5) / float(self.scale)), least, most)
        # The quotient is off by a few units at most; what the product says counts.
        while np.any(late := (found > least) & (self._rounded(found - 1) >= wanted)):
            found[late] -= 1
        while np.any(early := (found < most) & (self._rounded(found) < wanted)):
            found[early] += 1
        return found.astype(np.int64)

    def apply(self, acc: Ints) -> Ints:
        rounded = self._rounded(np.asarray(acc, np.int64).astype(np.float64)) + self.zero_point
        return np.asarray(np.clip(rounded, self.low, self.high), np.int64)


def binary32_scale(numerators: Sequence[float], denominator: float) -> float:
    """Return product(numerators) / denominator as LiteRT's kernels compute it: in binary32, from left to right."""
    product = np.float32(1)
    for value in numerators:
        product *= np.float32(value)
    return float(product / np.float32(denominator))
