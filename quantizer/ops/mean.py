"""Mean: the average along axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.ops.base import Context, register
from intaglio.quantizer.ops.reduce import ReduceAttrs, SumOperator
from intaglio.quantizer.requant import Method, Requant


@dataclass(frozen=True)
class MeanAttrs(ReduceAttrs):
    """axes: averaged, ascending; keep_dims: they stay with length 1."""


@register
class Mean(SumOperator[MeanAttrs]):
    """Input: x. Output: its averages along axes."""

    name = "Mean"
    attrs = MeanAttrs

    def divisor(self, terms: int) -> int:
        return terms

    def tflite(self, ctx: Context, terms: int) -> Requant:
        """The multiplier of the scales divided by the number of terms (`reduce.h`, QuantizedMeanOrSum)."""
        out = ctx.output
        multiplier, shift = fp.quantize_multiplier(ctx.input(0).scale / out.scale)
        room = min(terms.bit_length() - 1, 32, 31 + shift)
        return Requant(
            Method.DOUBLE,
            np.array([(multiplier << room) // terms]),
            np.array([shift - room]),
            out.zero_point,
            out.dtype.low,
            out.dtype.high,
        )
