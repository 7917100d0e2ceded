"""Neg: -x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType
from intaglio.quantizer.ops.base import Context, limit, register
from intaglio.quantizer.ops.lookup import PiecewiseOperator, stored_values
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class NegAttrs(Attrs):
    """None."""


@register
class Neg(PiecewiseOperator[NegAttrs]):
    """Input: x. Output: -x."""

    name = "Neg"
    attrs = NegAttrs
    example_scales = (0.031, 0.031, -7)
    litert = frozenset({DType.INT8})

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return -x

    @limit
    def litert_scales(self, ctx: Context) -> bool:
        """In contract tflite, input and output share scale and zero point (LiteRT turns the sign of the integers)."""
        return ctx.contract is not Contract.TFLITE or ctx.input(0).qparams == ctx.output.qparams

    def slopes(self, attrs: Any) -> tuple[float, float]:
        return -1.0, -1.0

    def litert_table(self, ctx: Context) -> Ints:
        """The negated integer whatever the zero point; -128 stays."""
        return np.asarray((-stored_values(ctx.input(0)) + 128) % 256 - 128, np.int64)
