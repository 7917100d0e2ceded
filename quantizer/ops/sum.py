"""Sum: the sum along axes."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.quantizer.ops.base import Context, register
from intaglio.quantizer.ops.reduce import ReduceAttrs, SumOperator
from intaglio.quantizer.requant import Method, Requant, tflite_requant


@dataclass(frozen=True)
class SumAttrs(ReduceAttrs):
    """axes: summed, ascending; keep_dims: they stay with length 1."""


@register
class Sum(SumOperator[SumAttrs]):
    """Input: x. Output: its sums along axes."""

    name = "Sum"
    attrs = SumAttrs

    def divisor(self, terms: int) -> int:
        return 1

    def tflite(self, ctx: Context, terms: int) -> Requant:
        out = ctx.output
        scale = ctx.input(0).scale / out.scale
        return tflite_requant([scale], out.zero_point, out.dtype.low, out.dtype.high, Method.DOUBLE)
