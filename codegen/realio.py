"""The header's helpers between real numbers and a tensor's integers: their constants.

A real number is an int32 in Q16.16: times 2**16. Both directions round to the nearest, halves upwards, and saturate;
the quotient of the exact rationals is taken, so nothing is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from intaglio.quantizer.fixedpoint import INT32_HIGH, INT32_LOW, rational
from intaglio.quantizer.ir import DType, TensorType

_KINDS = (DType.INT8, DType.UINT8, DType.INT16)
_SCALES = (2.0**-32, 2.0**15)
"""Outside of these, Q16.16 says nothing of the tensor's integers, and 64 bits do not hold the products."""


@dataclass(frozen=True)
class Quantise:
    """(real * factor + offset) / divisor + low: the numerator is never negative where it is computed.

    Attributes:
        first, last: from `first` downwards every real gives the smallest integer, from `last` upwards the largest; None
            where no int32 does.
        low, high: the integers of the type.
    """

    factor: int
    offset: int
    divisor: int
    first: int | None
    last: int | None
    low: int
    high: int


@dataclass(frozen=True)
class Dequantise:
    """((integer - zero_point) * factor + 2**(shift - 1)) >> shift; saturated where it can leave int32."""

    zero_point: int
    factor: int
    shift: int
    saturates: bool


def _scale(kind: TensorType) -> Fraction | None:
    if kind.qparams is None or kind.dtype not in _KINDS or not _SCALES[0] <= kind.scale <= _SCALES[1]:
        return None
    return rational(kind.scale) * 2**16


def quantise(kind: TensorType) -> Quantise | None:
    """The helper of an input; None for a tensor without a scale that Q16.16 suits."""
    step = _scale(kind)
    if step is None:
        return None
    low, high, zero = kind.dtype.low, kind.dtype.high, kind.zero_point
    factor, divisor = 2 * step.denominator, 2 * step.numerator
    half = Fraction(1, 2)
    first, last = ceil((low - zero + half) * step) - 1, ceil((high - zero - half) * step)
    return Quantise(
        factor,
        step.numerator + divisor * (zero - low),
        divisor,
        first if first >= INT32_LOW else None,
        last if last <= INT32_HIGH else None,
        low,
        high,
    )


def dequantise(kind: TensorType) -> Dequantise | None:
    """The helper of an output; None for a tensor without a scale that Q16.16 suits."""
    step = _scale(kind)
    if step is None:
        return None
    ends = [(q - kind.zero_point) * step for q in (kind.dtype.low, kind.dtype.high)]
    saturates = min(ends) < INT32_LOW or max(ends) >= INT32_HIGH
    return Dequantise(kind.zero_point, step.numerator, step.denominator.bit_length() - 1, saturates)
