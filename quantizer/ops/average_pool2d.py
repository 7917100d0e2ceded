"""AveragePool2D: the mean of each window; global when the window is the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from intaglio.quantizer.errors import ProofError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.pool import pool_lead, pool_shape, window_counts
from intaglio.quantizer.requant import Interval, Requant, exact_requant, lifted, product_scale


@dataclass(frozen=True)
class AveragePool2DAttrs(Attrs):
    """Attributes.

    Attributes:
        kernel, stride: rows, columns.
        pads: rows above, rows below, columns left, columns right.
        clamp: the fused activation.
        count_include_pad: padding counts as zeros; otherwise only pixels of the image are averaged.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    clamp: acc.Clamp = acc.NO_CLAMP
    count_include_pad: bool = False


@dataclass(frozen=True, eq=False)
class AverageParams:
    """Integers of an average pooling.

    Attributes:
        counts: the distinct numbers of image pixels that windows cover, ascending.
        offset: per count, added to the sum of the stored integers.
        away: per count, whether halves round away from zero: negative sums are lowered by 1, so that what rounds
            halves up rounds them down.
        requants: per count, sum to output.
    """

    counts: tuple[int, ...]
    offset: tuple[int, ...]
    away: tuple[bool, ...]
    requants: tuple[Requant, ...]


@register
class AveragePool2D(Operator[AveragePool2DAttrs, AverageParams]):
    """Input: x (1, H, W, C). Output (1, Ho, Wo, C)."""

    name = "AveragePool2D"
    attrs = AveragePool2DAttrs
    variants = (Variant("portable", "average_pool2d.c.j2", lead=pool_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return pool_shape(node, inputs, (1, 1))

    @limit
    def types(self, ctx: Context) -> bool:
        """Activations are int8, uint8 or int16, input and output alike."""
        return ctx.input(0).dtype in (DType.INT8, DType.UINT8, DType.INT16) and ctx.output.dtype == ctx.input(0).dtype

    @limit
    def same_scale_in_tflite(self, ctx: Context) -> bool:
        """In contract tflite input and output share scale and zero point, and padding is not counted."""
        return ctx.contract is not Contract.TFLITE or (
            ctx.input(0).qparams == ctx.output.qparams and not ctx.node.attrs.count_include_pad
        )

    @limit
    def no_empty_window(self, ctx: Context) -> bool:
        """Every window covers a pixel of the image."""
        return int(window_counts(ctx.input(0).shape, ctx.node.attrs).min()) > 0

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        a: AveragePool2DAttrs = ctx.node.attrs
        assert inputs[0] is not None
        total = acc.windows(inputs[0], a.kernel, a.stride, (1, 1), a.pads, 0.0).sum(axis=(2, 3))[None]
        counts = window_counts(ctx.input(0).shape, a)[None, :, :, None]
        return [a.clamp.apply(total / (a.kernel[0] * a.kernel[1] if a.count_include_pad else counts))]

    def lower(self, ctx: Context) -> AverageParams:
        a: AveragePool2DAttrs = ctx.node.attrs
        x = ctx.input(0)
        counts = tuple(int(c) for c in np.unique(window_counts(x.shape, a)))
        tflite = ctx.contract is Contract.TFLITE
        first, last = ctx.ranges[0]
        # LiteRT averages the stored integers, as both sides have one zero point. An odd count has no halves.
        away = tuple(tflite and n % 2 == 0 for n in counts)
        offsets, requants = [], []
        for n, down, definition in zip(counts, away, self._maps(ctx, counts), strict=True):
            offset = 0 if tflite else -n * x.zero_point
            low, high = n * first + offset - down, n * last + offset
            raised, lift = lifted(definition, (low, high))
            offsets.append(offset + lift)
            requants.append(exact_requant([raised], [(low + lift, high + lift)], str(ctx.node)))
            if requants[-1].wide:
                raise ProofError(str(ctx.node), f"the sum of {n} integers may exceed int32", "pool in two steps")
        return AverageParams(counts, tuple(offsets), away, tuple(requants))

    def _maps(self, ctx: Context, counts: Sequence[int]) -> list[AffineMap]:
        a: AveragePool2DAttrs = ctx.node.attrs
        low, high = a.clamp.integers(ctx.output, ctx.contract)
        if ctx.contract is Contract.TFLITE:
            return [AffineMap(Fraction(1, n), 0, low, high) for n in counts]
        ratio = product_scale((ctx.input(0).scale,), (ctx.output.scale,))
        return [
            AffineMap(
                ratio / (a.kernel[0] * a.kernel[1] if a.count_include_pad else n),
                ctx.output.zero_point,
                low,
                high,
                acc.rounding(ctx.contract),
            )
            for n in counts
        ]

    def _sums(self, ctx: Context, x: Ints) -> tuple[Ints, Ints]:
        """Sums over the image pixels of each window (1, Ho, Wo, C), and their counts (Ho, Wo)."""
        a: AveragePool2DAttrs = ctx.node.attrs
        total = acc.windows(x, a.kernel, a.stride, (1, 1), a.pads, 0).sum(axis=(2, 3))[None]
        return total, window_counts(ctx.input(0).shape, a)

    def evaluate(self, ctx: Context, params: AverageParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        total, counts = self._sums(ctx, inputs[0])
        out = np.empty_like(total)
        for i, n in enumerate(params.counts):
            where = counts == n
            part = total[0, where]
            lowered = part - (part < 0) if params.away[i] else part
            out[0, where] = params.requants[i].apply(lowered + params.offset[i])
        return [out]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        if ctx.contract is Contract.TFLITE:
            total, counts = self._sums(ctx, inputs[0])
            half = counts[:, :, None] // 2
            rounded = np.sign(total) * ((np.abs(total) + half) // counts[:, :, None])
            return [np.clip(rounded, *ctx.node.attrs.clamp.integers(ctx.output, ctx.contract))]
        total, counts = self._sums(ctx, inputs[0] - ctx.input(0).zero_point)
        out = np.empty_like(total)
        present = [int(n) for n in np.unique(counts)]
        for n, m in zip(present, self._maps(ctx, present), strict=True):
            out[0, counts == n] = m.apply(total[0, counts == n])
        return [out]

    def output_ranges(self, ctx: Context, params: AverageParams) -> tuple[Interval, ...]:
        first, last = ctx.ranges[0]
        ends = [
            rq.range([(n * first + o - down, n * last + o)])
            for n, o, down, rq in zip(params.counts, params.offset, params.away, params.requants, strict=True)
        ]
        return ((min(low for low, _ in ends), max(high for _, high in ends)),)

    def examples(self) -> Iterator[Graph]:
        cases = [
            ((1, 6, 5, 3), AveragePool2DAttrs((2, 2), (2, 2))),
            ((1, 5, 5, 4), AveragePool2DAttrs((3, 3), (1, 1), (1, 1, 1, 1))),
            ((1, 25, 5, 8), AveragePool2DAttrs((25, 5))),
            ((1, 1, 9, 2), AveragePool2DAttrs((1, 4), (1, 3), (0, 0, 1, 1), acc.RELU)),
        ]
        for dtype in ("int8", "int16"):
            for shape, attrs in cases:
                zero = 0 if dtype == "int16" else -11
                for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
                    tflite = contract is Contract.TFLITE
                    out = (dtype, 0.05 if tflite else 0.037, zero if tflite else zero // 2)
                    yield single(self.name, attrs, [quantised(dtype, shape, 0.05, zero)], [out], contract)
        padded = AveragePool2DAttrs((3, 3), (2, 2), (1, 1, 1, 1), count_include_pad=True)
        yield single(self.name, padded, [quantised("uint8", (1, 5, 5, 3), 0.05, 120)], [("uint8", 0.04, 99)])
