"""TransposeConv2D: each pixel of the input adds a weighted window to the output (the adjoint of a convolution)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, limit, register
from intaglio.quantizer.ops.conv2d import mac_example
from intaglio.quantizer.requant import Interval, Requant


@dataclass(frozen=True)
class TransposeConv2DAttrs(Attrs):
    """Attributes.

    Attributes:
        stride: rows, columns between the windows in the output.
        pads: rows cut off above and below, columns left and right.
        output_pads: rows added below, columns added right.
        clamp: the fused activation.
    """

    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    output_pads: tuple[int, int] = (0, 0)
    clamp: acc.Clamp = acc.NO_CLAMP


@dataclass(frozen=True, eq=False)
class TransposeParams(acc.MacParams):
    """`MacParams` of stride[0] * stride[1] convolutions: output pixels whose place modulo the stride is the same meet
    the same taps of the kernel. Weights and biases (phases, channels) follow each other, flat.

    Attributes:
        channel: the requantisation per output channel; `requant` repeats it for every phase.
    """

    channel: Requant


def _scratch(k: Kernel) -> int:
    """One gathered window of the phase with the most taps, in whole words."""
    _, kh, kw, cin = k.inputs[1].shape  # type: ignore[union-attr]
    taps = -(-kh // k.attrs.stride[0]) * -(-kw // k.attrs.stride[1])
    return int(-(-taps * cin * k.x.dtype.bytes // 4) * 4)


@register
class TransposeConv2D(Operator[TransposeConv2DAttrs, TransposeParams]):
    """Inputs: x (1, H, W, C), weights (O, kh, kw, C), optional bias (O,). Output (1, Ho, Wo, O)."""

    name = "TransposeConv2D"
    attrs = TransposeConv2DAttrs
    variants = (Variant("portable", "transpose_conv2d.c.j2", scratch=_scratch),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        a: TransposeConv2DAttrs = node.attrs
        x, w = inputs[0], inputs[1]
        if x is None or w is None or len(x.shape) != 4 or len(w.shape) != 4 or x.shape[3] != w.shape[3]:
            raise UnsupportedError(str(node), "image and weights do not fit together", "re-export the model")
        cut = (a.pads[0] + a.pads[1], a.pads[2] + a.pads[3])
        ho, wo = (
            (n - 1) * s + k - c + o
            for n, s, k, c, o in zip(x.shape[1:3], a.stride, w.shape[1:3], cut, a.output_pads, strict=True)
        )
        if ho < 1 or wo < 1:
            raise UnsupportedError(str(node), "the padding leaves no output", "re-export the model")
        return ((1, ho, wo, w.shape[0]),)

    @limit
    def batch(self, ctx: Context) -> bool:
        """The batch is 1."""
        return ctx.input(0).shape[0] == 1

    @limit
    def constant_weights(self, ctx: Context) -> bool:
        """Weights and bias are constant."""
        return 1 in ctx.constants and (not ctx.has(2) or 2 in ctx.constants)

    @limit
    def types(self, ctx: Context) -> bool:
        """Activations are int8, uint8 or int16, weights int8 (or uint8 with uint8 activations)."""
        x, w, out = ctx.input(0).dtype, ctx.input(1).dtype, ctx.output.dtype
        return x == out and x in (DType.INT8, DType.UINT8, DType.INT16) and w in (DType.INT8, DType.UINT8)

    def _acc(self, ctx: Context, x: Reals | Ints, w: Reals | Ints) -> Reals | Ints:
        """Add up what each tap contributes; x and w without zero points."""
        a: TransposeConv2DAttrs = ctx.node.attrs
        h, wide, cin = x.shape[1:]
        out, kh, kw, _ = w.shape
        (ho, wo), (sy, sx) = ctx.output.shape[1:3], a.stride
        total = np.zeros(((h - 1) * sy + kh + a.output_pads[0], (wide - 1) * sx + kw + a.output_pads[1], out), x.dtype)
        rows = x.reshape(h * wide, cin)
        for i in range(kh):
            for j in range(kw):
                part = acc.matmul(rows, w[:, i, j, :].T).reshape(h, wide, out)
                total[i : i + (h - 1) * sy + 1 : sy, j : j + (wide - 1) * sx + 1 : sx] += part
        return total[None, a.pads[0] : a.pads[0] + ho, a.pads[2] : a.pads[2] + wo]

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, w, b = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        assert x is not None and w is not None
        y = self._acc(ctx, x, w).astype(np.float64)
        return [ctx.node.attrs.clamp.apply(y if b is None else y + b)]

    def lower(self, ctx: Context) -> TransposeParams:
        x, (sy, sx) = ctx.input(0), ctx.node.attrs.stride
        stored, zero = ctx.integers(1), acc.weight_zero(ctx.input(1))
        shift = 128 if ctx.input(1).dtype is DType.UINT8 else 0
        channels = len(stored)
        raw = ctx.integers(2).ravel() if ctx.has(2) else np.zeros(channels, np.int64)
        low, high = min(ctx.ranges[0][0], x.zero_point), max(ctx.ranges[0][1], x.zero_point)
        weights, biases, ends = [], [], []
        for i in range(sy):
            for j in range(sx):
                part = stored[:, i::sy, j::sx].reshape(channels, -1)
                bias = raw - x.zero_point * (part - zero).sum(axis=1)
                wide_allowed = x.dtype is DType.INT16
                ends.append(acc.mac_intervals(ctx, part - zero, bias, low, high, wide_allowed=wide_allowed))
                weights.append((part - shift).ravel())
                biases.append(bias)
        both = np.array(ends)
        intervals = [(int(lo), int(hi)) for lo, hi in zip(both[..., 0].min(0), both[..., 1].max(0), strict=True)]
        requant = acc.build_requant(ctx, intervals)
        repeats = 1 if requant.channels == 1 else sy * sx
        repeated = replace(
            requant, multiplier=np.tile(requant.multiplier, repeats), shift=np.tile(requant.shift, repeats)
        )
        return TransposeParams(
            weights=np.concatenate(weights).astype(np.int8),
            weight_offset=shift - zero,
            bias=np.concatenate(biases),
            pad=x.zero_point,
            requant=repeated,
            intervals=tuple(intervals),
            channel=requant,
        )

    def evaluate(self, ctx: Context, params: TransposeParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, w, b = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        assert x is not None and w is not None
        total = self._acc(ctx, x - ctx.input(0).zero_point, w - acc.weight_zero(ctx.input(1))).astype(np.int64)
        return [params.channel.apply(total if b is None else total + b.ravel())]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, w, b = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        assert x is not None and w is not None
        total = self._acc(ctx, x - ctx.input(0).zero_point, w - acc.weight_zero(ctx.input(1))).astype(np.int64)
        params = self.lower(ctx)
        return [acc.define_mac(ctx, total if b is None else total + b.ravel(), replace(params, requant=params.channel))]

    def output_ranges(self, ctx: Context, params: TransposeParams) -> tuple[Interval, ...]:
        return (params.channel.range(params.intervals),)

    def macs(self, ctx: Context) -> int:
        """Each pixel of the input meets every weight; what falls outside the output is counted too."""
        return ctx.input(0).elements * ctx.input(1).elements // ctx.input(0).shape[3]

    def examples(self) -> Iterator[Graph]:
        rng = np.random.default_rng(5)
        cases = [
            ((1, 4, 5, 3), (4, 3, 3, 3), TransposeConv2DAttrs((2, 2), (0, 1, 0, 1), clamp=acc.RELU)),
            ((1, 3, 3, 4), (2, 2, 2, 4), TransposeConv2DAttrs((2, 2))),
            ((1, 4, 3, 2), (3, 4, 3, 2), TransposeConv2DAttrs((1, 2), (1, 2, 1, 0), (0, 1))),
            ((1, 1, 6, 3), (2, 1, 2, 3), TransposeConv2DAttrs((1, 3), output_pads=(0, 2))),
        ]
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for shape, wshape, attrs in cases:
                for dtype in ("int8", "int16") if contract is not Contract.ONNX else ("int8",):
                    yield mac_example(self.name, attrs, shape, wshape, 0, dtype, contract, rng)
        yield mac_example(self.name, cases[0][2], *cases[0][:2], 0, "uint8", Contract.TFLITE, rng)
