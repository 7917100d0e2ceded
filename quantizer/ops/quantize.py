"""Quantize: the same real values on another scale, in another integer type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.lookup import EIGHT_BITS, Table, is_table, stored_values
from intaglio.quantizer.requant import Interval, Method, Requant, exact_requant, product_scale, tflite_requant


@dataclass(frozen=True)
class QuantizeAttrs(Attrs):
    """None."""


@dataclass(frozen=True, eq=False)
class QuantizeParams:
    """zero_point: of x; requant: of x - zero_point."""

    zero_point: int
    requant: Requant

    def apply(self, x: Ints) -> Ints:
        """Evaluate."""
        return self.requant.apply((x - self.zero_point)[..., None])[..., 0]


@register
class Quantize(Operator[QuantizeAttrs, Table | QuantizeParams]):
    """Input: x. Output: the nearest values on a scale of its own, in a type of its own."""

    name = "Quantize"
    attrs = QuantizeAttrs
    variants = (
        Variant("table", "lookup.c.j2", accepts=is_table, lead=elementwise_lead),
        Variant("portable", "quantize.c.j2", lead=elementwise_lead),
    )

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        if inputs[0] is None:
            raise UnsupportedError(str(node), "has no input", "re-export the model")
        return (inputs[0].shape,)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output are int8, uint8 or int16, the input also int32, the output in contract tflite too; both are
        quantised per tensor."""
        kinds = (DType.INT8, DType.UINT8, DType.INT16)
        x, out = ctx.input(0), ctx.output
        wide = ctx.contract is Contract.TFLITE and out.dtype is DType.INT32
        known = all(t.qparams is not None and len(t.qparams.scale) == 1 for t in (x, out))
        return known and x.dtype in (*kinds, DType.INT32) and (out.dtype in kinds or wide)

    @limit
    def within_32_bits(self, ctx: Context) -> bool:
        """An int32 input has zero point 0 and less than half the output's scale, an int32 output zero point 0."""
        x, out = ctx.input(0), ctx.output
        if x.dtype is DType.INT32 and (x.zero_point or x.scale * 2 >= out.scale):
            return False
        return out.dtype is not DType.INT32 or out.zero_point == 0

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        return [inputs[0]]

    def _map(self, ctx: Context) -> AffineMap:
        x, out = ctx.input(0), ctx.output
        ratio: Fraction = product_scale((x.scale,), (out.scale,))
        return AffineMap(ratio, out.zero_point, out.dtype.low, out.dtype.high, acc.rounding(ctx.contract))

    def lower(self, ctx: Context) -> Table | QuantizeParams:
        x, out = ctx.input(0), ctx.output
        if ctx.contract is Contract.TFLITE:
            scale = x.scale / out.scale
            requant = tflite_requant([scale], out.zero_point, out.dtype.low, out.dtype.high, Method.DOUBLE)
        else:
            low, high = ctx.ranges[0]
            requant = exact_requant([self._map(ctx)], [(low - x.zero_point, high - x.zero_point)], str(ctx.node))
        params = QuantizeParams(x.zero_point, requant)
        return Table(params.apply(stored_values(x))) if x.dtype in EIGHT_BITS else params

    def evaluate(self, ctx: Context, params: Table | QuantizeParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [params.apply(inputs[0])]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        if ctx.contract is Contract.TFLITE:
            return super().define(ctx, inputs)
        assert inputs[0] is not None
        return [self._map(ctx).apply(inputs[0] - ctx.input(0).zero_point)]

    def output_ranges(self, ctx: Context, params: Table | QuantizeParams) -> tuple[Interval, ...]:
        ends = params.apply(np.array(ctx.ranges[0]))
        return ((int(ends[0]), int(ends[1])),)

    def examples(self) -> Iterator[Graph]:
        pairs = [
            (("int8", 0.05, 3), ("int8", 0.07, -4)),
            (("uint8", 0.05, 120), ("int8", 0.05, -8)),
            (("int16", 0.0003, 0), ("int8", 0.05, 3)),
            (("int8", 0.05, -128), ("int16", 0.0003, 0)),
            (("int32", 1.5e-7, 0), ("int16", 0.0009, 0)),
        ]
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for (dtype, scale, zero), out in pairs:
                yield single(self.name, QuantizeAttrs(), [quantised(dtype, (1, 3, 7), scale, zero)], [out], contract)
