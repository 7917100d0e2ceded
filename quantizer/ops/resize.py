"""Resize: an image on another grid, by the nearest pixel or by bilinear interpolation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, limit, register, streaming_lead
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval, Requant, exact_requant, product_scale

ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil", "half_away")


@dataclass(frozen=True)
class ResizeAttrs(Attrs):
    """Attributes.

    Attributes:
        mode: nearest or bilinear.
        size: height and width of the output.
        align_corners: the corner pixels' centres of both grids coincide.
        half_pixel: pixel centres lie at 1/2; neither: the origins of both grids coincide.
        nearest_round: how a coordinate becomes a pixel: floor, ceil, round_prefer_floor, round_prefer_ceil or
            half_away (the same as round_prefer_ceil, as coordinates are not negative).
    """

    mode: str
    size: tuple[int, int]
    align_corners: bool = False
    half_pixel: bool = False
    nearest_round: str = "floor"


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of the output: of each place the pixels on both sides and the weight of the second, of `whole`."""

    low: Ints
    high: Ints
    weight: Ints
    whole: int


@dataclass(frozen=True, eq=False)
class ResizeParams:
    """Integers of a resize.

    Attributes:
        rows, cols: of the output.
        offset: added to the weighted sum; requant: of it. None in contract `tflite`, whose kernel divides by the
            power of two rows.whole * cols.whole and rounds halves away from zero; None for nearest, which copies.
    """

    rows: Axis
    cols: Axis
    offset: int
    requant: Requant | None


def coordinate(place: int, size: int, target: int, attrs: ResizeAttrs) -> Fraction:
    """Where a place of the output lies in the input, exactly."""
    if attrs.align_corners:
        return Fraction(place * (size - 1), target - 1) if target > 1 else Fraction(0)
    if attrs.half_pixel:
        return Fraction((2 * place + 1) * size, 2 * target) - Fraction(1, 2)
    return Fraction(place * size, target)


def nearest(place: int, size: int, target: int, attrs: ResizeAttrs) -> int:
    """The input's pixel, exactly."""
    at = coordinate(place, size, target, attrs)
    pixel = {
        "floor": math.floor(at),
        "ceil": math.ceil(at),
        "round_prefer_floor": math.ceil(at - Fraction(1, 2)),
        "round_prefer_ceil": math.floor(at + Fraction(1, 2)),
        "half_away": math.floor(at + Fraction(1, 2)),
    }[attrs.nearest_round]
    return min(max(pixel, 0), size - 1)


def tflite_nearest(place: int, size: int, target: int, attrs: ResizeAttrs) -> int:
    """The input's pixel as LiteRT computes it, in binary32 (`resize_nearest_neighbor.h`)."""
    if attrs.align_corners and target > 1:
        scale = np.float32(size - 1) / np.float32(target - 1)
    else:
        scale = np.float32(size) / np.float32(target)
    at = (np.float32(place) + np.float32(0.5 if attrs.half_pixel else 0.0)) * scale
    # The sum with 1/2 is exact in binary64, which binary32's rounding of halves away from zero amounts to.
    pixel = math.floor(float(at) + 0.5) if attrs.align_corners else math.floor(float(at))
    return min(max(pixel, 0), size - 1)


def exact_axis(size: int, target: int, attrs: ResizeAttrs) -> Axis:
    """Interpolation with exact rational weights over their common denominator."""
    places = [min(max(coordinate(p, size, target, attrs), Fraction(0)), Fraction(size - 1)) for p in range(target)]
    low = np.array([math.floor(p) for p in places], np.int64)
    rest = [p - math.floor(p) for p in places]
    whole = math.lcm(*(r.denominator for r in rest))
    weight = np.array([int(r * whole) for r in rest], np.int64)
    return Axis(low, np.minimum(low + 1, size - 1), weight, whole)


def tflite_axis(size: int, target: int, attrs: ResizeAttrs) -> Axis:
    """LiteRT's interpolation with weights of 10 bits (`resize_bilinear.h`, ResizeBilinearInteger)."""
    one = 1 << 10
    scale = (one * size + target // 2) // target
    if attrs.align_corners and target > 1:
        scale = (one * (size - 1) + (target - 1) // 2) // (target - 1)
    at = np.arange(target, dtype=np.int64) * scale
    if attrs.half_pixel:
        at += scale // 2 - (one >> 1)
    low = np.maximum(at // one, 0)
    high = np.minimum((at + one - 1) // one, size - 1)
    # Beyond the image both pixels are the same, and so is every weighting of them.
    inside = (low < high) & (low < size)
    low = np.minimum(low, size - 1)
    return Axis(low, np.where(inside, high, low), np.where(inside, at - one * low, 0), one)


def resize_lead(kernel: Kernel) -> tuple[int | None, ...]:
    """Pixels are made in row-major order, their channels one after the other."""
    params: ResizeParams = kernel.params
    channels, width = kernel.x.shape[3], kernel.x.shape[2]
    size = kernel.x.dtype.bytes
    first = ((params.rows.low[:, None] * width + params.cols.low) * channels).ravel()
    reads = (first[:, None] + np.arange(channels)).ravel() if kernel.attrs.mode == "bilinear" else first
    step = 1 if kernel.attrs.mode == "bilinear" else channels
    ends = (np.arange(len(reads)) + 1) * step
    return (streaming_lead(ends * size, reads * size),)


@register
class Resize(Operator[ResizeAttrs, ResizeParams]):
    """Input: x (1, H, W, C). Output (1, size[0], size[1], C)."""

    name = "Resize"
    attrs = ResizeAttrs
    same_scale = True
    variants = (
        Variant("nearest", "resize_nearest.c.j2", accepts=lambda k: k.attrs.mode == "nearest", lead=resize_lead),
        Variant("bilinear", "resize_bilinear.c.j2", lead=resize_lead),
    )

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, a = inputs[0], node.attrs
        if x is None or len(x.shape) != 4 or min(a.size) < 1:
            raise UnsupportedError(
                str(node), f"an image and a size are needed, not {list(a.size)}", "re-export the model"
            )
        if a.mode not in ("nearest", "bilinear") or a.nearest_round not in ROUNDINGS:
            raise UnsupportedError(str(node), f"mode {a.mode}, {a.nearest_round}", "see docs/operators.md")
        return ((1, *a.size, x.shape[3]),)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output have one type; bilinear: int8, uint8 or int16, quantised per tensor."""
        x, out = ctx.input(0), ctx.output
        if ctx.node.attrs.mode == "nearest":
            return (x.dtype, x.qparams) == (out.dtype, out.qparams)
        return x.dtype == out.dtype and x.dtype in (DType.INT8, DType.UINT8, DType.INT16) and x.qparams is not None

    @limit
    def tflite_bilinear(self, ctx: Context) -> bool:
        """In contract tflite bilinear interpolation is on one scale; of uint8, which LiteRT computes in binary32, with
        weights that are multiples of powers of two, 1/16384 together, and so exact there."""
        x, out = ctx.input(0), ctx.output
        if ctx.contract is not Contract.TFLITE or ctx.node.attrs.mode == "nearest":
            return True
        if x.dtype is not DType.UINT8:
            return x.qparams == out.qparams
        rows, cols = self._axes(ctx)
        whole = rows.whole * cols.whole
        return x.qparams == out.qparams and whole & (whole - 1) == 0 and whole <= 1 << 14

    @limit
    def one_grid(self, ctx: Context) -> bool:
        """Not both align_corners and half_pixel are set."""
        return not (ctx.node.attrs.align_corners and ctx.node.attrs.half_pixel)

    def _axes(self, ctx: Context) -> tuple[Axis, Axis]:
        a: ResizeAttrs = ctx.node.attrs
        tflite = ctx.contract is Contract.TFLITE
        axes = []
        for size, target in zip(ctx.input(0).shape[1:3], a.size, strict=True):
            if a.mode == "nearest":
                pick = tflite_nearest if tflite else nearest
                low = np.array([pick(p, size, target, a) for p in range(target)], np.int64)
                axes.append(Axis(low, low, 0 * low, 1))
            else:
                fixed = tflite and ctx.input(0).dtype is not DType.UINT8
                axes.append((tflite_axis if fixed else exact_axis)(size, target, a))
        return axes[0], axes[1]

    @staticmethod
    def _sum(x: Reals | Ints, rows: Axis, cols: Axis) -> Reals | Ints:
        """The four neighbours, weighted: (1, Ho, Wo, C), times rows.whole * cols.whole."""
        wy, wx = rows.weight[:, None, None], cols.weight[:, None]
        upper = x[0, rows.low][:, cols.low] * (cols.whole - wx) + x[0, rows.low][:, cols.high] * wx
        lower = x[0, rows.high][:, cols.low] * (cols.whole - wx) + x[0, rows.high][:, cols.high] * wx
        return np.asarray(upper * (rows.whole - wy) + lower * wy)[None]

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        rows, cols = self._axes(ctx)
        return [self._sum(inputs[0], rows, cols) / float(rows.whole * cols.whole)]

    def _map(self, ctx: Context, whole: int) -> AffineMap:
        out = ctx.output
        scale = product_scale((ctx.input(0).scale,), (out.scale,)) / whole
        return AffineMap(scale, out.zero_point, out.dtype.low, out.dtype.high, acc.rounding(ctx.contract))

    def lower(self, ctx: Context) -> ResizeParams:
        rows, cols = self._axes(ctx)
        if ctx.node.attrs.mode == "nearest" or ctx.contract is Contract.TFLITE:
            return ResizeParams(rows, cols, 0, None)
        whole, zero = rows.whole * cols.whole, ctx.input(0).zero_point
        low, high = ctx.ranges[0]
        interval = (whole * (low - zero), whole * (high - zero))
        # The sum of the stored integers may be wider than the accumulator.
        reach = max(abs(low), abs(high), abs(zero), *map(abs, (low - zero, high - zero)))
        if whole * reach > fp.INT32_HIGH:
            interval = (min(interval[0], -whole * reach), max(interval[1], whole * reach))
        return ResizeParams(
            rows, cols, -whole * zero, exact_requant([self._map(ctx, whole)], [interval], str(ctx.node))
        )

    def evaluate(self, ctx: Context, params: ResizeParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        total = self._sum(inputs[0], params.rows, params.cols).astype(np.int64)
        if params.requant is not None:
            return [params.requant.apply(total + params.offset)]
        whole = params.rows.whole * params.cols.whole
        return [np.sign(total) * ((np.abs(total) + whole // 2) // whole)]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        if ctx.node.attrs.mode == "nearest" or ctx.contract is Contract.TFLITE:
            return super().define(ctx, inputs)
        assert inputs[0] is not None
        rows, cols = self._axes(ctx)
        total = self._sum(inputs[0] - ctx.input(0).zero_point, rows, cols).astype(np.int64)
        return [self._map(ctx, rows.whole * cols.whole).apply(total)]

    def output_ranges(self, ctx: Context, params: ResizeParams) -> tuple[Interval, ...]:
        if params.requant is None:
            return (ctx.ranges[0],)
        whole, (low, high) = params.rows.whole * params.cols.whole, ctx.ranges[0]
        return (params.requant.range([(whole * low + params.offset, whole * high + params.offset)]),)

    def examples(self) -> Iterator[Graph]:
        near = [
            ResizeAttrs("nearest", (8, 6), nearest_round="floor"),
            ResizeAttrs("nearest", (7, 5), half_pixel=True, nearest_round="round_prefer_floor"),
            ResizeAttrs("nearest", (5, 7), align_corners=True, nearest_round="half_away"),
            ResizeAttrs("nearest", (2, 2), nearest_round="ceil"),
        ]
        smooth = [
            ResizeAttrs("bilinear", (8, 6)),
            ResizeAttrs("bilinear", (7, 5), half_pixel=True),
            ResizeAttrs("bilinear", (5, 7), align_corners=True),
            ResizeAttrs("bilinear", (3, 2), half_pixel=True),
        ]
        for dtype, zero in (("int8", -5), ("int16", 0)):
            for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
                for attrs in (*near, *smooth)[:: 1 if dtype == "int8" else 3]:
                    exact = contract is not Contract.TFLITE and attrs.mode == "bilinear"
                    out = (dtype, 0.093, zero + 3) if exact and dtype == "int8" else (dtype, 0.1, zero)
                    yield single(self.name, attrs, [quantised(dtype, (1, 4, 3, 3), 0.1, zero)], [out], contract)
        yield single(self.name, smooth[1], [quantised("uint8", (1, 4, 3, 1), 0.1, 9)], [("uint8", 0.1, 9)])
        for attrs in (ResizeAttrs("bilinear", (8, 6), half_pixel=True), ResizeAttrs("bilinear", (7, 9), True)):
            x = quantised("uint8", (1, 4, 3, 2), 0.1, 9)
            yield single(self.name, attrs, [x], [("uint8", 0.1, 9)], Contract.TFLITE)
