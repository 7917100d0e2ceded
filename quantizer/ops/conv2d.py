"""Conv2D: cross-correlation of NHWC images; one-dimensional convolutions have height 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, QParams, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import (
    Context,
    Kernel,
    Reals,
    Variant,
    register,
    streaming_lead,
)
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.mac_operator import WindowOperator


@dataclass(frozen=True)
class Conv2DAttrs(Attrs):
    """Attributes.

    Attributes:
        stride, dilation: rows, columns.
        pads: rows above, rows below, columns left, columns right; real zeros.
        groups: input and output channels fall into so many groups.
        clamp: the fused activation.
    """

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    clamp: acc.Clamp = acc.NO_CLAMP


def _general_scratch(k: Kernel) -> int:
    """One gathered window, rounded up to whole words; a pointwise convolution gathers nothing."""
    size = int(k.params.weights[0].size) * k.attrs.groups * k.x.dtype.bytes
    return 0 if _is_pointwise(k) else -(-size // 4) * 4


def _is_pointwise(k: Kernel) -> bool:
    return bool(k.params.weights.shape[1:3] == (1, 1) and not any(k.attrs.pads) and k.attrs.groups == 1)


def _general_lead(k: Kernel) -> tuple[int | None, ...]:
    """Pixels are made in row-major order, each after its window was gathered."""
    lead = block_lead(k, 1)
    if _is_pointwise(k):
        # Nothing is gathered: the pixel is read again for each output channel while its output is being written.
        ends, reads = _pixel_bytes(k)
        lead = max(lead, int(np.max(ends - reads)))
    return (lead,) + (None,) * (len(k.inputs) - 1)


def _pixel_bytes(k: Kernel) -> tuple[Ints, Ints]:
    """For each output pixel: the output bytes up to its end, the lowest input byte that it reads."""
    reads = acc.window_reads(k.params.weights.shape[1:3], k.attrs.stride, k.attrs.pads, k.x.shape, k.y.shape)
    ends = (np.arange(len(reads)) + 1) * k.y.shape[3] * k.y.dtype.bytes
    return ends, reads * k.x.dtype.bytes


def block_lead(k: Kernel, windows: int) -> int:
    """The lead of a kernel that gathers so many windows before it writes their pixels."""
    ends, reads = _pixel_bytes(k)
    starts = np.arange(0, len(reads), windows)
    return streaming_lead(ends[np.minimum(starts + windows, len(ends)) - 1], np.minimum.reduceat(reads, starts))


def block_lag(k: Kernel, windows: int) -> int:
    """The lag of the same kernel walking from the last pixel to the first."""
    height, width, channels = k.x.shape[1:]
    _, kh, kw, _ = k.params.weights.shape
    a: Conv2DAttrs = k.attrs
    rows = np.minimum(np.arange(k.y.shape[1]) * a.stride[0] - a.pads[0] + (kh - 1) * a.dilation[0], height - 1)
    cols = np.minimum(np.arange(k.y.shape[2]) * a.stride[1] - a.pads[2] + (kw - 1) * a.dilation[1], width - 1)
    ends = ((rows[:, None] * width + cols[None, :] + 1) * channels).ravel() * k.x.dtype.bytes
    # Seen from the end of the input, bytes count down: what is read to `ends` is read from total - ends.
    total = len(ends) * k.y.shape[3] * k.y.dtype.bytes
    steps = np.arange(0, len(ends), windows)
    written = np.minimum(steps + windows, len(ends)) * k.y.shape[3] * k.y.dtype.bytes
    lead = streaming_lead(written, np.minimum.reduceat(k.x.bytes - ends[::-1], steps))
    return lead - total + k.x.bytes


def _accepts_block(k: Kernel) -> bool:
    """int8 in one group; what the kernel computes with offset operands stays within int32."""
    terms = int(k.params.weights[0].size)
    return k.attrs.groups == 1 and acc.is_plain(k.params, k.x) and terms < 2**14


def _block(name: str, windows: int, requires: frozenset[str] = frozenset()) -> Variant:
    """A kernel of conv2d_block.c.j2."""

    def scratch(k: Kernel) -> int:
        return -(-int(k.params.weights[0].size) * min(windows, k.y.elements // k.y.shape[3]) // 4) * 4

    def lead(k: Kernel) -> tuple[int | None, ...]:
        return (block_lead(k, windows),) + (None,) * (len(k.inputs) - 1)

    def lag(k: Kernel) -> tuple[int | None, ...]:
        return (block_lag(k, windows),) + (None,) * (len(k.inputs) - 1)

    return Variant(name, f"conv2d_{name}.c.j2", requires, _accepts_block, scratch, lead, lag, tail_pixels=windows)


def _accepts_dsp(k: Kernel) -> bool:
    return k.attrs.groups == 1 and acc.is_dsp(k.params, k.x)


def _dsp_scratch(k: Kernel) -> int:
    """The halfwords of three windows, and the bytes of one that cannot be read from the image as it lies."""
    fours = -(-int(k.params.weights[0].size) // 4)
    kw, cin = k.params.weights.shape[2:]
    direct = cin % 4 == 0 and (k.attrs.dilation[1] == 1 or kw == 1) and not any(k.attrs.pads)
    return 8 * fours * min(3, k.y.elements // k.y.shape[3]) + (0 if direct else 4 * fours)


def _dsp_lead(k: Kernel) -> tuple[int | None, ...]:
    return (block_lead(k, 3),) + (None,) * (len(k.inputs) - 1)


def _dsp_lag(k: Kernel) -> tuple[int | None, ...]:
    return (block_lag(k, 3),) + (None,) * (len(k.inputs) - 1)


@register
class Conv2D(WindowOperator[Conv2DAttrs]):
    """Inputs: x (1, H, W, C), weights (O, kh, kw, C / groups), optional bias (O,). Output (1, Ho, Wo, O)."""

    name = "Conv2D"
    attrs = Conv2DAttrs
    channel_axis = 0
    variants = (
        Variant(
            "dsp",
            "conv2d_dsp.c.j2",
            frozenset({"dsp"}),
            _accepts_dsp,
            _dsp_scratch,
            _dsp_lead,
            _dsp_lag,
            tail_pixels=3,
        ),
        _block("2x4", 2, frozenset({"thumb2"})),
        _block("1x4", 1),
        Variant("general", "conv2d.c.j2", scratch=_general_scratch, lead=_general_lead, tail_pixels=1),
    )

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        a: Conv2DAttrs = node.attrs
        x, w = inputs[0], inputs[1]
        if x is None or w is None or len(x.shape) != 4 or len(w.shape) != 4 or x.shape[3] != w.shape[3] * a.groups:
            raise UnsupportedError(str(node), "image and weights do not fit together", "re-export the model")
        ho, wo = acc.window_shape(x.shape, (w.shape[1], w.shape[2]), a.stride, a.dilation, a.pads)
        return ((1, ho, wo, w.shape[0]),)

    def sums(self, ctx: Context, x: Reals | Ints, w: Reals | Ints, fill: float) -> Reals | Ints:
        a: Conv2DAttrs = ctx.node.attrs
        win = acc.windows(x, (w.shape[1], w.shape[2]), a.stride, a.dilation, a.pads, fill)
        ho, wo = win.shape[:2]
        per, out = w.shape[3], w.shape[0] // a.groups
        parts = []
        for g in range(a.groups):
            rows = win[..., g * per : (g + 1) * per].reshape(ho * wo, -1)
            cols = w[g * out : (g + 1) * out].reshape(out, -1).T
            parts.append(acc.matmul(rows, cols))
        return np.concatenate(parts, axis=1).reshape(1, ho, wo, w.shape[0])

    def macs(self, ctx: Context) -> int:
        w = ctx.input(1).shape
        return ctx.output.elements * w[1] * w[2] * w[3]

    def examples(self) -> Iterator[Graph]:
        rng = np.random.default_rng(1)
        cases = [
            ((1, 6, 5, 3), (4, 3, 3, 3), Conv2DAttrs(pads=(1, 1, 1, 1), clamp=acc.RELU)),
            ((1, 6, 5, 4), (8, 1, 1, 4), Conv2DAttrs()),
            ((1, 7, 9, 2), (3, 3, 2, 2), Conv2DAttrs(stride=(2, 3), pads=(0, 1, 1, 0))),
            ((1, 1, 20, 3), (5, 1, 4, 3), Conv2DAttrs(dilation=(1, 2), pads=(0, 0, 2, 3))),
            ((1, 5, 5, 4), (6, 3, 3, 2), Conv2DAttrs(groups=2, pads=(1, 1, 1, 1))),
            ((1, 5, 4, 1), (2, 5, 4, 1), Conv2DAttrs(clamp=acc.Clamp(0.0, 6.0))),
            ((1, 4, 6, 5), (7, 1, 1, 5), Conv2DAttrs(stride=(2, 2))),
        ]
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for shape, wshape, attrs in cases:
                for dtype in ("int8", "int16"):
                    yield mac_example(self.name, attrs, shape, wshape, 0, dtype, contract, rng)
        for shape, wshape, attrs in cases[:3]:
            yield mac_example(self.name, attrs, shape, wshape, 0, "uint8", Contract.TFLITE, rng)


def mac_example(
    op: str,
    attrs: Attrs,
    shape: Sequence[int],
    wshape: Sequence[int],
    axis: int,
    dtype: str,
    contract: Contract,
    rng: np.random.Generator,
) -> Graph:
    """A graph of one layer with random weights and bias; uint8 activations bring legacy uint8 weights."""
    channels = wshape[axis]
    legacy, wide = dtype == "uint8", dtype == "int16"
    zero = 0 if wide else int(rng.integers(0, 256)) - (0 if legacy else 128)
    out_zero = 0 if wide else int(rng.integers(0, 256)) - (0 if legacy else 128)
    x = quantised(dtype, shape, 0.0002 if wide else 0.05, zero)
    terms = int(np.prod(wshape)) // channels
    scale = (0.0001 if wide else 0.015) * float(np.sqrt(terms))
    if legacy:
        w = quantised("uint8", wshape, 0.02, 113)
        weights = rng.integers(0, 256, wshape)
        scales: tuple[float, ...] = (0.02,)
    else:
        scales = tuple(float(np.float32(s)) for s in rng.uniform(0.004, 0.03, channels))
        w = TensorType(DType.INT8, tuple(wshape), QParams(scales, (0,) * channels, axis))
        weights = rng.integers(-127, 128, wshape)
    bias_kind = TensorType(
        DType.INT64 if wide else DType.INT32,
        (channels,),
        QParams(tuple(x.scale * s for s in scales), (0,) * len(scales), None if legacy else 0),
    )
    bias = (bias_kind, rng.integers(-2000, 2000, channels))
    return single(op, attrs, [x, (w, weights), bias], [(dtype, scale, out_zero)], contract)
