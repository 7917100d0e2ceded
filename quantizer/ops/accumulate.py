"""What convolutions and matrix products share: folded bias, accumulator intervals, requantisation, windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import ProofError
from intaglio.quantizer.fixedpoint import AffineMap, BinaryMap, Ints, Rounding
from intaglio.quantizer.ir import Contract, DType, TensorType
from intaglio.quantizer.ops.base import Context, Reals
from intaglio.quantizer.requant import (
    Interval,
    Method,
    Requant,
    exact_requant,
    product_scale,
    tflite_requant,
)


@dataclass(frozen=True)
class Clamp:
    """A fused activation that clips the real result: (0, None) is ReLU, (0, 6) is ReLU6, (None, None) none."""

    low: float | None = None
    high: float | None = None

    def apply(self, value: Reals) -> Reals:
        """Clip reals."""
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return np.clip(value, low, high)

    def integers(self, kind: TensorType, contract: Contract) -> Interval:
        """The clip in the integers of a tensor.

        TFLite divides in binary32 and rounds half away from zero (`CalculateActivationRangeQuantized`);
        the other contracts round the exact quotient by their own rule.
        """

        def convert(value: float) -> int:
            if contract is Contract.TFLITE:
                quotient = float(np.float32(value) / np.float32(kind.scale))
                rounded = int(np.copysign(np.floor(abs(quotient) + 0.5), quotient))
            else:
                rounded = fp.round_rational(Fraction(value) / fp.rational(kind.scale), rounding(contract))
            return min(max(rounded + kind.zero_point, kind.dtype.low), kind.dtype.high)

        low = kind.dtype.low if self.low is None else convert(self.low)
        high = kind.dtype.high if self.high is None else convert(self.high)
        return low, high


NO_CLAMP = Clamp()
RELU = Clamp(0.0)


def rounding(contract: Contract) -> Rounding:
    """How a contract rounds."""
    return Rounding.HALF_EVEN if contract is Contract.ONNX else Rounding.HALF_UP


@dataclass(frozen=True, eq=False)
class MacParams:
    """Integers of a layer with one accumulator per output: acc = bias + sum(w * x) + weight_offset * sum(x).

    Attributes:
        weights: int8, first axis (depthwise: last) over the output channels.
        weight_offset: what a uint8 zero point leaves over when the weights are stored as int8; mostly 0.
        bias: int64 (channels,), the input's zero point folded in.
        pad: the integer that stands for the real 0 in the input.
        requant: accumulator to output, per channel or shared.
        wide: the accumulator needs 64 bits.
    """

    weights: NDArray[np.int8]
    weight_offset: int
    bias: Ints
    pad: int
    requant: Requant
    intervals: tuple[Interval, ...]

    @property
    def wide(self) -> bool:
        return self.requant.wide


def is_plain(params: MacParams, x: TensorType) -> bool:
    """Whether a layer is within what the fast kernels do: int8 operands, int32 sums, arithmetic requantisation."""
    return (
        x.dtype is DType.INT8
        and params.weight_offset == 0
        and not params.wide
        and params.requant.bounds is None
        and params.requant.method in (Method.DOUBLE, Method.MUL32, Method.MUL64)
    )


def is_dsp(params: MacParams, x: TensorType) -> bool:
    """Whether `packing.pairs` can hold the weights, and the second sum of a pair survives its way through 24 bits."""
    fits = all(lo >= -(2**23) and hi < 2**23 for lo, hi in params.intervals)
    return is_plain(params, x) and fits and int(params.weights.min(initial=0)) > -128


def weight_zero(kind: TensorType) -> int:
    """The zero point of weights; per-channel weights are symmetric."""
    q = kind.qparams
    if q is None or not any(q.zero_point):
        return 0
    return q.per_tensor[1]


def lower_mac(ctx: Context, axis: int, *, padded: bool, binary64: bool = False) -> MacParams:
    """Lower a node whose inputs are x, weights and an optional bias, and whose attrs have a `clamp`.

    Args:
        axis: of the weights, over the output channels.
        binary64: LiteRT requantises in binary64 (FULLY_CONNECTED); otherwise with two roundings, or from int16
            input with a multiplier of 16 bits.
        padded: whether x is padded with real zeros.

    Raises:
        ProofError: an accumulator may overflow.
    """
    x = ctx.input(0)
    stored = ctx.integers(1)
    zero = weight_zero(ctx.input(1))
    # uint8 weights are stored as int8; the rest of their zero point multiplies the sum of the inputs.
    shift = 128 if ctx.input(1).dtype is DType.UINT8 else 0
    weights, offset = stored - shift, shift - zero
    real = np.moveaxis(stored - zero, axis, 0).reshape(stored.shape[axis], -1)
    channels = len(real)
    raw_bias = ctx.integers(2).ravel() if ctx.has(2) else np.zeros(channels, np.int64)
    bias = raw_bias - x.zero_point * real.sum(axis=1)
    low, high = ctx.ranges[0]
    if padded:
        low, high = min(low, x.zero_point), max(high, x.zero_point)
    intervals = mac_intervals(ctx, real, bias, low, high, wide_allowed=x.dtype is DType.INT16)
    return MacParams(
        weights=weights.astype(np.int8),
        weight_offset=offset,
        bias=bias,
        pad=x.zero_point,
        requant=build_requant(ctx, intervals, binary64=binary64),
        intervals=tuple(intervals),
    )


def mac_intervals(ctx: Context, real: Ints, bias: Ints, low: int, high: int, *, wide_allowed: bool) -> list[Interval]:
    """Return each channel's accumulator interval; every partial sum, in any order, is proven to fit too.

    Args:
        real: int64 (channels, terms), zero points subtracted.
        bias: int64 (channels,), folded.
        low, high: the integers the input can hold.
    """
    a, b = real * low, real * high
    small, large = np.minimum(a, b), np.maximum(a, b)
    lo, hi = bias + small.sum(axis=1), bias + large.sum(axis=1)
    part_lo = np.minimum(bias, 0) + np.minimum(small, 0).sum(axis=1)
    part_hi = np.maximum(bias, 0) + np.maximum(large, 0).sum(axis=1)
    if not wide_allowed and (part_lo.min() < fp.INT32_LOW or part_hi.max() > fp.INT32_HIGH):
        channel = int(np.argmax(np.maximum(-part_lo, part_hi)))
        raise ProofError(
            str(ctx.node),
            f"the int32 accumulator of channel {channel} may overflow ({lo[channel]}..{hi[channel]})",
            "reduce the layer's fan-in or quantise the model again",
        )
    if wide_allowed and (part_lo.min() < fp.INT32_LOW or part_hi.max() > fp.INT32_HIGH):
        # A partial sum needs 64 bits, so the interval is widened to say so.
        lo, hi = np.minimum(lo, part_lo), np.maximum(hi, part_hi)
    return [(int(p), int(q)) for p, q in zip(lo, hi, strict=True)]


def weight_scales(ctx: Context) -> tuple[float, ...]:
    """The scales of input 1."""
    q = ctx.input(1).qparams
    assert q is not None
    return q.scale


def definitions(ctx: Context, *, binary64: bool = False) -> list[AffineMap] | None:
    """The requantisation as a map, one per weight scale; None where the contract's algorithm is the definition."""
    x, out = ctx.input(0), ctx.output
    low, high = ctx.node.attrs.clamp.integers(out, ctx.contract)
    if ctx.contract is not Contract.TFLITE:
        return [
            AffineMap(product_scale((x.scale, w), (out.scale,)), out.zero_point, low, high, rounding(ctx.contract))
            for w in weight_scales(ctx)
        ]
    if binary64:
        return [BinaryMap(Fraction(x.scale * w / out.scale), out.zero_point, low, high) for w in weight_scales(ctx)]
    return None


def build_requant(ctx: Context, intervals: Sequence[Interval], *, binary64: bool = False) -> Requant:
    """Return the contract's requantisation for a node with inputs x and weights.

    Raises:
        ProofError: an accumulator is too large.
    """
    x, out = ctx.input(0), ctx.output
    maps = definitions(ctx, binary64=binary64)
    if maps is not None:
        if len(maps) == 1:
            intervals = [(min(lo for lo, _ in intervals), max(hi for _, hi in intervals))]
        return exact_requant(maps, intervals, str(ctx.node))
    low, high = ctx.node.attrs.clamp.integers(out, ctx.contract)
    wide = any(lo < fp.INT32_LOW or hi > fp.INT32_HIGH for lo, hi in intervals)
    scales = [tflite_scale(x, w, out.scale) for w in weight_scales(ctx)]
    method = Method.REDUCED if x.dtype is DType.INT16 else Method.DOUBLE
    return tflite_requant(scales, out.zero_point, low, high, method, wide=wide)


def tflite_scale(x: TensorType, weight: float, out: float) -> float:
    """LiteRT's effective scale of a convolution: in binary64, of legacy uint8 layers from a binary32 product."""
    if x.dtype is DType.UINT8:
        return float(np.float32(x.scale) * np.float32(weight)) / out
    return x.scale * weight / out


def define_mac(ctx: Context, acc: Ints, params: MacParams, *, binary64: bool = False) -> Ints:
    """Map exact accumulators (channels last) by the contract's definition."""
    maps = definitions(ctx, binary64=binary64)
    if maps is None:
        return params.requant.apply(acc)
    if len(maps) == 1:
        return maps[0].apply(acc)
    return np.stack([m.apply(acc[..., c]) for c, m in enumerate(maps)], axis=-1)


def matmul(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Matrix product; of integers exact, through float64 BLAS where 53 bits hold every partial sum.

    Args:
        a: int64 or float64 (m, k).
        b: like a, (k, n).
    """
    if a.dtype.kind == "f":
        return np.asarray(a @ b)
    bound = int(np.abs(a).max(initial=0)) * int(np.abs(b).max(initial=0)) * a.shape[-1]
    if bound >= 2**53:
        return np.asarray(a @ b)
    return np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def windows(
    x: NDArray[Any],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, int, int, int],
    fill: float,
) -> NDArray[Any]:
    """Return the windows of an image: (1, H, W, C) -> (Ho, Wo, kh, kw, C).

    Args:
        pads: top, bottom, left, right.
        fill: the value of the padding.
    """
    top, bottom, left, right = pads
    padded = np.pad(x[0], ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    view = sliding_window_view(padded, span, axis=(0, 1))
    view = view[:: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return np.moveaxis(view, 2, -1)


def window_shape(
    shape: Sequence[int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> tuple[int, int]:
    """Output height and width of a windowed operator on an NHWC shape."""
    sizes = (shape[1] + pads[0] + pads[1], shape[2] + pads[2] + pads[3])
    ho, wo = ((n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(sizes, kernel, dilation, stride, strict=True))
    return ho, wo


def window_reads(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    shape: Sequence[int],
    out: Sequence[int],
) -> Ints:
    """The lowest element of the input that each output pixel reads, in row-major order: int64 (Ho * Wo,)."""
    rows = np.maximum(np.arange(out[1]) * stride[0] - pads[0], 0)
    cols = np.maximum(np.arange(out[2]) * stride[1] - pads[2], 0)
    return ((rows[:, None] * shape[2] + cols[None, :]) * shape[3]).ravel().astype(np.int64)
