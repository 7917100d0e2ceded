"""FullyConnected: y = x @ weights.T + bias over the last axis (Gemm, MatMul with constant weights, Dense)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, Reals, Variant, register
from intaglio.quantizer.ops.conv2d import mac_example
from intaglio.quantizer.ops.mac_operator import MacOperator


@dataclass(frozen=True)
class FullyConnectedAttrs(Attrs):
    """Attributes.

    Attributes:
        clamp: the fused activation.
        keep_dims: the output keeps x's leading dimensions; otherwise it is (rows, O).
    """

    clamp: acc.Clamp = acc.NO_CLAMP
    keep_dims: bool = False


def _accepts_block(k: Kernel) -> bool:
    """int8; what the kernel computes with offset weights stays within int32."""
    return acc.is_plain(k.params, k.x) and k.params.weights.shape[1] < 2**14


def _accepts_dsp(k: Kernel) -> bool:
    """Rows of x start at word boundaries."""
    return k.params.weights.shape[1] % 4 == 0 and acc.is_dsp(k.params, k.x)


@register
class FullyConnected(MacOperator[FullyConnectedAttrs]):
    """Inputs: x of rows * K elements, weights (O, K), optional bias (O,)."""

    name = "FullyConnected"
    attrs = FullyConnectedAttrs
    variants = (
        Variant("dsp", "fully_connected_dsp.c.j2", frozenset({"dsp"}), _accepts_dsp),
        Variant("1x8", "fully_connected_1x8.c.j2", frozenset({"thumb2"}), _accepts_block),
        Variant("1x4", "fully_connected_1x4.c.j2", accepts=_accepts_block),
        Variant("general", "fully_connected.c.j2"),
    )

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        a: FullyConnectedAttrs = node.attrs
        x, w = inputs[0], inputs[1]
        if x is None or w is None or len(w.shape) != 2 or x.elements % w.shape[1]:
            raise UnsupportedError(str(node), "input and weights do not fit together", "re-export the model")
        if a.keep_dims:
            if x.shape[-1] != w.shape[1]:
                raise UnsupportedError(str(node), "input and weights do not fit together", "re-export the model")
            return ((*x.shape[:-1], w.shape[0]),)
        return ((x.elements // w.shape[1], w.shape[0]),)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, w, b = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        assert x is not None and w is not None
        y = x.reshape(-1, w.shape[1]) @ w.T
        y = ctx.node.attrs.clamp.apply(y if b is None else y + b.ravel())
        return [y.reshape(ctx.output.shape)]

    def lower(self, ctx: Context) -> acc.MacParams:
        return acc.lower_mac(ctx, 0, padded=False, binary64=True)

    def evaluate(self, ctx: Context, params: acc.MacParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        x = inputs[0]
        assert x is not None
        w = params.weights.astype(np.int64) + params.weight_offset
        total = acc.matmul(x.reshape(-1, w.shape[1]), w.T) + params.bias
        return [params.requant.apply(total).reshape(ctx.output.shape)]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, w, b = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        assert x is not None and w is not None
        centred = (x - ctx.input(0).zero_point).reshape(-1, w.shape[1])
        total = acc.matmul(centred, (w - acc.weight_zero(ctx.input(1))).T)
        total = total if b is None else total + b.ravel()
        return [acc.define_mac(ctx, total, ctx.node.params, binary64=True).reshape(ctx.output.shape)]

    def macs(self, ctx: Context) -> int:
        return ctx.output.elements * ctx.input(1).shape[1]

    def examples(self) -> Iterator[Graph]:
        rng = np.random.default_rng(3)
        cases = [
            ((1, 10), (7, 10), FullyConnectedAttrs(clamp=acc.RELU)),
            ((1, 64), (8, 64), FullyConnectedAttrs()),
            ((1, 3, 5), (4, 5), FullyConnectedAttrs(keep_dims=True)),
            ((1, 1), (1, 1), FullyConnectedAttrs()),
            ((1, 2, 2, 3), (5, 12), FullyConnectedAttrs(clamp=acc.Clamp(0.0, 6.0))),
        ]
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for shape, wshape, attrs in cases:
                for dtype in ("int8", "int16"):
                    yield mac_example(self.name, attrs, shape, wshape, 0, dtype, contract, rng)
        for shape, wshape, attrs in cases[:3]:
            yield mac_example(self.name, attrs, shape, wshape, 0, "uint8", Contract.TFLITE, rng)
