"""exp and 1/(1+x) in fixed point, as gemmlowp's `fixedpoint.h` defines them (Q0.31 and Q5.26 on int32).

All functions take and return int64 arrays that hold int32 raw values.
"""

from __future__ import annotations

import numpy as np

from intaglio.quantizer.fixedpoint import (
    INT32_HIGH,
    INT32_LOW,
    Ints,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

_EXP_BITS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
"""For each power of two that -x may hold: exp(-2**power) in Q0.31."""


def _saturating_shift_left(value: Ints, exponent: int) -> Ints:
    return np.asarray(np.clip(value << exponent, INT32_LOW, INT32_HIGH), np.int64)


def _exp_near_zero(a: Ints) -> Ints:
    """exp of Q0.31 values in [-1/4, 0): a Taylor polynomial around -1/8."""
    x = a + (1 << 28)
    x2 = saturating_rounding_doubling_high_mul(x, x)
    x3 = saturating_rounding_doubling_high_mul(x2, x)
    x4 = saturating_rounding_doubling_high_mul(x2, x2)
    x4_over_4 = rounding_divide_by_pot(x4, 2)
    sixth = saturating_rounding_doubling_high_mul(x4_over_4 + x3, 715827883)
    terms = rounding_divide_by_pot(sixth + x2, 1)
    constant = 1895147668
    return np.asarray(constant + saturating_rounding_doubling_high_mul(x + terms, constant), np.int64)


def exp_on_negative_values(a: Ints, integer_bits: int = 5) -> Ints:
    """exp of values <= 0 with `integer_bits` integer bits, as Q0.31; exp(0) is the largest int32."""
    a = np.asarray(a, np.int64)
    fraction = 31 - integer_bits
    quarter = 1 << (fraction - 2)
    rest = (a & (quarter - 1)) - quarter
    result = _exp_near_zero(_saturating_shift_left(rest, integer_bits))
    remainder = rest - a
    for power, multiplier in _EXP_BITS:
        if integer_bits > power:
            bit = (remainder >> (fraction + power)) & 1
            result = np.where(bit, saturating_rounding_doubling_high_mul(result, multiplier), result)
    return np.asarray(np.where(a == 0, INT32_HIGH, result), np.int64)


def one_over_one_plus(a: Ints) -> Ints:
    """1 / (1 + x) of Q0.31 values in [0, 1), as Q0.31: three Newton steps."""
    half = (np.asarray(a, np.int64) + INT32_HIGH + 1) >> 1
    x = 1515870810 + saturating_rounding_doubling_high_mul(half, -1010580540)
    for _ in range(3):
        # Q2.29 throughout; products of two Q2.29 are Q4.27 and are brought back by two bits.
        product = saturating_rounding_doubling_high_mul(half, x)
        error = (1 << 29) - product
        x = x + _saturating_shift_left(saturating_rounding_doubling_high_mul(x, error), 2)
    return _saturating_shift_left(x, 1)


def count_leading_zeros(value: int) -> int:
    """Of a positive 32-bit integer."""
    return 32 - int(value).bit_length()


def reciprocal(value: int, integer_digits: int) -> tuple[int, int]:
    """TFLite's GetReciprocal: (Q0.31 scale, bits over unit) of 1 / value, value with so many integer digits."""
    headroom = count_leading_zeros(value)
    shifted = np.asarray((value << headroom) - (1 << 31), np.int64)
    return int(one_over_one_plus(shifted)), integer_digits - headroom


def inverse_sqrt(value: int) -> tuple[int, int]:
    """TFLite's GetInvSqrtQuantizedMultiplierExp: (multiplier, right shift) of 1 / sqrt(value), a positive integer.

    The root is multiplier / 2**31 / 2**shift; five Newton steps from 1 in Q3.28.
    """
    if value <= 1:
        return INT32_HIGH, 0
    right = 11
    while value >= 1 << 29:
        value, right = value // 4, right + 1
    pairs = (count_leading_zeros(value) - 1) // 2 - 1
    right -= pairs
    scaled = np.asarray((value << 2 * pairs) >> 1, np.int64)
    half = rounding_divide_by_pot(scaled, 1)
    high_mul = saturating_rounding_doubling_high_mul
    x = np.asarray(1 << 28, np.int64)
    for _ in range(5):
        cube = _saturating_shift_left(high_mul(high_mul(x, x), x), 6)
        x = _saturating_shift_left(high_mul(np.asarray((1 << 28) + (1 << 27), np.int64), x) - high_mul(half, cube), 3)
    result = int(high_mul(x, 1518500250))
    return (result << -right, 0) if right < 0 else (result, right)


def logarithm(total: int) -> int:
    """TFLite's log_x_for_x_greater_than_or_equal_to_1: ln of a sum in Q12.19 (from 1 on), in Q5.26.

    The argument is a power of two times r in [1/sqrt(2), 1); ln r comes from a rational function around
    sqrt(sqrt(1/2)). Source: TensorFlow Lite, `kernels/internal/common.h`.
    """
    root, half, quarter = 1805811301, 1518500250, 1 << 23

    def mul(a: int, b: int) -> int:
        return int(saturating_rounding_doubling_high_mul(np.array(a), b))

    def left(value: int, exponent: int) -> int:
        return int(_saturating_shift_left(np.array(value), exponent))

    a_zeros = count_leading_zeros(total)
    b_zeros = count_leading_zeros(mul(total, half)) - 1
    r = min(left(mul(left(total, a_zeros - 1), half), 1), left(total, b_zeros))
    power = max((12 - a_zeros) * (1 << 25) + quarter, (12 - b_zeros) * (1 << 25) - quarter)
    p = (r + root + 1) // 2
    q = 2 * (r - root)
    square = mul(q, q)
    numerator = mul(q, r) + mul(mul(q, square), 117049297)
    denominator = mul(p, 1057819769 + q + mul(127690142, square)) + mul(638450708, q)
    inverse = int(one_over_one_plus(np.array(denominator)))
    scaled = int(rounding_divide_by_pot(np.array(numerator), 6))
    return left(mul(power, 1488522236) + mul(scaled, inverse), 1)
