"""MaxPool2D: the largest value of each window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.pool import pool_lead, pool_shape
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class MaxPool2DAttrs(Attrs):
    """Attributes.

    Attributes:
        kernel, stride, dilation: rows, columns.
        pads: rows above, rows below, columns left, columns right; padding is never the largest.
        clamp: the fused activation.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    clamp: acc.Clamp = acc.NO_CLAMP


@register
class MaxPool2D(Operator[MaxPool2DAttrs, Interval]):
    """Input: x (1, H, W, C). Output (1, Ho, Wo, C)."""

    name = "MaxPool2D"
    attrs = MaxPool2DAttrs
    same_scale = True
    variants = (Variant("portable", "max_pool2d.c.j2", lead=pool_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return pool_shape(node, inputs, node.attrs.dilation)

    @limit
    def types(self, ctx: Context) -> bool:
        """Activations are int8, uint8 or int16."""
        return ctx.input(0).dtype in (DType.INT8, DType.UINT8, DType.INT16)

    @limit
    def same_type(self, ctx: Context) -> bool:
        """Input and output have one type, scale and zero point."""
        return ctx.input(0).qparams == ctx.output.qparams and ctx.input(0).dtype == ctx.output.dtype

    @limit
    def pads_within_window(self, ctx: Context) -> bool:
        """Padding is smaller than the window, so that every window covers a pixel of the image."""
        a: MaxPool2DAttrs = ctx.node.attrs
        spans = [(k - 1) * d + 1 for k, d in zip(a.kernel, a.dilation, strict=True)]
        return max(a.pads[:2]) < spans[0] and max(a.pads[2:]) < spans[1]

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        a: MaxPool2DAttrs = ctx.node.attrs
        assert inputs[0] is not None
        win = acc.windows(inputs[0], a.kernel, a.stride, a.dilation, a.pads, -np.inf)
        return [a.clamp.apply(win.max(axis=(2, 3))[None])]

    def lower(self, ctx: Context) -> Interval:
        clamp: acc.Clamp = ctx.node.attrs.clamp
        return clamp.integers(ctx.output, ctx.contract)

    def evaluate(self, ctx: Context, params: Interval, inputs: Sequence[Ints | None]) -> list[Ints]:
        a: MaxPool2DAttrs = ctx.node.attrs
        assert inputs[0] is not None
        win = acc.windows(inputs[0], a.kernel, a.stride, a.dilation, a.pads, ctx.input(0).dtype.low)
        return [np.clip(win.max(axis=(2, 3))[None], *params)]

    def output_ranges(self, ctx: Context, params: Interval) -> tuple[Interval, ...]:
        low, high = ctx.ranges[0]
        return ((max(low, params[0]) if low <= params[1] else params[1], max(min(high, params[1]), params[0])),)

    def examples(self) -> Iterator[Graph]:
        cases = [
            ((1, 6, 5, 3), MaxPool2DAttrs((2, 2), (2, 2))),
            ((1, 5, 5, 4), MaxPool2DAttrs((3, 3), (1, 1), (1, 1, 1, 1), clamp=acc.RELU)),
            ((1, 7, 7, 2), MaxPool2DAttrs((2, 2), (1, 1), (1, 1, 1, 1), (2, 2))),
            ((1, 1, 9, 5), MaxPool2DAttrs((1, 4), (1, 3), (0, 0, 1, 1))),
        ]
        for dtype, zero in (("int8", -11), ("uint8", 30), ("int16", 0)):
            for shape, attrs in cases:
                yield single(
                    self.name, attrs, [quantised(dtype, shape, 0.05, zero)], [(dtype, 0.05, zero)], Contract.TFLITE
                )
