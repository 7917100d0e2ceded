"""Softmax of int16: LiteRT's, and the exponentials of the one that contracts `exact` and `onnx` define.

Source of the former: TensorFlow Lite, `SoftmaxInt16` of reference/softmax.h and `SoftmaxPrepare` of activations.cc.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer import realmath
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import DType
from intaglio.quantizer.ops.lookup16 import Interpolated, litert_nodes

LARGEST_SHIFT = 14
"""Differences have 16 bits; shifted further to the left they would leave int32."""


@dataclass(frozen=True, eq=False)
class Softmax16:
    """Integers of the device.

    Attributes:
        multiplier, shift: TFLite's, of a difference to the largest logit, in units of 10 / 65535.
        exponentials: exp of -10 .. 0 in Q0.15.
        reciprocals: 1 / (1 + x) of 0 .. 1 in Q0.15.
    """

    multiplier: int
    shift: int
    exponentials: Interpolated
    reciprocals: Interpolated

    @classmethod
    def of(cls, scale: float, beta: float) -> Softmax16:
        """The parameters for an input scale."""
        unit = float(np.float32(scale) * np.float32(beta)) / (10.0 / 65535.0)
        multiplier, shift = fp.quantize_multiplier(unit)
        low, high = DType.INT16.low, DType.INT16.high
        exponentials = litert_nodes(np.exp, (10 / 65535, high), (2 / 65535, 0), np.float64)
        reciprocals = litert_nodes(lambda v: 1 / (1 + v), (1 / 65535, low), (2 / 65535, 0), np.float64)
        return cls(multiplier, shift, Interpolated(exponentials), Interpolated(reciprocals))

    def apply(self, row: Ints) -> Ints:
        """Normalise one row: int64 (n,)."""
        low, high = DType.INT16.low, DType.INT16.high
        scaled = fp.multiply_double_rounding(row - row.max(), self.multiplier, self.shift)
        exps = self.exponentials.apply(fp.saturate(scaled + high, low, high))
        total = int(exps.sum())
        # The sum is a power of two times 1 + x.
        bits = total.bit_length()
        mantissa = ((total << (31 - bits)) + (1 << 13)) >> 14
        at = np.array([mantissa - (1 << 16) + low], np.int64)
        share = exps * self.reciprocals.apply(fp.saturate(at, low, high))
        return fp.saturate((share + (1 << (bits - 2))) >> (bits - 1), 0, high)


@dataclass(frozen=True, eq=False)
class Exponentials:
    """exp of -65535 .. 0 steps of the input as a product of two.

    Attributes:
        coarse: exp of -256 i steps in Q0.31: int64 (256,).
        fine: exp of -i steps, likewise.
    """

    coarse: Ints
    fine: Ints

    @classmethod
    def of(cls, scale: float, beta: float) -> Exponentials:
        """The tables for an input scale: the exact values, rounded."""

        def table(steps: Ints) -> Ints:
            values = realmath.precise(lambda x, m: m.exp(x * m.number(beta)), steps, scale, 2.0**-31)
            return np.minimum(realmath.round_precise(values, half_even=False), fp.INT32_HIGH)

        steps = -np.arange(256, dtype=np.int64)
        return cls(table(256 * steps), table(steps))

    @property
    def table(self) -> Ints:
        """Both, one after the other."""
        return np.concatenate([self.coarse, self.fine])

    def apply(self, below: Ints) -> Ints:
        """Q0.31 of values that lie so many steps below the largest."""
        return fp.saturating_rounding_doubling_high_mul(self.coarse[below >> 8], self.fine[below & 255])
