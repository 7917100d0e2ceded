"""The graph that every stage passes on: frozen dataclasses and a verifier.

One representation serves the real-valued and the integer graph. A tensor of dtype FLOAT32 is real-valued;
a tensor with `QParams` stands for real = scale * (integer - zero_point). Images are NHWC; the weights of
convolutions are (out, height, width, in / groups), of depthwise convolutions (1, height, width, out), of
fully connected layers (out, in). Nodes are kept in an order in which they can be executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.errors import GraphError


class DType(StrEnum):
    """An element type. FLOAT32 occurs only before quantisation."""

    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    BOOL = "bool"
    FLOAT32 = "float32"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype of stored values."""
        return np.dtype(self.value)

    @property
    def bytes(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize

    @property
    def low(self) -> int:
        """The smallest integer."""
        return 0 if self is DType.BOOL else int(np.iinfo(self.numpy).min)

    @property
    def high(self) -> int:
        """The largest integer."""
        return 1 if self is DType.BOOL else int(np.iinfo(self.numpy).max)

    @property
    def is_float(self) -> bool:
        return self is DType.FLOAT32


class Contract(StrEnum):
    """Which integers come out; see docs/numerics.md."""

    TFLITE = "tflite"
    ONNX = "onnx"
    EXACT = "exact"


@dataclass(frozen=True)
class QParams:
    """real = scale * (integer - zero_point), per tensor or per index of `axis`.

    Attributes:
        scale: binary32 values, held as Python floats; one, or one per index of axis.
        zero_point: as many as scales.
        axis: None when per tensor.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    @classmethod
    def of(cls, scale: float, zero_point: int) -> QParams:
        """Per-tensor parameters; the scale is rounded to binary32."""
        return cls((float(np.float32(scale)),), (int(zero_point),))

    @property
    def per_tensor(self) -> tuple[float, int]:
        """(scale, zero_point) of a tensor that has one of each.

        Raises:
            GraphError: there are several.
        """
        if len(self.scale) != 1 or len(self.zero_point) != 1:
            raise GraphError("quantisation", "per-channel where one scale is needed", "report this model")
        return self.scale[0], self.zero_point[0]


@dataclass(frozen=True)
class TensorType:
    """Element type, shape (static; batch 1) and, for quantised tensors, the meaning of the integers."""

    dtype: DType
    shape: tuple[int, ...]
    qparams: QParams | None = None

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.dtype.bytes

    @property
    def scale(self) -> float:
        """The scale of a tensor quantised per tensor."""
        return self._quantised().per_tensor[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor quantised per tensor."""
        return self._quantised().per_tensor[1]

    def _quantised(self) -> QParams:
        if self.qparams is None:
            raise GraphError("tensor", f"{self.dtype}{list(self.shape)} has no scale", "quantise the model first")
        return self.qparams


@dataclass(frozen=True)
class Attrs:
    """Base of each operator's attributes: a frozen dataclass with typed fields."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes:
        op: the operator's name in the registry of `quantizer.ops`.
        name: unique within the graph.
        inputs: tensor names; "" for an optional input that is absent.
        outputs: tensor names.
        attrs: the operator's attributes, an `Attrs`; the operator knows which.
        params: the integers that the device needs (multipliers, folded bias, tables); set by lowering.
        source: where the node comes from, for messages and comments ("CONV_2D #3").
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Any
    params: Any = None
    source: str = ""

    def __str__(self) -> str:
        return f"{self.op} '{self.name}'" + (f" ({self.source})" if self.source else "")


@dataclass(frozen=True)
class Variable:
    """State that outlives an invoke: lies in the first bytes of the arena.

    Attributes:
        type: as of the tensors that are read from and assigned to it.
        initial: what `reset` writes; integers of the type's shape.
    """

    type: TensorType
    initial: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Graph:
    """A model.

    Attributes:
        name: the model's name.
        nodes: in execution order.
        types: of every tensor, constants included.
        constants: values of the tensors that are constant, in their stored dtype.
        inputs, outputs: names of tensors.
        variables: state, by name.
        contract: of the integers; None while real-valued.
        live: of each tensor that lost channels, which indices of its last axis survive, in the model's own
            numbering; a tensor that is not listed is whole.
        model_macs: multiply-accumulates of the model as it came; None before the passes.
    """

    name: str
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, NDArray[Any]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    variables: Mapping[str, Variable] = field(default_factory=dict)
    contract: Contract | None = None
    live: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    model_macs: int | None = None

    def with_(self, **changes: Any) -> Graph:
        """Return a copy with some fields replaced."""
        return replace(self, **changes)

    def producers(self) -> dict[str, Node]:
        """Map each tensor that a node makes to that node."""
        return {out: node for node in self.nodes for out in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """Map each tensor to the nodes that read it."""
        result: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    result.setdefault(name, []).append(node)
        return result

    def runtime_inputs(self, node: Node) -> tuple[str, ...]:
        """The inputs of a node that are computed, not constant."""
        return tuple(name for name in node.inputs if name and name not in self.constants)

    def pruned(self) -> Graph:
        """Drop nodes, types and constants that no output or variable needs.

        An operator that writes state is kept: it is recognised by having no outputs.
        """
        needed = set(self.outputs)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if not node.outputs or needed.intersection(node.outputs):
                kept.append(node)
                needed.update(name for name in node.inputs if name)
                needed.update(node.outputs)
        needed.update(self.inputs)
        return self.with_(
            nodes=tuple(reversed(kept)),
            types={name: t for name, t in self.types.items() if name in needed},
            constants={name: c for name, c in self.constants.items() if name in needed},
        )


def unique_name(base: str, taken: Iterable[str]) -> str:
    """Return base, or base_2, base_3, ..., whichever is not taken."""
    names = set(taken)
    if base not in names:
        return base
    number = 2
    while f"{base}_{number}" in names:
        number += 1
    return f"{base}_{number}"


def verify(graph: Graph, stage: str) -> None:
    """Check every invariant of a graph.

    Args:
        graph: to be checked.
        stage: the pass that made it, named in the message.

    Raises:
        GraphError: names the stage, the node and the invariant.
    """

    def fail(where: object, what: str) -> None:
        raise GraphError(f"{graph.name}, after {stage}: {where}", what, "report this model: it is our mistake")

    known = set(graph.inputs) | set(graph.constants)
    names: set[str] = set()
    for name in (*graph.inputs, *graph.constants):
        if name not in graph.types:
            fail(name, "tensor without a type")
    for name, value in graph.constants.items():
        kind = graph.types[name]
        if tuple(value.shape) != kind.shape or value.dtype != kind.dtype.numpy:
            fail(name, f"constant {value.dtype}{list(value.shape)} under type {kind.dtype}{list(kind.shape)}")
    for node in graph.nodes:
        if node.name in names:
            fail(node, "two nodes with one name")
        names.add(node.name)
        for name in node.inputs:
            if name and name not in known:
                fail(node, f"reads '{name}' before it is made")
        for name in node.outputs:
            if name in known:
                fail(node, f"makes '{name}', which exists already")
            if name not in graph.types:
                fail(node, f"output '{name}' has no type")
            known.add(name)
    for name in graph.outputs:
        if name not in known:
            fail(name, "graph output that nothing makes")
    for name, kind in graph.types.items():
        if any(d <= 0 for d in kind.shape):
            fail(name, f"shape {list(kind.shape)}")
        q = kind.qparams
        if q is not None:
            count = 1 if q.axis is None else kind.shape[q.axis]
            if len(q.scale) != count or len(q.zero_point) != count:
                fail(name, f"{len(q.scale)} scales for {count} channels")
            if not all(np.isfinite(s) and s > 0 for s in q.scale):
                fail(name, "a scale that is not positive and finite")
