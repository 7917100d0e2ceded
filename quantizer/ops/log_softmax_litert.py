"""LiteRT's LogSoftmax of 8 bits: exponentials, their sum's logarithm and the differences in Q5.26.

Source: TensorFlow Lite, reference/integer_ops/log_softmax.h (int8), reference/log_softmax.h (uint8) and
`PreprocessLogSoftmaxScalingExp`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedexp import exp_on_negative_values, logarithm
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import TensorType

SMALLEST_SCALE = 2.0**-26
"""Of the input: LiteRT's multiplier of the differences must exceed one."""


@dataclass(frozen=True, eq=False)
class LitertLogSoftmax:
    """Integers of the device.

    Attributes:
        exponentials: int64 (256,): exp(-i * scale) in Q12.19, 0 from where the difference does not count.
        multiplier, shift: from differences to Q5.26; shift is to the left.
        reverse, right: back from Q5.26: the multiplier, and its shift to the right.
        least: the smallest difference that counts, negative.
        zero_point, low, high: of the output.
    """

    exponentials: Ints
    multiplier: int
    shift: int
    reverse: int
    right: int
    least: int
    zero_point: int
    low: int
    high: int

    @classmethod
    def of(cls, scale: float, out: TensorType) -> LitertLogSoftmax:
        """The parameters for an input scale."""
        multiplier, shift = fp.quantize_multiplier(min(scale * 2.0**26, 2.0**31 - 1))
        reverse, left = fp.quantize_multiplier((1 << (31 - shift)) / multiplier)
        least = -int(31 * 2**26 / (1 << shift))
        differences = -np.arange(256, dtype=np.int64)
        counted = differences >= least
        scaled = fp.saturating_rounding_doubling_high_mul(np.where(counted, differences, 0) << shift, multiplier)
        exponentials = np.where(counted, fp.rounding_divide_by_pot(exp_on_negative_values(scaled), 12), 0)
        rest = (out.zero_point, out.dtype.low, out.dtype.high)
        return cls(exponentials, multiplier, shift, reverse, -left, least, *rest)

    def apply(self, row: Ints) -> Ints:
        """One row: int64 (n,)."""
        difference = row - row.max()
        log = logarithm(int(self.exponentials[-difference].sum()))
        back = fp.saturating_rounding_doubling_high_mul(np.array(log + fp.INT32_LOW), self.reverse)
        least = max(self.least - 1, int(fp.rounding_divide_by_pot(back, self.right)))
        counted = difference > least
        scaled = fp.saturating_rounding_doubling_high_mul(
            np.where(counted, difference, 0) << self.shift, self.multiplier
        )
        steps = fp.rounding_divide_by_pot(scaled - log, 22) + self.zero_point
        return np.where(counted, fp.saturate(steps, self.low, self.high), self.low)
