"""Graphs of several nodes, written down in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, QParams, TensorType, Variable, verify
from intaglio.quantizer.reference import surviving


class Builder:
    """Collects nodes; tensors are named after the nodes that make them."""

    def __init__(self, contract: Contract | None = None) -> None:
        self.contract = contract
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, NDArray[Any]] = {}
        self.inputs: list[str] = []
        self.variables: dict[str, Variable] = {}

    def input(self, name: str, shape: Sequence[int], qparams: QParams | None = None, dtype: str = "int8") -> str:
        """A graph input: real, or quantised when a scale is given."""
        self.types[name] = TensorType(DType(dtype) if qparams else DType.FLOAT32, tuple(shape), qparams)
        self.inputs.append(name)
        return name

    def constant(self, name: str, value: NDArray[Any], qparams: QParams | None = None) -> str:
        """A constant of the value's dtype (float64 becomes binary32)."""
        stored = value.astype(np.float32) if value.dtype.kind == "f" else value
        self.types[name] = TensorType(DType(str(stored.dtype)), stored.shape, qparams)
        self.constants[name] = stored
        return name

    def node(
        self,
        op: str,
        name: str,
        inputs: Sequence[str],
        attrs: Attrs | None = None,
        qparams: QParams | None = None,
        dtype: str | None = None,
    ) -> str:
        """A node of one output, which has the node's name; its type follows input 0 unless given."""
        operator = ops.operator(op)
        made = Node(op, name, tuple(inputs), (name,), attrs if attrs is not None else operator.attrs())
        (shape,) = operator.infer(made, [self.types.get(n) for n in inputs])
        like = self.types[inputs[0]]
        self.types[name] = TensorType(DType(dtype) if dtype else like.dtype, shape, qparams or like.qparams)
        self.nodes.append(made)
        return name

    def graph(self, *outputs: str) -> Graph:
        """The graph, verified."""
        result = Graph(
            "test",
            tuple(self.nodes),
            self.types,
            self.constants,
            tuple(self.inputs),
            outputs,
            variables=self.variables,
            contract=self.contract,
        )
        verify(result, "test")
        return result


def scales(rng: np.random.Generator, channels: int, axis: int) -> QParams:
    """Symmetric scales per channel."""
    drawn = tuple(float(np.float32(s)) for s in rng.uniform(0.004, 0.03, channels))
    return QParams(drawn, (0,) * channels, axis)


def same_on_live_channels(before: dict[str, NDArray[Any]], after: dict[str, NDArray[Any]], graph: Graph) -> int:
    """Assert that every tensor of the smaller graph holds what it held before; return how many were compared."""
    compared = 0
    for node in graph.nodes:
        for out in node.outputs:
            if out in before:
                expected = surviving(before[out], out, graph)
                assert np.array_equal(expected, after[out]), f"'{out}' differs"
                compared += 1
    return compared
