"""PRelu: x for x >= 0, slope * x below, with a constant slope per channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.elementwise import every_value
from intaglio.quantizer.ops.lines import Lines, fit
from intaglio.quantizer.ops.lookup import EIGHT_BITS, Table, is_table, stored_values
from intaglio.quantizer.requant import Interval, Method, Requant, exact_requant, product_scale, tflite_requant


@dataclass(frozen=True)
class PReluAttrs(Attrs):
    """None."""


@dataclass(frozen=True, eq=False)
class PReluLines:
    """8 bits, a slope per channel: a line of x from zero_point on, and one per channel below it."""

    zero_point: int
    positive: Lines
    negative: Lines

    def apply(self, x: Ints) -> Ints:
        """Evaluate; the last axis of x runs over the channels."""
        return np.asarray(np.where(x >= self.zero_point, self.positive.apply(x), self.negative.apply(x)), np.int64)


@dataclass(frozen=True, eq=False)
class PReluParams:
    """Requantisations of what x is above and below its zero point.

    Attributes:
        zero_point: of x.
        slopes: int64 (channels,), zero point subtracted.
        positive, negative: of x - zero_point, and of (x - zero_point) * slope.
    """

    zero_point: int
    slopes: Ints
    positive: Requant
    negative: Requant

    def apply(self, x: Ints) -> Ints:
        """Evaluate; the last axis of x runs over the channels."""
        value = (x - self.zero_point)[..., None]
        below = self.negative.apply(value * self.slopes[:, None])
        return np.asarray(np.where(value >= 0, self.positive.apply(value), below)[..., 0], np.int64)


Params = Table | PReluLines | PReluParams


def _is_lines(kernel: Kernel) -> bool:
    return isinstance(kernel.params, PReluLines)


@register
class PRelu(Operator[PReluAttrs, Params]):
    """Inputs: x (..., C), constant slopes of C elements or one. Output: of x's shape."""

    name = "PRelu"
    attrs = PReluAttrs
    variants = (
        Variant("table", "lookup.c.j2", accepts=is_table, lead=elementwise_lead),
        Variant("lines", "p_relu_lines.c.j2", accepts=_is_lines, lead=elementwise_lead),
        Variant("portable", "p_relu.c.j2", lead=elementwise_lead),
    )

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
        """Input and output are both int8, both uint8 or both int16, the slopes int8, uint8 or int16."""
        kinds = (*EIGHT_BITS, DType.INT16)
        return ctx.input(0).dtype in kinds and ctx.input(0).dtype == ctx.output.dtype and ctx.input(1).dtype in kinds

    @limit
    def quantised(self, ctx: Context) -> bool:
        """Inputs and output are quantised per tensor."""
        kinds = (ctx.input(0), ctx.input(1), ctx.output)
        return all(t.qparams is not None and len(t.qparams.scale) == 1 for t in kinds)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, slope = inputs
        assert x is not None and slope is not None
        return [np.where(x >= 0, x, x * slope.reshape(-1))]

    def _slopes(self, ctx: Context) -> Ints:
        return ctx.integers(1).ravel() - ctx.input(1).zero_point

    def _litert(self, ctx: Context) -> PReluParams:
        """LiteRT multiplies and divides the scales in binary32."""
        x, out = ctx.input(0), ctx.output
        first = np.float32(x.scale) / np.float32(out.scale)
        second = np.float32(x.scale) * np.float32(ctx.input(1).scale) / np.float32(out.scale)
        pos, neg = (
            tflite_requant([float(s)], out.zero_point, out.dtype.low, out.dtype.high, Method.DOUBLE)
            for s in (first, second)
        )
        return PReluParams(x.zero_point, self._slopes(ctx), pos, neg)

    def _maps(self, ctx: Context) -> tuple[AffineMap, AffineMap]:
        x, slope, out = ctx.input(0), ctx.input(1), ctx.output
        rest = (out.zero_point, out.dtype.low, out.dtype.high, acc.rounding(ctx.contract))
        return (
            AffineMap(product_scale((x.scale,), (out.scale,)), *rest),
            AffineMap(product_scale((x.scale, slope.scale), (out.scale,)), *rest),
        )

    def meaning(self, ctx: Context, x: Ints) -> Ints:
        """The contract's outputs for stored integers; the last axis of x runs over the channels."""
        if ctx.contract is Contract.TFLITE:
            return self._litert(ctx).apply(x)
        value = x - ctx.input(0).zero_point
        first, second = self._maps(ctx)
        return np.asarray(np.where(value >= 0, first.apply(value), second.apply(value * self._slopes(ctx))), np.int64)

    def lower(self, ctx: Context) -> Params:
        x, slopes = ctx.input(0), self._slopes(ctx)
        if x.dtype in EIGHT_BITS:
            if len(slopes) == 1:
                return Table(self.meaning(ctx, stored_values(x)[:, None])[:, 0])
            lines = self._lines(ctx, slopes)
            if lines is not None:
                return lines
        if ctx.contract is Contract.TFLITE:
            return self._litert(ctx)
        lo, hi = ctx.ranges[0][0] - x.zero_point, ctx.ranges[0][1] - x.zero_point
        first, second = self._maps(ctx)
        pos = exact_requant([first], [(0, max(hi, 0))], str(ctx.node))
        ends = [min(lo, 0) * int(s) for s in slopes] + [0]
        neg = exact_requant([second], [(min(ends), max(ends))], str(ctx.node))
        return PReluParams(x.zero_point, slopes, pos, neg)

    def _lines(self, ctx: Context, slopes: Ints) -> PReluLines | None:
        x, low, high = ctx.input(0), ctx.output.dtype.low, ctx.output.dtype.high
        every = every_value(x)
        tables = self.meaning(ctx, np.broadcast_to(every[:, None], (256, len(slopes)))).T
        above, unit = every >= x.zero_point, x.scale / ctx.output.scale
        pos = fit(tables[:1, above], x.zero_point, low, high, [unit])
        if not np.any(~above):
            return None
        real = [unit * ctx.input(1).scale * int(s) for s in slopes]
        neg = fit(tables[:, ~above], x.dtype.low, low, high, real)
        return None if pos is None or neg is None else PReluLines(x.zero_point, pos, neg)

    def evaluate(self, ctx: Context, params: Params, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [params.apply(inputs[0])]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [self.meaning(ctx, inputs[0])]

    def output_ranges(self, ctx: Context, params: Params) -> tuple[Interval, ...]:
        return ((ctx.output.dtype.low, ctx.output.dtype.high),)

    def examples(self) -> Iterator[Graph]:
        rng = np.random.default_rng(9)
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for dtype, scale, zero, slopes in (
                ("int8", 0.05, 7, 4),
                ("uint8", 0.05, 131, 1),
                ("int16", 0.0004, 0, 4),
            ):
                weights = (quantised("int8", (slopes,), 0.007, 0), rng.integers(-127, 128, slopes))
                x = quantised(dtype, (1, 3, 4), scale, zero)
                yield single(self.name, PReluAttrs(), [x, weights], [(dtype, scale * 1.2, zero)], contract)
        # All inputs are at or above zero.
        weights = (quantised("int8", (4,), 0.007, 0), rng.integers(-127, 128, 4))
        x = quantised("int8", (1, 3, 4), 0.05, -128)
        yield single(self.name, PReluAttrs(), [x, weights], [("int8", 0.06, -128)], Contract.TFLITE)
