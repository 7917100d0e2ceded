"""QOperator models: QLinearConv, QLinearMatMul and the com.microsoft operators that onnxruntime's quantiser writes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intaglio.quantizer.frontends.onnx_layers import (
    Attributes,
    Translator,
    add_conv,
    add_dense,
    add_product,
    global_pool,
    pool,
)
from intaglio.quantizer.frontends.onnx_points import POINTS
from intaglio.quantizer.frontends.onnx_qdq import one_scale, scale_of
from intaglio.quantizer.frontends.onnx_shapes import concat
from intaglio.quantizer.frontends.onnx_values import Builder, Constant
from intaglio.quantizer.ir import DType, TensorType


def typed(b: Builder, name: str, scale: str, zero: str) -> None:
    """Give a quantised operand the scale that the node states; a tensor that has one must agree."""
    qparams, dtype = scale_of(b, ["", scale, zero], {}, None)
    if name in b.constants:
        b.constants[name] = Constant(b.constants[name].data, qparams)
        return
    one_scale(b, qparams)
    tensor = b.value(name).tensor
    known = b.types[tensor]
    if known.dtype is not dtype:
        raise b.fail(f"'{name}' is {known.dtype}, its zero point {dtype}", "re-export the model")
    if known.qparams is None:
        b.types[tensor] = TensorType(known.dtype, known.shape, qparams)
    elif known.qparams != qparams:
        raise b.fail(f"'{name}' was quantised with another scale", "quantise the model again")


def result(b: Builder, scale: str, zero: str) -> TensorType:
    """The type of a node's output from its scale and zero point."""
    qparams, dtype = scale_of(b, ["", scale, zero], {}, None)
    return TensorType(dtype, (), one_scale(b, qparams))


def retype(b: Builder, name: str, kind: TensorType) -> None:
    """Give the output that a translator has just made its quantised type."""
    tensor = b.value(name).tensor
    b.types[tensor] = TensorType(kind.dtype, b.shape(tensor), kind.qparams)


def weights_of(b: Builder, name: str, scale: str, zero: str, axis: int) -> Constant:
    """Constant weights with per-tensor or per-channel scales."""
    data = b.constant(name).data
    qparams, _ = scale_of(b, ["", scale, zero], {"axis": axis}, DType(str(data.dtype)))
    return Constant(data, qparams)


def bias_of(b: Builder, name: str) -> Constant:
    """An int32 bias in units of the accumulator, as QLinearConv defines it."""
    data = b.constant(name).data
    if data.dtype != np.int32:
        raise b.fail(f"a bias of {data.dtype}", "quantise the model again")
    return Constant(data)


def qlinear_conv(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    typed(b, ins[0], ins[1], ins[2])
    weights = weights_of(b, ins[3], ins[4], ins[5], 0)
    bias = bias_of(b, ins[8]) if len(ins) > 8 and ins[8] else None
    add_conv(b, ins[0], weights, bias, outs[0], a, result(b, ins[6], ins[7]))


def qlinear_matmul(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    typed(b, ins[0], ins[1], ins[2])
    if ins[3] in b.constants:
        b.constants[ins[3]] = weights_of(b, ins[3], ins[4], ins[5], -1)
    else:
        typed(b, ins[3], ins[4], ins[5])
    add_product(b, ins[0], ins[3], outs[0], result(b, ins[6], ins[7]))


def qgemm(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    if a.get("transA", 0) or float(a.get("alpha", 1.0)) != 1:
        raise b.fail("transA or alpha", "quantise the model without them")
    if len(ins) < 9:
        raise b.fail("a real output", "quantise the output too")
    typed(b, ins[0], ins[1], ins[2])
    transposed = bool(a.get("transB", 0))
    weights = weights_of(b, ins[3], ins[4], ins[5], 0 if transposed else 1)
    matrix = Constant(weights.data if transposed else weights.data.T, weights.qparams)
    bias = bias_of(b, ins[6]) if ins[6] else None
    add_dense(b, ins[0], matrix, bias, outs[0], keep=False, kind=result(b, ins[7], ins[8]))


def qlinear_binary(translate: Translator) -> Translator:
    """QLinearAdd, QLinearMul: A, its scale and zero point, B, likewise, then those of the output."""

    def translated(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
        typed(b, ins[0], ins[1], ins[2])
        typed(b, ins[3], ins[4], ins[5])
        translate(b, [ins[0], ins[3]], outs, a)
        retype(b, outs[0], result(b, ins[6], ins[7]))

    return translated


def qlinear_unary(translate: Translator) -> Translator:
    """X, its scale and zero point, then those of the output."""

    def translated(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
        if a.get("channels_last", 0):
            raise b.fail("channels_last", "quantise the model before layout optimisation")
        typed(b, ins[0], ins[1], ins[2])
        translate(b, [ins[0]], outs, a)
        retype(b, outs[0], result(b, ins[3], ins[4]))

    return translated


def qlinear_concat(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    operands = [ins[i : i + 3] for i in range(2, len(ins), 3)]
    for x, scale, zero in operands:
        typed(b, x, scale, zero)
    concat(b, [x for x, _, _ in operands], outs, a)
    retype(b, outs[0], result(b, ins[0], ins[1]))


QLINEAR: dict[str, Translator] = {
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QGemm": qgemm,
    "QLinearAdd": qlinear_binary(POINTS["Add"]),
    "QLinearMul": qlinear_binary(POINTS["Mul"]),
    "QLinearAveragePool": qlinear_unary(pool("average")),
    "QLinearGlobalAveragePool": qlinear_unary(global_pool("average")),
    "QLinearSigmoid": qlinear_unary(POINTS["Sigmoid"]),
    "QLinearLeakyRelu": qlinear_unary(POINTS["LeakyRelu"]),
    "QLinearConcat": qlinear_concat,
}
