"""Evaluate a graph on the host: over the reals, over the device's integers, or by the contract's definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.errors import GraphError
from intaglio.quantizer.ir import Graph, TensorType
from intaglio.quantizer.ops.base import Context, Operator, context
from intaglio.quantizer.passes.lower import constant_ranges

Values = dict[str, NDArray[Any]]


class Mode(StrEnum):
    """What an evaluation computes."""

    REAL = "real"
    """Float64 meaning of every operator; quantised constants are dequantised."""
    INTEGER = "integer"
    """The integer reference: the device's arithmetic. The graph must be lowered."""
    DEFINED = "defined"
    """The contract's definition in exact arithmetic, each layer from the integers of the one before."""


class Evaluator:
    """Runs a graph sample by sample and keeps its state between them.

    Args:
        graph: quantised (INTEGER: lowered) or real-valued.
        mode: what to compute.
    """

    def __init__(self, graph: Graph, mode: Mode) -> None:
        self.graph = graph
        self.mode = mode
        self._steps: list[tuple[Operator[Any, Any], Context]] = []
        ranges = constant_ranges(graph)
        for node in graph.nodes:
            op, ctx = ops.operator(node.op, str(node)), context(graph, node, ranges)
            if node.params is not None:
                ranges.update(zip(node.outputs, op.output_ranges(ctx, node.params), strict=True))
            self._steps.append((op, ctx))
        self._constants: Values = {
            name: dequantise(value, graph.types[name]) if mode is Mode.REAL else widen(value)
            for name, value in graph.constants.items()
        }
        self.reset()

    def reset(self) -> None:
        """Give the variables their initial values."""
        self.state: Values = {
            name: dequantise(v.initial, v.type) if self.mode is Mode.REAL else widen(v.initial)
            for name, v in self.graph.variables.items()
        }

    def run(self, inputs: Sequence[NDArray[Any]], instead: Mapping[str, NDArray[Any]] | None = None) -> Values:
        """Evaluate one sample.

        Args:
            inputs: one per graph input, of its shape; integers, or reals in mode REAL.
            instead: by tensor, what its readers are given in place of what was computed for it.

        Returns:
            Every tensor by name: int64, or float64 in mode REAL.

        Raises:
            GraphError: the number or shape of the inputs is wrong.
        """
        graph = self.graph
        if len(inputs) != len(graph.inputs):
            raise GraphError(graph.name, f"{len(inputs)} inputs given", f"give {len(graph.inputs)}")
        values: Values = dict(self._constants)
        instead = instead or {}
        for name, value in zip(graph.inputs, inputs, strict=True):
            shape = graph.types[name].shape
            if value.size != graph.types[name].elements:
                raise GraphError(name, f"input of shape {list(value.shape)}", f"give shape {list(shape)}")
            values[name] = np.asarray(value).reshape(shape).astype(np.float64 if self.mode is Mode.REAL else np.int64)
        for op, ctx in self._steps:
            node = ctx.node
            operands = [instead.get(name, values[name]) if name else None for name in node.inputs]
            variable = getattr(node.attrs, "variable", None)
            if variable is not None:
                # Variables are the evaluator's: operators stay pure.
                if node.outputs:
                    values[node.outputs[0]] = self.state[variable]
                else:
                    self.state[variable] = values[node.inputs[0]]
                continue
            kept = getattr(node.attrs, "state_variable", None)
            if kept is not None:
                # Handed in after the inputs, handed back after the outputs.
                operands.append(self.state[kept])
            results: Sequence[NDArray[Any]]
            if self.mode is Mode.REAL:
                results = op.reference(ctx, operands)
            elif self.mode is Mode.INTEGER:
                results = op.evaluate(ctx, node.params, operands)
            else:
                results = op.define(ctx, operands)
            if kept is not None:
                *results, self.state[kept] = results
            for name, result in zip(node.outputs, results, strict=True):
                values[name] = result.reshape(graph.types[name].shape)
        return values


def widen(value: NDArray[Any]) -> NDArray[Any]:
    """Return integers as int64, reals as float64."""
    return value.astype(np.float64 if value.dtype.kind == "f" else np.int64)


def dequantise(value: NDArray[Any], kind: TensorType) -> NDArray[np.float64]:
    """Return scale * (integer - zero_point) as float64; a tensor without scale keeps its values."""
    q = kind.qparams
    if q is None:
        return value.astype(np.float64)
    scale, zero = np.array(q.scale, np.float64), np.array(q.zero_point, np.float64)
    if q.axis is not None:
        shape = [1] * len(kind.shape)
        shape[q.axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    real: NDArray[np.float64] = scale * (value.astype(np.float64) - zero)
    return real


def quantise(value: NDArray[Any], kind: TensorType) -> NDArray[np.int64]:
    """Return clip(round_half_even(value / scale) + zero_point) per tensor: how samples enter a model."""
    scaled = np.rint(np.asarray(value, np.float64) / kind.scale) + kind.zero_point
    return np.asarray(np.clip(scaled, kind.dtype.low, kind.dtype.high), np.int64)


def surviving(value: NDArray[Any], tensor: str, graph: Graph) -> NDArray[Any]:
    """Of a tensor's values before dead channels were eliminated, those of the channels that the graph kept."""
    live = graph.live.get(tensor)
    return value if live is None else value[..., list(live)]
