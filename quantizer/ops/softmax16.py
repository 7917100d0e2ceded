"""LiteRT's softmax of int16: exponentials and a reciprocal from interpolated tables.

Source: TensorFlow Lite, `SoftmaxInt16` of reference/softmax.h and `SoftmaxPrepare` of activations.cc.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intaglio.quantizer import fixedpoint as fp
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
