"""Translators of TFLite's elementwise operators, activations and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intaglio.quantizer.frontends.tflite_options import (
    AddOptions,
    DivOptions,
    GeluOptions,
    LeakyReluOptions,
    MulOptions,
    SoftmaxOptions,
    SubOptions,
)
from intaglio.quantizer.frontends.tflite_values import Array, Builder, Translator, dequantised
from intaglio.quantizer.realmath import round_away


def _binary(op: str, kind: Any) -> Translator:
    def translate(b: Builder) -> None:
        names = [_operand(b, i) for i in (0, 1)]
        attrs: dict[str, Any] = {}
        if kind is not None:
            o = b.options(kind)
            attrs["clamp"] = b.clamp(o.activation)
            if hasattr(o, "pot_scale_int16"):
                attrs["shifts"] = o.pot_scale_int16
        b.emit(op, names, (b.output(),), **attrs)

    return translate


def _operand(b: Builder, position: int) -> str:
    """An input; constants of a real-valued operator are dequantised."""
    number = b.input(position)
    real = any(b.type(b.input(i)).dtype.is_float for i in (0, 1))
    return b.real(number) if real else b.name(number)


def _unary(op: str, **attrs: Any) -> Translator:
    def translate(b: Builder) -> None:
        b.emit(op, (b.name(b.input(0)),), (b.output(),), **attrs)

    return translate


def _leaky_relu(b: Builder) -> None:
    alpha = b.options(LeakyReluOptions).alpha
    if not math.isfinite(alpha):
        raise b.fail(f"alpha {alpha}")
    _unary("LeakyRelu", alpha=alpha)(b)


def _gelu(b: Builder) -> None:
    _unary("Gelu", approximate=b.options(GeluOptions).approximate)(b)


def _softmax(b: Builder) -> None:
    beta = b.options(SoftmaxOptions).beta
    if not math.isfinite(beta) or beta <= 0:
        raise b.fail(f"beta {beta}")
    _unary("Softmax", axis=_last(b), beta=beta)(b)


def _log_softmax(b: Builder) -> None:
    _unary("LogSoftmax", axis=_last(b))(b)


def _last(b: Builder) -> int:
    rank = len(b.type(b.input(0)).shape)
    if rank == 0:
        raise b.fail("a scalar")
    return rank - 1


def _quantize(b: Builder) -> None:
    source, target = b.input(0), b.subgraph.tensors[b.output()]
    value, q = b.constant(source), target.quantisation
    if b.type(source).dtype.is_float and value is not None and q is not None and len(q.scale) == 1:
        limits = np.iinfo(target.type)
        rounded = round_away(value / np.float32(q.scale[0])) + q.zero_point[0]
        b.fold(b.output(), np.clip(rounded, limits.min, limits.max).astype(target.type))
        return
    _unary("Quantize")(b)


def _dequantize(b: Builder) -> None:
    """Only of constants here; those at the graph's outputs are cut before the translation."""
    number = b.input(0)
    value, kind = b.constant(number), b.type(number)
    if value is None:
        raise b.unsupported(
            f"'{b.names[number]}' becomes float in the middle of a quantised model",
            "quantise the operators after it too, so that only the outputs are float",
        )
    real: Array = value if kind.qparams is None else dequantised(value, kind.qparams)
    b.fold(b.output(), real.astype(np.float32))


def _cast(b: Builder) -> None:
    source, target = b.type(b.input(0)), b.subgraph.tensors[b.output()]
    if source.dtype.is_float != target.type.startswith("float"):
        raise b.unsupported(f"{source.dtype} to {target.type}", "casts among integers are supported")
    _unary("Cast")(b)


POINTS: dict[str, Translator] = {
    "ADD": _binary("Add", AddOptions),
    "SUB": _binary("Sub", SubOptions),
    "MUL": _binary("Mul", MulOptions),
    "DIV": _binary("Div", DivOptions),
    "MAXIMUM": _binary("Maximum", None),
    "MINIMUM": _binary("Minimum", None),
    "RELU": _unary("Clip", low=0.0, high=None),
    "RELU6": _unary("Clip", low=0.0, high=6.0),
    "RELU_N1_TO_1": _unary("Clip", low=-1.0, high=1.0),
    "RELU_0_TO_1": _unary("Clip", low=0.0, high=1.0),
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _binary("PRelu", None),
    "LOGISTIC": _unary("Sigmoid"),
    "TANH": _unary("Tanh"),
    "HARD_SWISH": _unary("HardSwish"),
    "GELU": _gelu,
    "ELU": _unary("Elu"),
    "EXP": _unary("Exp"),
    "LOG": _unary("Log"),
    "SQRT": _unary("Sqrt"),
    "RSQRT": _unary("Rsqrt"),
    "SQUARE": _unary("Square"),
    "ABS": _unary("Abs"),
    "NEG": _unary("Neg"),
    "SIN": _unary("Sin"),
    "COS": _unary("Cos"),
    "FLOOR": _unary("Floor"),
    "ROUND": _unary("Round"),
    "SOFTMAX": _softmax,
    "LOG_SOFTMAX": _log_softmax,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
    "CAST": _cast,
}
