"""ONNX operators on single elements, softmax, and those that vanish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from intaglio.quantizer.frontends.onnx_layers import Attributes, Translator
from intaglio.quantizer.frontends.onnx_shapes import binary
from intaglio.quantizer.frontends.onnx_values import REALS, Builder, Constant, Layout, stored_axis
from intaglio.quantizer.ir import Attrs, DType, TensorType
from intaglio.quantizer.ops.abs import AbsAttrs
from intaglio.quantizer.ops.add import AddAttrs
from intaglio.quantizer.ops.cast import CastAttrs
from intaglio.quantizer.ops.ceil import CeilAttrs
from intaglio.quantizer.ops.clip import ClipAttrs
from intaglio.quantizer.ops.cos import CosAttrs
from intaglio.quantizer.ops.div import DivAttrs
from intaglio.quantizer.ops.elu import EluAttrs
from intaglio.quantizer.ops.erf import ErfAttrs
from intaglio.quantizer.ops.exp import ExpAttrs
from intaglio.quantizer.ops.floor import FloorAttrs
from intaglio.quantizer.ops.gelu import GeluAttrs
from intaglio.quantizer.ops.hard_sigmoid import HardSigmoidAttrs
from intaglio.quantizer.ops.hard_swish import HardSwishAttrs
from intaglio.quantizer.ops.leaky_relu import LeakyReluAttrs
from intaglio.quantizer.ops.log import LogAttrs
from intaglio.quantizer.ops.log_softmax import LogSoftmaxAttrs
from intaglio.quantizer.ops.maximum import MaximumAttrs
from intaglio.quantizer.ops.minimum import MinimumAttrs
from intaglio.quantizer.ops.mish import MishAttrs
from intaglio.quantizer.ops.mul import MulAttrs
from intaglio.quantizer.ops.neg import NegAttrs
from intaglio.quantizer.ops.p_relu import PReluAttrs
from intaglio.quantizer.ops.reciprocal import ReciprocalAttrs
from intaglio.quantizer.ops.round import RoundAttrs
from intaglio.quantizer.ops.sigmoid import SigmoidAttrs
from intaglio.quantizer.ops.silu import SiluAttrs
from intaglio.quantizer.ops.sin import SinAttrs
from intaglio.quantizer.ops.softmax import SoftmaxAttrs
from intaglio.quantizer.ops.softplus import SoftplusAttrs
from intaglio.quantizer.ops.sqrt import SqrtAttrs
from intaglio.quantizer.ops.sub import SubAttrs
from intaglio.quantizer.ops.tanh import TanhAttrs


def unary(op: str, attrs: Callable[[Builder, Sequence[str], Attributes], Attrs]) -> Translator:
    """An operator on each element: the layout stays."""

    def translate(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
        value = b.value(ins[0])
        b.set_like(outs[0], b.emit(op, attrs(b, ins, a), [value.tensor], outs[0])[0], value)

    return translate


def _clip(b: Builder, ins: Sequence[str], a: Attributes) -> ClipAttrs:
    """Bounds, inputs since opset 11; an absent bound, or the type's limit, is none."""
    bounds: list[float | None] = []
    for i, name in ((1, "min"), (2, "max")):
        if len(ins) > i and ins[i]:
            value = float(b.constant(ins[i]).data.ravel()[0])
        else:
            value = float(a.get(name, np.inf))
        if np.isnan(value):
            raise b.fail("a bound that is not a number", "re-export the model")
        bounds.append(value if abs(value) < 3.4e38 else None)
    low, high = bounds
    if low is not None and high is not None:
        # Bounds that cross: everything becomes the maximum.
        low = min(low, high)
    return ClipAttrs(low, high)


def prelu(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """Slopes differ along axis 1 of an image, which is the last once it is channels-last, or along the last axis."""
    value, slope = b.value(ins[0]), b.constant(ins[1])
    data = slope.data.reshape((1,) * (len(value.shape) - slope.data.ndim) + slope.data.shape)
    image = len(value.shape) in (3, 4) and data.size > 1 and data.shape[-1] == 1
    if image:
        data = data[:, :, None] if data.ndim == 3 else data
        data = data.transpose(0, 2, 3, 1)
    tensor = b.last(ins[0]) if image else value.tensor if data.size == 1 else b.plain(ins[0])
    made = b.emit("PRelu", PReluAttrs(), [tensor, b.add_constant(ins[1], data, slope.qparams)], outs[0])[0]
    if image:
        b.set_image(outs[0], made, len(value.shape))
    elif data.size == 1:
        b.set_like(outs[0], made, value)
    else:
        b.set(outs[0], made, value.shape)


def softmax(op: str, attrs: Callable[[int], Attrs], opset: int) -> Translator:
    """Softmax and LogSoftmax; before opset 13 all axes from `axis` on count as one."""

    def translate(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
        value = b.value(ins[0])
        rank = len(value.shape)
        axis = int(a.get("axis", 1 if opset < 13 else -1))
        if not -rank <= axis < rank:
            raise b.fail(f"axis {axis} of {list(value.shape)}", "re-export the model")
        axis %= rank
        if opset < 13 and prod(value.shape[axis + 1 :]) != 1:
            rows = b.reshaped(b.plain(ins[0]), (prod(value.shape[:axis]), prod(value.shape[axis:])))
            made = b.emit(op, attrs(1), [rows], outs[0])[0]
            b.set(outs[0], b.reshaped(made, value.shape), value.shape)
        elif value.layout is Layout.FLAT:
            b.set(outs[0], b.emit(op, attrs(axis), [b.plain(ins[0])], outs[0])[0], value.shape)
        else:
            made = b.emit(op, attrs(stored_axis(value, axis)), [value.tensor], outs[0])[0]
            b.set_like(outs[0], made, value)

    return translate


def identity(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """Identity, and Cast among reals."""
    b.values[outs[0]] = b.value(ins[0])


def cast(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """Among reals it says nothing, the quantiser choosing the type; among integers it is ours."""
    from onnx import helper

    value = b.value(ins[0])
    known = b.types[value.tensor]
    target = helper.tensor_dtype_to_np_dtype(int(a["to"]))
    if known.dtype.is_float and str(target) in REALS:
        identity(b, ins, outs, a)
        return
    if known.dtype.is_float or target.kind not in "iub" or known.qparams is not None:
        raise b.fail(f"casts {known.dtype} to {target} at run time", "let the model take and give reals or integers")
    kind = TensorType(DType(str(target)), ())
    b.set_like(outs[0], b.emit("Cast", CastAttrs(), [value.tensor], outs[0], kind)[0], value)


def mean(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """The mean of several values: their sum times a constant."""
    total, factor = f"{outs[0]}/sum", f"{outs[0]}/factor"
    POINTS["Sum"](b, ins, [total], {})
    b.constants[factor] = Constant(np.array(1 / len(ins), np.float32))
    POINTS["Mul"](b, [total, factor], outs, {})


def selu(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """gamma * Elu(x)."""
    value = b.value(ins[0])
    alpha, gamma = float(a.get("alpha", 1.6732631921768188)), float(a.get("gamma", 1.0507010221481323))
    inner, factor = f"{outs[0]}/elu", f"{outs[0]}/gamma"
    b.set_like(inner, b.emit("Elu", EluAttrs(alpha), [value.tensor], inner)[0], value)
    b.constants[factor] = Constant(np.array(gamma, np.float32))
    POINTS["Mul"](b, [inner, factor], outs, {})


def swish(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """x * sigmoid(alpha * x)."""
    if float(a.get("alpha", 1.0)) != 1:
        raise b.fail(f"alpha {a['alpha']}", "only 1 is supported")
    value = b.value(ins[0])
    b.set_like(outs[0], b.emit("Silu", SiluAttrs(), [value.tensor], outs[0])[0], value)


def dropout(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """Nothing at inference."""
    training = len(ins) > 2 and ins[2] and bool(b.constant(ins[2]).data)
    ratio = float(b.constant(ins[1]).data) if len(ins) > 1 and ins[1] else float(a.get("ratio", 0.5))
    if training and ratio:
        raise b.fail("training mode", "export the model for inference")
    identity(b, ins, outs, a)


def power(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """x to the power of a constant that has an operator."""
    exponent = b.constant(ins[1]).data.ravel()
    by_constant = {1: ("Identity", 1), 2: ("Mul", 2), 0.5: ("Sqrt", 1), -1: ("Reciprocal", 1)}
    if exponent.size != 1 or exponent[0] not in by_constant:
        raise b.fail(f"exponent {exponent[:4].tolist()}", "one of 1, 2, 0.5, -1 for all elements is supported")
    op, operands = by_constant[float(exponent[0])]
    POINTS[op](b, [ins[0]] * operands, outs, {})


POINTS: dict[str, Translator] = {
    "Add": binary("Add", AddAttrs),
    "Sum": binary("Add", AddAttrs),
    "Sub": binary("Sub", SubAttrs),
    "Mul": binary("Mul", MulAttrs),
    "Div": binary("Div", DivAttrs),
    "Max": binary("Maximum", MaximumAttrs),
    "Min": binary("Minimum", MinimumAttrs),
    "Pow": power,
    "Relu": unary("Clip", lambda b, ins, a: ClipAttrs(0.0, None)),
    "Clip": unary("Clip", _clip),
    "LeakyRelu": unary("LeakyRelu", lambda b, ins, a: LeakyReluAttrs(float(a.get("alpha", 0.01)))),
    "PRelu": prelu,
    "Sigmoid": unary("Sigmoid", lambda b, ins, a: SigmoidAttrs()),
    "Tanh": unary("Tanh", lambda b, ins, a: TanhAttrs()),
    "HardSigmoid": unary(
        "HardSigmoid", lambda b, ins, a: HardSigmoidAttrs(float(a.get("alpha", 0.2)), float(a.get("beta", 0.5)))
    ),
    "HardSwish": unary("HardSwish", lambda b, ins, a: HardSwishAttrs()),
    "Gelu": unary("Gelu", lambda b, ins, a: GeluAttrs(a.get("approximate", "none") == "tanh")),
    "Elu": unary("Elu", lambda b, ins, a: EluAttrs(float(a.get("alpha", 1.0)))),
    "Exp": unary("Exp", lambda b, ins, a: ExpAttrs()),
    "Sqrt": unary("Sqrt", lambda b, ins, a: SqrtAttrs()),
    "Abs": unary("Abs", lambda b, ins, a: AbsAttrs()),
    "Neg": unary("Neg", lambda b, ins, a: NegAttrs()),
    "Log": unary("Log", lambda b, ins, a: LogAttrs()),
    "Reciprocal": unary("Reciprocal", lambda b, ins, a: ReciprocalAttrs()),
    "Erf": unary("Erf", lambda b, ins, a: ErfAttrs()),
    "Sin": unary("Sin", lambda b, ins, a: SinAttrs()),
    "Cos": unary("Cos", lambda b, ins, a: CosAttrs()),
    "Softplus": unary("Softplus", lambda b, ins, a: SoftplusAttrs()),
    "Mish": unary("Mish", lambda b, ins, a: MishAttrs()),
    "Floor": unary("Floor", lambda b, ins, a: FloorAttrs()),
    "Ceil": unary("Ceil", lambda b, ins, a: CeilAttrs()),
    "Round": unary("Round", lambda b, ins, a: RoundAttrs()),
    "Swish": swish,
    "Selu": selu,
    "Mean": mean,
    "Cast": cast,
    "Identity": identity,
    "Dropout": dropout,
}


def softmaxes(opset: int) -> dict[str, Translator]:
    """The translators whose meaning depends on the opset."""
    return {
        "Softmax": softmax("Softmax", lambda axis: SoftmaxAttrs(axis), opset),
        "LogSoftmax": softmax("LogSoftmax", lambda axis: LogSoftmaxAttrs(axis), opset),
    }
