"""Softmax along one axis: TFLite's fixed-point algorithm, in every contract the definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedexp import exp_on_negative_values, reciprocal
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, QParams, TensorType
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.softmax16 import LARGEST_SHIFT, Exponentials, Softmax16

Params = Ints | Softmax16 | Exponentials

_DIFF_BITS = 5
"""Integer bits of the scaled difference to the largest logit (kScaledDiffIntegerBits)."""
_SUM_BITS = 12
"""Integer bits of the sum of exponentials (kAccumulationIntegerBits)."""


@dataclass(frozen=True)
class SoftmaxAttrs(Attrs):
    """axis: along which the outputs sum to one. beta: factor of the logits."""

    axis: int
    beta: float = 1.0


def softmax_shape(node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
    """The shape rule: that of the input, along an axis that it has."""
    x = inputs[0]
    if x is None or not 0 <= node.attrs.axis < len(x.shape):
        raise UnsupportedError(str(node), f"axis {node.attrs.axis} does not exist", "re-export the model")
    return (x.shape,)


@register
class Softmax(Operator[SoftmaxAttrs, Params]):
    """Input: x, int8, uint8 or int16. Output: of x's shape and type, of scale 1/256 or 1/32768; from int8 also int16
    of scale 1/65536.

    Of 8-bit inputs, `params` is the table of exponentials: int64 (256,) raw Q0.31 values of exp(scale * beta * -i); 0
    from where TFLite's algorithm treats the difference as too small to count. Of int16, contracts `exact` and `onnx`
    multiply two such tables.
    """

    name = "Softmax"
    attrs = SoftmaxAttrs
    variants = (
        Variant("int16", "softmax16.c.j2", accepts=lambda k: isinstance(k.params, Softmax16), lead=elementwise_lead),
        Variant("portable", "softmax.c.j2", lead=elementwise_lead),
    )

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return softmax_shape(node, inputs)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output are both int8, both uint8 or both int16; in contract `tflite` int8 may become int16."""
        x, y = ctx.input(0).dtype, ctx.output.dtype
        wider = ctx.contract is Contract.TFLITE and y is DType.INT16 and x is DType.INT8
        return wider or (x in (DType.INT8, DType.UINT8, DType.INT16) and y is x)

    @limit
    def output_scale(self, ctx: Context) -> bool:
        """The output has scale 1/256 and the smallest integer as zero point; int16 from int8 has scale 1/65536, int16
        from int16 has scale 1/32768 and zero point 0. Contract `tflite` lets scales be 0.1 % off, as LiteRT does."""
        kind = ctx.output
        both = ctx.input(0).dtype is DType.INT16
        if kind.qparams is None or kind.zero_point != (0 if both else kind.dtype.low):
            return False
        slack = 0.001 if ctx.contract is Contract.TFLITE else 0.0
        return bool(abs(kind.scale * (1 << 8 * kind.dtype.bytes - both) - 1) <= slack)

    @limit
    def input_scale(self, ctx: Context) -> bool:
        """In contract `tflite`, int16 inputs have a scale that, times beta, is below 2.5."""
        x = ctx.input(0)
        free = x.dtype is not DType.INT16 or ctx.contract is not Contract.TFLITE
        return free or Softmax16.of(x.scale, ctx.node.attrs.beta).shift <= LARGEST_SHIFT

    @limit
    def length(self, ctx: Context) -> bool:
        """At most 4095 values are normalised together, so that their sum fits 12 integer bits."""
        axis: int = ctx.node.attrs.axis
        return ctx.input(0).shape[axis] < 1 << _SUM_BITS

    def output_qparams(self, ctx: Context) -> tuple[QParams, ...] | None:
        wide = ctx.output.dtype is DType.INT16
        return (QParams.of(1 / 32768, 0) if wide else QParams.of(1 / 256, -128),)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        a: SoftmaxAttrs = ctx.node.attrs
        assert inputs[0] is not None
        z = np.exp(a.beta * (inputs[0] - inputs[0].max(axis=a.axis, keepdims=True)))
        return [z / z.sum(axis=a.axis, keepdims=True)]

    def lower(self, ctx: Context) -> Params:
        if ctx.input(0).dtype is DType.INT16:
            kind = Softmax16 if ctx.contract is Contract.TFLITE else Exponentials
            return kind.of(ctx.input(0).scale, ctx.node.attrs.beta)
        # PreprocessSoftmaxScaling: the scale of the differences in Q5.26.
        real = min(float(np.float32(ctx.node.attrs.beta)) * ctx.input(0).scale * (1 << (31 - _DIFF_BITS)), 2.0**31 - 1)
        multiplier, shift = fp.quantize_multiplier(real)
        if shift < 0:
            return np.where(np.arange(256) >= 0, fp.INT32_HIGH, 0).astype(np.int64)
        # CalculateInputRadius: differences beyond it would overflow Q5.26.
        radius = int(((1 << _DIFF_BITS) - 1) * (1 << (31 - _DIFF_BITS)) / (1 << shift))
        diff = -np.arange(256, dtype=np.int64)
        counted = diff >= -radius
        scaled = fp.saturating_rounding_doubling_high_mul(np.where(counted, diff, 0) << shift, multiplier)
        return np.where(counted, exp_on_negative_values(scaled, _DIFF_BITS), 0)

    def evaluate(self, ctx: Context, params: Params, inputs: Sequence[Ints | None]) -> list[Ints]:
        a: SoftmaxAttrs = ctx.node.attrs
        assert inputs[0] is not None
        rows = np.moveaxis(inputs[0], a.axis, -1)
        out = np.empty_like(rows)
        low, high = ctx.output.dtype.low, ctx.output.dtype.high
        # 1/256 and 1/65536 of an output that begins at the type's smallest integer, or 1/32768 from 0 on.
        bits = 15 if isinstance(params, Exponentials) else 8 * ctx.output.dtype.bytes
        zero = 0 if isinstance(params, Exponentials) else low
        for index in np.ndindex(rows.shape[:-1]):
            row = rows[index]
            if isinstance(params, Softmax16):
                out[index] = params.apply(row)
                continue
            below = row.max() - row
            if isinstance(params, Exponentials):
                exps = params.apply(below)
                total = int(exps.sum() + (1 << (_SUM_BITS - 1))) >> _SUM_BITS
            else:
                exps = params[below]
                total = int(fp.rounding_divide_by_pot(exps, _SUM_BITS).sum())
            scale, over = reciprocal(total, _SUM_BITS)
            product = fp.saturating_rounding_doubling_high_mul(exps, scale)
            out[index] = np.clip(fp.rounding_divide_by_pot(product, over + 31 - bits) + zero, low, high)
        return [np.moveaxis(out, -1, a.axis)]

    def examples(self) -> Iterator[Graph]:
        for dtype, low, contract in (
            ("int8", -128, Contract.TFLITE),
            ("uint8", 0, Contract.TFLITE),
            ("int8", -128, Contract.EXACT),
        ):
            for shape, axis, scale in (
                ((1, 10), 1, 0.1),
                ((1, 3, 2, 5), 3, 0.02),
                ((1, 4, 3), 1, 1.7),
                ((1, 2), 1, 1e-3),
            ):
                out = (dtype, 1 / 256, low)
                yield single(self.name, SoftmaxAttrs(axis), [quantised(dtype, shape, scale, 3)], [out], contract)
        many = quantised("int8", (1, 1030), 0.001, 3)
        yield single(self.name, SoftmaxAttrs(1), [many], [("int8", 1 / 256, -128)], Contract.EXACT)
        wide = ("int16", 1 / 65536, -32768)
        yield single(self.name, SoftmaxAttrs(1), [quantised("int8", (1, 9), 0.1, 3)], [wide], Contract.TFLITE)
        for shape, axis, scale in (((1, 10), 1, 3e-4), ((1, 3, 4), 1, 0.02)):
            for contract in (Contract.TFLITE, Contract.EXACT):
                x = quantised("int16", shape, scale)
                yield single(self.name, SoftmaxAttrs(axis), [x], [("int16", 1 / 32768, 0)], contract)
