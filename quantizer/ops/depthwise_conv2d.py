"""DepthwiseConv2D: one filter per input channel, or several with a multiplier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import (
    Context,
    Kernel,
    Reals,
    Variant,
    register,
    streaming_lead,
)
from intaglio.quantizer.ops.conv2d import mac_example
from intaglio.quantizer.ops.mac_operator import WindowOperator


@dataclass(frozen=True)
class DepthwiseConv2DAttrs(Attrs):
    """As `Conv2DAttrs`; output channel c reads input channel c // (O / C)."""

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    clamp: acc.Clamp = acc.NO_CLAMP


def _general_lead(k: Kernel) -> tuple[int | None, ...]:
    """A pixel's channels are made one after the other, so its own window must outlive its writing."""
    ends, reads = _pixel_bytes(k)
    lead = max(streaming_lead(ends, reads), int(np.max(ends - reads)))
    return (lead,) + (None,) * (len(k.inputs) - 1)


def _pixel_bytes(k: Kernel) -> tuple[Ints, Ints]:
    """For each output pixel: the output bytes up to its end, the lowest input byte that it reads."""
    reads = acc.window_reads(k.params.weights.shape[1:3], k.attrs.stride, k.attrs.pads, k.x.shape, k.y.shape)
    ends = (np.arange(len(reads)) + 1) * k.y.shape[3] * k.y.dtype.bytes
    return ends, reads * k.x.dtype.bytes


def _gathers(k: Kernel) -> bool:
    """Whether a window is ever copied: at the border, or since its columns are not neighbours."""
    return bool(any(k.attrs.pads) or (k.attrs.dilation[1] > 1 and k.params.weights.shape[2] > 1))


def _pixel_scratch(k: Kernel) -> int:
    return -(-int(k.params.weights.size) // 4) * 4 if _gathers(k) else 0


def _pixel_lead(k: Kernel) -> tuple[int | None, ...]:
    """A channel is written after all that its output needs was read, and the channels after it lie after it."""
    ends, reads = _pixel_bytes(k)
    lead = max(streaming_lead(ends, reads), int(np.max(ends - k.y.shape[3] - reads)))
    return (lead,) + (None,) * (len(k.inputs) - 1)


def _accepts_pixel(k: Kernel) -> bool:
    """One filter per int8 channel, with so few taps that they are written out."""
    _, kh, kw, channels = k.params.weights.shape
    return channels == k.x.shape[3] and kh * kw <= 32 and k.y.dtype.bytes == 1 and acc.is_plain(k.params, k.x)


def _accepts_dsp(k: Kernel) -> bool:
    """Channels fill words."""
    return _accepts_pixel(k) and k.x.shape[3] % 4 == 0


@register
class DepthwiseConv2D(WindowOperator[DepthwiseConv2DAttrs]):
    """Inputs: x (1, H, W, C), weights (1, kh, kw, O) with O a multiple of C, optional bias (O,)."""

    name = "DepthwiseConv2D"
    attrs = DepthwiseConv2DAttrs
    channel_axis = 3
    variants = (
        Variant(
            "dsp",
            "depthwise_conv2d_dsp.c.j2",
            frozenset({"dsp"}),
            _accepts_dsp,
            scratch=_pixel_scratch,
            lead=_pixel_lead,
            tail_pixels=1,
        ),
        Variant(
            "pixel",
            "depthwise_conv2d_pixel.c.j2",
            accepts=_accepts_pixel,
            scratch=_pixel_scratch,
            lead=_pixel_lead,
            tail_pixels=1,
        ),
        Variant("general", "depthwise_conv2d.c.j2", lead=_general_lead, tail_pixels=1),
    )

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        a: DepthwiseConv2DAttrs = node.attrs
        x, w = inputs[0], inputs[1]
        if x is None or w is None or len(x.shape) != 4 or len(w.shape) != 4 or w.shape[3] % x.shape[3]:
            raise UnsupportedError(str(node), "image and weights do not fit together", "re-export the model")
        ho, wo = acc.window_shape(x.shape, (w.shape[1], w.shape[2]), a.stride, a.dilation, a.pads)
        return ((1, ho, wo, w.shape[3]),)

    def sums(self, ctx: Context, x: Reals | Ints, w: Reals | Ints, fill: float) -> Reals | Ints:
        a: DepthwiseConv2DAttrs = ctx.node.attrs
        win = acc.windows(x, (w.shape[1], w.shape[2]), a.stride, a.dilation, a.pads, fill)
        if w.shape[3] > x.shape[3]:
            win = np.repeat(win, w.shape[3] // x.shape[3], axis=-1)
        return np.asarray(np.einsum("hwijc,ijc->hwc", win, w[0]))[None]

    def macs(self, ctx: Context) -> int:
        w = ctx.input(1).shape
        return ctx.output.elements * w[1] * w[2]

    def examples(self) -> Iterator[Graph]:
        rng = np.random.default_rng(2)
        cases = [
            ((1, 6, 5, 4), (1, 3, 3, 4), DepthwiseConv2DAttrs(pads=(1, 1, 1, 1), clamp=acc.RELU)),
            ((1, 7, 8, 3), (1, 3, 2, 6), DepthwiseConv2DAttrs(stride=(2, 2), pads=(0, 1, 1, 0))),
            ((1, 9, 9, 5), (1, 3, 3, 5), DepthwiseConv2DAttrs(dilation=(2, 2))),
            ((1, 10, 8, 1), (1, 5, 4, 8), DepthwiseConv2DAttrs(pads=(1, 2, 1, 2), clamp=acc.Clamp(0.0, 6.0))),
            ((1, 5, 1, 8), (1, 5, 1, 8), DepthwiseConv2DAttrs()),
        ]
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for shape, wshape, attrs in cases:
                for dtype in ("int8", "int16"):
                    yield mac_example(self.name, attrs, shape, wshape, 3, dtype, contract, rng)
        for shape, wshape, attrs in cases[:3]:
            yield mac_example(self.name, attrs, shape, wshape, 3, "uint8", Contract.TFLITE, rng)
