"""Sigmoid: 1 / (1 + exp(-x))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs, Contract, DType, QParams
from intaglio.quantizer.ops.base import Context, limit, register
from intaglio.quantizer.ops.lookup import ANY_TYPE, Params, UnaryOperator, litert_unit
from intaglio.quantizer.ops.lookup16 import Logistic16
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class SigmoidAttrs(Attrs):
    """None."""


@register
class Sigmoid(UnaryOperator[SigmoidAttrs]):
    """Input: x. Output: 1 / (1 + exp(-x))."""

    name = "Sigmoid"
    attrs = SigmoidAttrs
    litert = ANY_TYPE
    example_scales = (0.047, 1 / 256, -128)

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return 1 / (1 + m.exp(-x))

    @limit
    def litert_output(self, ctx: Context) -> bool:
        """In contract tflite, the output's scale is 1/256 (int16: 1/32768, zero points 0)."""
        return ctx.contract is not Contract.TFLITE or litert_unit(ctx, 256)

    def litert_nodes(self, ctx: Context) -> Params:
        return Logistic16.of(ctx.input(0).scale, tanh=False)

    def output_qparams(self, ctx: Context) -> tuple[QParams, ...] | None:
        return None if ctx.output.dtype is DType.INT16 else (QParams.of(1 / 256, -128),)
