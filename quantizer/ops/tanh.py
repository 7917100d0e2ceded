"""Tanh: the hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs, Contract, DType
from intaglio.quantizer.ops.base import Context, limit, register
from intaglio.quantizer.ops.lookup import ANY_TYPE, Params, UnaryOperator, litert_unit
from intaglio.quantizer.ops.lookup16 import Logistic16
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class TanhAttrs(Attrs):
    """None."""


@register
class Tanh(UnaryOperator[TanhAttrs]):
    """Input: x. Output: the hyperbolic tangent."""

    name = "Tanh"
    attrs = TanhAttrs
    litert = ANY_TYPE
    example_scales = (0.047, 1 / 128, 0)

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return m.tanh(x)

    @limit
    def litert_output(self, ctx: Context) -> bool:
        """In contract tflite and int16, the output's scale is 1/32768 and the zero points are 0."""
        return ctx.contract is not Contract.TFLITE or ctx.output.dtype is not DType.INT16 or litert_unit(ctx, 1)

    def litert_nodes(self, ctx: Context) -> Params:
        return Logistic16.of(ctx.input(0).scale, tanh=True)
