"""Operators of TFLite whose inputs are known: evaluated while reading, since most of them compute shapes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from intaglio.quantizer.frontends.tflite_options import AddOptions, DivOptions, MulOptions, SubOptions
from intaglio.quantizer.frontends.tflite_shapes import (
    gathered,
    joined_axis,
    packed_axis,
    permutation,
    reduced_axes,
    reshaped,
    sliced,
)
from intaglio.quantizer.frontends.tflite_values import MAX_ELEMENTS, Array, Builder

Fold = Callable[[Builder, list[Array]], Array]


def fold(b: Builder) -> bool:
    """Evaluate the current operator when its value is known; False when it is not."""
    assert b.operator is not None
    op, numbers = b.operator.builtin, [n for n in b.operator.inputs if n >= 0]
    if op == "SHAPE":
        b.fold(b.output(), _shape(b, []))
        return True
    if op not in FOLDS or not numbers or any(n in b.handles for n in numbers):
        return False
    values = [b.constant(n) for n in numbers]
    known = [v for v in values if v is not None]
    if len(known) < len(values) or any(b.type(n).qparams is not None for n in numbers):
        return False
    try:
        with np.errstate(all="ignore"):
            result = FOLDS[op](b, known)
    except ValueError as error:
        raise b.fail(f"its constants do not fit together ({error})") from None
    b.fold(b.output(), np.asarray(result))
    return True


def _shape(b: Builder, v: list[Array]) -> Array:
    """The shape is known even where the values are not."""
    kind = "int64" if b.subgraph.tensors[b.output()].type == "int64" else "int32"
    return np.array(b.type(b.input(0)).shape, kind)


def _broadcast(function: Callable[[Array, Array], Array], kind: Any = None) -> Fold:
    def evaluate(b: Builder, v: list[Array]) -> Array:
        if len(v) != 2 or prod(np.broadcast_shapes(*(a.shape for a in v))) > MAX_ELEMENTS:
            raise b.fail("constants that do not fit together")
        result = np.asarray(function(v[0], v[1]))
        if kind is not None:
            result = np.asarray(b.clamp(b.options(kind).activation).apply(result))
        return result.astype(v[0].dtype)

    return evaluate


def _divide(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return np.asarray(x / y)
    if not np.all(y):
        raise ValueError("division by zero")
    return np.asarray(np.trunc(x / y))


def _floor_divide(x: Array, y: Array) -> Array:
    if x.dtype.kind != "f" and not np.all(y):
        raise ValueError("division by zero")
    return np.asarray(x // y)


def _cast(b: Builder, v: list[Array]) -> Array:
    wanted = b.subgraph.tensors[b.output()].type
    if wanted not in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool", "float32"):
        raise b.unsupported(f"a cast to {wanted}")
    return v[0].astype(wanted)


def _slice(b: Builder, v: list[Array]) -> Array:
    cuts, shape = sliced(b)
    # A negative bound after a negative step means "to the front", which Python spells None.
    index = tuple(slice(c.start, None if c.stop < 0 else c.stop, c.step) for c in cuts)
    return v[0][index].reshape(shape)


def _bounded(b: Builder, v: list[Array]) -> list[Array]:
    """The constants to be joined: a file may name one of them many times."""
    if sum(a.size for a in v) > MAX_ELEMENTS:
        raise b.fail("joins more than a microcontroller holds")
    return v


def _gather(b: Builder, v: list[Array]) -> Array:
    axis = gathered(b)
    if v[0].size // v[0].shape[axis] * v[1].size > MAX_ELEMENTS:
        raise b.fail("gathers more than a microcontroller holds")
    return np.asarray(np.take(v[0], v[1], axis))


def _fill(b: Builder, v: list[Array]) -> Array:
    shape = b.integers(0, "shape")
    if any(n < 1 for n in shape) or prod(shape) > MAX_ELEMENTS or v[1].size != 1:
        raise b.fail(f"shape {list(shape)}")
    return np.full(shape, v[1].ravel()[0], v[1].dtype)


FOLDS: dict[str, Fold] = {
    "SHAPE": _shape,
    "ADD": _broadcast(np.add, AddOptions),
    "SUB": _broadcast(np.subtract, SubOptions),
    "MUL": _broadcast(np.multiply, MulOptions),
    "DIV": _broadcast(_divide, DivOptions),
    "FLOOR_DIV": _broadcast(_floor_divide),
    "MAXIMUM": _broadcast(np.maximum),
    "MINIMUM": _broadcast(np.minimum),
    "CAST": _cast,
    "RESHAPE": lambda b, v: v[0].reshape(reshaped(b)),
    "SQUEEZE": lambda b, v: v[0].reshape(reshaped(b)),
    "EXPAND_DIMS": lambda b, v: v[0].reshape(reshaped(b)),
    "TRANSPOSE": lambda b, v: np.ascontiguousarray(v[0].transpose(permutation(b))),
    "CONCATENATION": lambda b, v: np.concatenate(_bounded(b, v), joined_axis(b)),
    "PACK": lambda b, v: np.stack(_bounded(b, v), packed_axis(b)),
    "GATHER": _gather,
    "SLICE": _slice,
    "STRIDED_SLICE": _slice,
    "REDUCE_PROD": lambda b, v: np.prod(v[0], axis=reduced_axes(b), dtype=v[0].dtype),
    "FILL": _fill,
}
