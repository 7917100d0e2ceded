"""PRelu: x for x >= 0, slope * x below, with a constant slope per channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval, Method, Requant, exact_requant, product_scale, tflite_requant


@dataclass(frozen=True)
class PReluAttrs(Attrs):
    """None."""


@dataclass(frozen=True, eq=False)
class PReluParams:
    """zero_point: of x; slopes: int64 (channels,), zero point subtracted; positive and negative: of x - zero_point
    and of (x - zero_point) * slope."""

    zero_point: int
    slopes: Ints
    positive: Requant
    negative: Requant


@register
class PRelu(Operator[PReluAttrs, PReluParams]):
    """Inputs: x (..., C), constant slopes of C elements or one. Output: of x's shape."""

    name = "PRelu"
    attrs = PReluAttrs
    variants = (Variant("portable", "p_relu.c.j2", lead=elementwise_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, slope = inputs[0], inputs[1]
        if x is None or slope is None or slope.elements not in (1, x.shape[-1] if x.shape else 1):
            raise UnsupportedError(str(node), "the slopes are not one per channel", "re-export the model")
        return (x.shape,)

    @limit
    def slopes_constant(self, ctx: Context) -> bool:
        """The slopes are constant."""
        return 1 in ctx.constants

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output are both int8, both uint8 or both int16, quantised per tensor."""
        return ctx.input(0).dtype in (DType.INT8, DType.UINT8, DType.INT16) and ctx.input(0).dtype == ctx.output.dtype

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, slope = inputs
        assert x is not None and slope is not None
        return [np.where(x >= 0, x, x * slope.reshape(-1))]

    def lower(self, ctx: Context) -> PReluParams:
        x, slope, out = ctx.input(0), ctx.input(1), ctx.output
        slopes = ctx.integers(1).ravel() - slope.zero_point
        kind = out.dtype
        if ctx.contract is Contract.TFLITE:
            # LiteRT multiplies and divides the scales in binary32.
            s_x, s_slope, s_out = (np.float32(t.scale) for t in (x, slope, out))
            scales = (float(s_x / s_out), float(s_x * s_slope / s_out))
            pos, neg = (tflite_requant([s], out.zero_point, kind.low, kind.high, Method.DOUBLE) for s in scales)
        else:
            lo, hi = ctx.ranges[0][0] - x.zero_point, ctx.ranges[0][1] - x.zero_point
            first, second = self._maps(ctx)
            pos = exact_requant([first], [(0, max(hi, 0))], str(ctx.node))
            ends = [min(lo, 0) * int(s) for s in slopes] + [0]
            neg = exact_requant([second], [(min(ends), max(ends))], str(ctx.node))
        return PReluParams(x.zero_point, slopes, pos, neg)

    def _maps(self, ctx: Context) -> tuple[AffineMap, AffineMap]:
        x, slope, out = ctx.input(0), ctx.input(1), ctx.output
        rest = (out.zero_point, out.dtype.low, out.dtype.high, acc.rounding(ctx.contract))
        return (
            AffineMap(product_scale((x.scale,), (out.scale,)), *rest),
            AffineMap(product_scale((x.scale, slope.scale), (out.scale,)), *rest),
        )

    def evaluate(self, ctx: Context, params: PReluParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        value = inputs[0] - params.zero_point
        below = params.negative.apply(value * params.slopes)
        return [np.where(value >= 0, params.positive.apply(value), below)]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        if ctx.contract is Contract.TFLITE:
            return super().define(ctx, inputs)
        x, slope = inputs
        assert x is not None and slope is not None
        value = x - ctx.input(0).zero_point
        first, second = self._maps(ctx)
        below = second.apply(value * (slope.ravel() - ctx.input(1).zero_point))
        return [np.where(value >= 0, first.apply(value), below)]

    def output_ranges(self, ctx: Context, params: PReluParams) -> tuple[Interval, ...]:
        return ((ctx.output.dtype.low, ctx.output.dtype.high),)

    def examples(self) -> Iterator[Graph]:
        rng = np.random.default_rng(9)
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for dtype, scale, zero in (("int8", 0.05, 7), ("int16", 0.0004, 0), ("uint8", 0.05, 131)):
                for slopes in (4, 1):
                    weights = (quantised("int8", (slopes,), 0.007, 0), rng.integers(-127, 128, slopes))
                    x = quantised(dtype, (1, 3, 4), scale, zero)
                    out = (dtype, scale * 1.2, zero)
                    yield single(self.name, PReluAttrs(), [x, weights], [out], contract)
