"""LogSoftmax along one axis, in fixed point; the algorithm is the definition (docs/numerics.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedexp import exp_on_negative_values
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, QParams, TensorType
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.log_softmax_litert import SMALLEST_SCALE, LitertLogSoftmax
from intaglio.quantizer.ops.softmax import softmax_shape

_SHIFT = 20
"""Fractional bits of the scales to the output."""


@dataclass(frozen=True)
class LogSoftmaxAttrs(Attrs):
    """axis: along which the exponentials of the outputs sum to one."""

    axis: int


@dataclass(frozen=True, eq=False)
class LogSoftmaxParams:
    """exponentials: Q0.31 by difference to the largest logit; logarithms: ln(1 + i / 256) in Q5.26, 257 entries;
    scale, unit: output steps per input step and per 1, with 20 fractional bits; zero_point: of the output."""

    exponentials: Ints
    logarithms: Ints
    scale: int
    unit: int
    zero_point: int


LN2 = round(float(np.log(2)) * 2**26)


def logarithm(total: Ints, table: Ints) -> Ints:
    """ln of sums in Q12.19, at least 1/2, as Q5.26: the leading bit, then 257 points joined by lines."""
    headroom = 32 - np.frompyfunc(lambda v: int(v).bit_length(), 1, 1)(total).astype(np.int64)
    mantissa = total << headroom
    index = (mantissa >> 23) & 255
    rest = (mantissa >> 8) & 0x7FFF
    line = table[index] + (((table[index + 1] - table[index]) * rest) >> 15)
    return np.asarray((12 - headroom) * LN2 + line, np.int64)


def _is_litert(kernel: Kernel) -> bool:
    return isinstance(kernel.params, LitertLogSoftmax)


@register
class LogSoftmax(Operator[LogSoftmaxAttrs, LogSoftmaxParams | LitertLogSoftmax]):
    """Input: x, int8 (contract tflite: or uint8). Output: log(softmax(x)), of x's type."""

    name = "LogSoftmax"
    attrs = LogSoftmaxAttrs
    variants = (
        Variant("litert", "log_softmax_litert.c.j2", accepts=_is_litert, lead=elementwise_lead),
        Variant("portable", "log_softmax.c.j2", lead=elementwise_lead),
    )

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return softmax_shape(node, inputs)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output are int8, in contract tflite also uint8, quantised per tensor."""
        kinds = (DType.INT8, DType.UINT8) if ctx.contract is Contract.TFLITE else (DType.INT8,)
        return ctx.input(0).dtype in kinds and ctx.output.dtype is ctx.input(0).dtype

    @limit
    def litert_output(self, ctx: Context) -> bool:
        """In contract tflite, the output's scale is 1/16 and its zero point the largest integer."""
        return ctx.contract is not Contract.TFLITE or ctx.output.qparams == QParams.of(1 / 16, ctx.output.dtype.high)

    @limit
    def length(self, ctx: Context) -> bool:
        """At most 4095 values are normalised together, so that their sum fits 12 integer bits."""
        return bool(ctx.input(0).shape[ctx.node.attrs.axis] < 1 << 12)

    @limit
    def scales(self, ctx: Context) -> bool:
        """The input's scale is between 1/65536 and 1/2, the output's between 1/4096 and 4; in contract tflite the
        input's is from 2**-26 to 31."""
        if ctx.contract is Contract.TFLITE:
            return SMALLEST_SCALE < ctx.input(0).scale <= 31
        return 2**-16 <= ctx.input(0).scale <= 0.5 and 2**-12 <= ctx.output.scale <= 4

    def output_qparams(self, ctx: Context) -> tuple[QParams, ...] | None:
        return (QParams.of(16 / 256, 127),)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        axis = ctx.node.attrs.axis
        assert inputs[0] is not None
        z = inputs[0] - inputs[0].max(axis=axis, keepdims=True)
        return [z - np.log(np.exp(z).sum(axis=axis, keepdims=True))]

    def lower(self, ctx: Context) -> LogSoftmaxParams | LitertLogSoftmax:
        x, out = ctx.input(0), ctx.output
        if ctx.contract is Contract.TFLITE:
            return LitertLogSoftmax.of(x.scale, out)
        real = np.arange(256) * x.scale
        raw = -np.minimum(np.rint(real * 2**26), 2**31 - 1).astype(np.int64)
        return LogSoftmaxParams(
            exponentials=np.where(real < 31, exp_on_negative_values(raw), 0),
            logarithms=np.rint(np.log1p(np.arange(257) / 256) * 2**26).astype(np.int64),
            scale=round(x.scale / out.scale * 2**_SHIFT),
            unit=round(2**_SHIFT / out.scale),
            zero_point=out.zero_point,
        )

    def evaluate(
        self, ctx: Context, params: LogSoftmaxParams | LitertLogSoftmax, inputs: Sequence[Ints | None]
    ) -> list[Ints]:
        axis = ctx.node.attrs.axis
        assert inputs[0] is not None
        if isinstance(params, LitertLogSoftmax):
            return [np.apply_along_axis(params.apply, axis, inputs[0])]
        diff = inputs[0].max(axis=axis, keepdims=True) - inputs[0]
        total = fp.rounding_divide_by_pot(params.exponentials[diff], 12).sum(axis=axis, keepdims=True)
        below = (logarithm(total, params.logarithms) * params.unit) >> 26
        scaled = (-diff * params.scale - below + (1 << (_SHIFT - 1))) >> _SHIFT
        return [fp.saturate(scaled + params.zero_point, -128, 127)]

    def examples(self) -> Iterator[Graph]:
        for contract in (Contract.EXACT, Contract.ONNX):
            for shape, axis, scale in (((1, 10), 1, 0.1), ((1, 3, 5), 2, 0.02), ((1, 4, 3), 1, 0.4)):
                x = quantised("int8", shape, scale, 3)
                yield single(self.name, LogSoftmaxAttrs(axis), [x], [("int8", 16 / 256, 127)], contract)
        for dtype, high in (("int8", 127), ("uint8", 255)):
            for shape, axis, scale in (((1, 10), 1, 0.1), ((1, 4, 300), 2, 0.4), ((1, 6, 5), 1, 7.0)):
                x = quantised(dtype, shape, scale, 3)
                yield single(self.name, LogSoftmaxAttrs(axis), [x], [(dtype, 16 / 256, high)], Contract.TFLITE)
