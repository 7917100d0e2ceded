"""How far a quantised graph may be from the real one: a bound that follows from the scales alone.

Every quantised tensor is off its real value by some e. With x' what the integers mean and x the real value,

    |y' - y| <= sup { |f(x) - f(x')| : |x - x'| <= e_x } + r,

f over all operands of the node at once, r the error of the output's own rounding: s_y / 2, nothing where values only
move. Inputs and constants have e = s / 2 and calibration on the very data means that no value lies further outside
its range than s / 2. Of an operator that dictates its output's range, what lies outside is added. docs/numerics.md
says which expression bounds the supremum of which operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph, TensorType
from intaglio.quantizer.ops.accumulate import NO_CLAMP
from intaglio.quantizer.ops.base import Context, context
from intaglio.quantizer.reference import dequantise

Reals = NDArray[np.float64]

GRID = 65
"""Places per interval at which a function that is not monotone is evaluated: the ends, the middle, between."""

WEIGHTED = frozenset(("Conv2D", "DepthwiseConv2D", "FullyConnected", "TransposeConv2D"))
INTERPOLATED = frozenset(
    (
        *("Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Silu", "Gelu", "Elu", "Exp", "Log", "Sqrt", "Rsqrt"),
        *("Reciprocal", "Square", "Erf", "Sin", "Cos", "Softplus", "Mish"),
    )
)
"""Of int16, functions are lines between nodes: what that misses is not bounded here."""

LIPSCHITZ_1 = frozenset(
    (
        *("Clip", "Maximum", "Minimum", "MaxPool2D", "AveragePool2D", "ReduceMax", "ReduceMin", "Mean", "Resize"),
        *("Quantize", "TopK"),
    )
)
"""Selections and weighted means: off by no more than the worst operand."""


def error_bounds(graph: Graph, values: Mapping[str, NDArray[Any]]) -> dict[str, Reals]:
    """Bound the distance of every quantised tensor of a lowered graph from its real value.

    Args:
        values: the integers of one evaluation, by tensor.

    Returns:
        Per tensor an array that broadcasts to it, in real units.
    """
    real = {n: dequantise(v, graph.types[n]).reshape(graph.types[n].shape) for n, v in values.items()}
    errors = {n: _half_step(graph.types[n]) for n in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        ctx = context(graph, node)
        operands = [real[n] if n else None for n in node.inputs]
        spread = _spread(node.op)(ctx, operands, [errors[n] if n else None for n in node.inputs])
        for out in node.outputs:
            errors[out] = spread + _rounding(ctx, graph.types[out], operands, spread)
    return errors


def _half_step(kind: TensorType) -> Reals:
    if kind.qparams is None:
        return np.zeros(())
    scale = np.array(kind.qparams.scale) / 2
    if kind.qparams.axis is None:
        return scale.reshape(())
    shape = [1] * len(kind.shape)
    shape[kind.qparams.axis] = -1
    return scale.reshape(shape)


def _rounding(ctx: Context, kind: TensorType, operands: list[Any], spread: Reals) -> Reals:
    """Half a step for the output, and what a dictated range does not hold."""
    op = ops.operator(ctx.node.op)
    if kind.qparams is None or (op.same_scale and getattr(ctx.node.attrs, "mode", "") != "bilinear"):
        return np.zeros(())
    if op.output_qparams(ctx) is None:
        return _half_step(kind)
    (exact,) = op.reference(ctx, operands)
    low, high = (kind.scale * (v - kind.zero_point) for v in (kind.dtype.low, kind.dtype.high))
    # 0.5001: the algorithms of Softmax and LogSoftmax, as docs/numerics.md states.
    outside = np.maximum(np.maximum(low - (exact - spread), (exact + spread) - high), 0)
    return np.asarray(kind.scale * 0.5001 + outside)


Spread = Callable[[Context, list[Any], list[Any]], Reals]


def _spread(op: str) -> Spread:
    if op in WEIGHTED:
        return _weighted
    if op in LIPSCHITZ_1 or ops.operator(op).same_scale or ops.operator(op).alias:
        return _worst
    return {"Add": _added, "Sub": _added, "Sum": _summed, "Mul": _product, "BatchMatMul": _product, "Div": _quotient,
            "PRelu": _prelu, "Softmax": _softmax, "LogSoftmax": _log_softmax,
            "ArgMax": _index, "ArgMin": _index, "Cast": _index}.get(op, _function)  # fmt: skip


def _bare(ctx: Context) -> Context:
    """Without its activation, which brings values no further apart."""
    attrs = ctx.node.attrs
    return (
        replace(ctx, node=replace(ctx.node, attrs=replace(attrs, clamp=NO_CLAMP))) if hasattr(attrs, "clamp") else ctx
    )


def _evaluate(ctx: Context, *operands: Any) -> Reals:
    shapes = [t.shape for t in ctx.inputs if t is not None]
    given = [np.broadcast_to(v, shape) for v, shape in zip(operands, shapes, strict=False)]
    return np.asarray(ops.operator(ctx.node.op).reference(_bare(ctx), given)[0])


def _worst(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    return np.asarray(max(float(np.max(v)) for v in e if v is not None))


def _weighted(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    """|w| e_x + e_w (|x| + e_x), the bias's rounding, and the bias correction: at most the largest of e_w |x|."""
    by_weights = _evaluate(ctx, np.abs(x[0]) + e[0], e[1])
    correction = by_weights.reshape(-1, by_weights.shape[-1]).max(axis=0)
    bias = np.ravel(e[2]) if len(e) > 2 and e[2] is not None else 0.0
    return np.asarray(_evaluate(ctx, e[0], np.abs(x[1])) + by_weights + correction + bias)


def _added(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    return np.asarray(e[0] + e[1])


def _summed(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    return _evaluate(ctx, e[0])


def _product(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    """|x| e_y + e_x |y| + e_x e_y."""
    return np.asarray(
        _evaluate(ctx, np.abs(x[0]), e[1]) + _evaluate(ctx, e[0], np.abs(x[1])) + _evaluate(ctx, e[0], e[1])
    )


def _quotient(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    """|x' / y' - x / y| <= (e_x + |x' / y'| e_y) / (|y'| - e_y)."""
    least = np.abs(x[1]) - e[1]
    assert np.all(least > 0)
    return np.asarray((e[0] + np.abs(x[0] / x[1]) * e[1]) / least)


def _prelu(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    return np.asarray(np.maximum(np.abs(x[1]), 1) * e[0] + (np.abs(x[0]) + e[0]) * e[1])


def _softmax(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    """All other inputs move one way, this one the other: p becomes p t / (1 - p + p t), t = exp(+-2 e)."""
    delta = 2 * float(np.max(e[0])) * ctx.node.attrs.beta
    p = _evaluate(ctx, x[0])
    with np.errstate(over="ignore", invalid="ignore"):
        moved = [np.where(p > 0, p / (p + (1 - p) * np.exp(-d)), 0.0) for d in (delta, -delta)]
    # A probability of 0 in binary64 may become any when 2 e is that large.
    moved[0] = np.where((p == 0) & (delta > 700), 1.0, moved[0])
    return np.asarray(np.maximum(np.abs(moved[0] - p), np.abs(moved[1] - p)))


def _log_softmax(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    return np.asarray(2 * float(np.max(e[0])))


def _index(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    """Integers of their own."""
    return np.zeros(())


def _function(ctx: Context, x: list[Any], e: list[Any]) -> Reals:
    """The largest change over a grid on [x - e, x + e] with 0: the very ends for what is monotone between them."""
    assert len(x) == 1, f"no bound is stated for {ctx.node.op}"
    op = ops.operator(ctx.node.op)
    steps = np.linspace(-1, 1, GRID).reshape(-1, *(1,) * x[0].ndim)
    places = x[0] + steps * e[0]
    zero = np.clip(0.0, x[0] - e[0], x[0] + e[0])
    places = np.concatenate([places, zero[None]])
    (there,), (here,) = op.reference(ctx, [places]), op.reference(ctx, [x[0]])
    return np.asarray(np.abs(there - here).max(axis=0))
