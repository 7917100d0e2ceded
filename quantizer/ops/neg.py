"""Neg: -x."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph
from intaglio.quantizer.ops.base import Context, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.lookup import SIGNED, PiecewiseOperator, stored_values
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class NegAttrs(Attrs):
    """None."""


@dataclass(frozen=True)
class Wrapped:
    """int16 of LiteRT: -x as 16 bits hold it, so that -32768 stays."""

    def apply(self, x: Ints) -> Ints:
        """Evaluate."""
        return np.where(x == DType.INT16.low, x, -x)


@register
class Neg(PiecewiseOperator[NegAttrs]):
    """Input: x. Output: -x."""

    name = "Neg"
    attrs = NegAttrs
    example_scales = (0.031, 0.031, -7)
    litert = SIGNED
    variants = (
        Variant("wrapped", "neg.c.j2", accepts=lambda k: isinstance(k.params, Wrapped), lead=elementwise_lead),
        *PiecewiseOperator.variants,
    )

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return -x

    @limit
    def litert_scales(self, ctx: Context) -> bool:
        """In contract tflite, input and output share scale and zero point (LiteRT turns the sign of the integers)."""
        return ctx.contract is not Contract.TFLITE or ctx.input(0).qparams == ctx.output.qparams

    def slopes(self, attrs: Any) -> tuple[float, float]:
        return -1.0, -1.0

    def lower(self, ctx: Context) -> Any:
        if ctx.contract is Contract.TFLITE and ctx.input(0).dtype is DType.INT16:
            return Wrapped()
        return super().lower(ctx)

    def litert_table(self, ctx: Context) -> Ints:
        """The negated integer whatever the zero point; -128 stays."""
        return np.asarray((-stored_values(ctx.input(0)) + 128) % 256 - 128, np.int64)

    def examples(self) -> Iterator[Graph]:
        for graph in super().examples():
            node = graph.nodes[0]
            if graph.contract is Contract.TFLITE:
                graph = graph.with_(types=dict.fromkeys(graph.types, graph.types[node.inputs[0]]))
            yield graph
