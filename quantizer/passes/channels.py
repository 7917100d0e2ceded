"""How each operator connects the channels of its inputs to those of its outputs, and how it is made narrower.

A channel is an index of a tensor's last axis. Three kinds of nodes matter to dead-channel elimination:
linear layers, whose outputs each read any of the inputs' channels; nodes that keep channels apart (`ties`);
and all others, which see every channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.ir import DType, Graph, Node, QParams, TensorType
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.passes.rewrite import LINEAR_AXIS
from intaglio.quantizer.reference import dequantise

Index = NDArray[np.int64]

BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Maximum", "Minimum"})
POINTWISE = frozenset({"Quantize", "Cast", "PRelu", "BatchNorm", "AveragePool2D", "MaxPool2D", "Resize"})
REDUCTIONS = frozenset({"Mean", "Sum", "ReduceMax", "ReduceMin"})
MOVES = frozenset({"Reshape", "Concat", "Split", "Slice", "Transpose", "Gather"})
"""Of the operators that keep channels apart, those whose outputs are elements of their inputs and nothing else."""


@dataclass(frozen=True, eq=False)
class Tie:
    """Channel source_index[i] of an input goes to channel target_index[i] of an output, and nowhere else."""

    source: str
    target: str
    source_index: Index
    target_index: Index


def channels(graph: Graph, tensor: str) -> int:
    """Length of the last axis; 1 for a scalar."""
    return graph.types[tensor].shape[-1] if graph.types[tensor].shape else 1


def is_dense(graph: Graph, node: Node) -> bool:
    """Whether a node is a linear layer whose channels can be dropped one by one."""
    if node.op not in LINEAR_AXIS or node.op == "DepthwiseConv2D" or getattr(node.attrs, "groups", 1) != 1:
        return False
    x, w = node.inputs[0], node.inputs[1]
    constant = all(name in graph.constants for name in node.inputs[1:] if name)
    return constant and x not in graph.constants and graph.types[w].shape[-1] == channels(graph, x)


def ties(graph: Graph, node: Node) -> list[Tie] | None:
    """How a node that keeps channels apart connects them; None when it does not."""
    runtime = graph.runtime_inputs(node)
    if not runtime or not node.outputs or any(not graph.types[t].shape for t in (*runtime, *node.outputs)):
        return None
    x, y, a = runtime[0], node.outputs[0], node.attrs
    before, after = channels(graph, x), channels(graph, y)
    last = len(graph.types[x].shape) - 1
    identity = [Tie(x, y, np.arange(before), np.arange(before))] if before == after else None
    match node.op:
        case "DepthwiseConv2D":
            constant = all(name in graph.constants for name in node.inputs[1:] if name)
            outputs = np.arange(after)
            return [Tie(x, y, outputs // (after // before), outputs)] if constant else None
        case "Concat" if a.axis == last:
            return _parts(graph, runtime, y, joined=True) if runtime == node.inputs else None
        case "Split" if a.axis == last:
            return _parts(graph, node.outputs, x, joined=False)
        case "Concat" | "Split":
            whole = np.arange(before)
            return [Tie(s, t, whole, whole) for s in runtime for t in node.outputs] if runtime == node.inputs else None
        case "Reshape":
            return _reshape(x, y, before, after)
        case "Transpose":
            return identity if a.perm[-1] == last else None
        case "Pad":
            return identity if not any(a.pads[-1]) else None
        case "Slice":
            return identity if a.steps[-1] == 1 else None
        case "Gather":
            return identity if a.axis != last and node.inputs[0] == x else None
    if node.op in REDUCTIONS:
        return identity if last not in a.axes else None
    if node.op in BINARY:
        whole = np.arange(after)
        return [Tie(t, y, whole, whole) for t in runtime] if all(channels(graph, t) == after for t in runtime) else None
    apart = node.op in POINTWISE or isinstance(ops.operator(node.op), UnaryOperator)
    return identity if apart and runtime == node.inputs[:1] else None


def _parts(graph: Graph, parts: tuple[str, ...], whole: str, *, joined: bool) -> list[Tie]:
    """Ties between a tensor and the parts that lie side by side in it."""
    result, at = [], 0
    for part in parts:
        inside = np.arange(channels(graph, part))
        outside = inside + at
        result.append(Tie(part, whole, inside, outside) if joined else Tie(whole, part, outside, inside))
        at += len(inside)
    return result


def _reshape(x: str, y: str, before: int, after: int) -> list[Tie] | None:
    """Row-major order: element e lies in channel e % before and e % after; apart when one divides the other."""
    if after % before and before % after:
        return None
    every = np.arange(max(before, after))
    return [Tie(x, y, every % before, every % after)]


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A node for fewer channels.

    Attributes:
        node: its constant operands may be new ones.
        types: of its computed tensors and of the new constants.
        constants: the new ones.
    """

    node: Node
    types: dict[str, TensorType]
    constants: dict[str, NDArray[Any]]

    def within(self, graph: Graph) -> Graph:
        """The graph with these types and constants; the nodes are the old ones."""
        return graph.with_(types={**graph.types, **self.types}, constants={**graph.constants, **self.constants})


def narrow(graph: Graph, node: Node, keep: Mapping[str, Index]) -> Narrowed:
    """Reduce a node to some channels.

    Args:
        graph: the graph around the node, whole.
        keep: channels to keep of each computed tensor; one that is missing stays whole.
    """
    types = {
        name: replace(graph.types[name], shape=(*graph.types[name].shape[:-1], len(keep[name])))
        for name in (*graph.runtime_inputs(node), *node.outputs)
        if name in keep and graph.types[name].shape
    }
    constants: dict[str, NDArray[Any]] = {}
    names = list(node.inputs)
    outputs = channels(graph, node.outputs[0]) if node.outputs else 0

    def reduce(position: int, *cuts: tuple[int, Index | None]) -> None:
        """Keep some indices of axes of a constant operand."""
        name = names[position]
        value, kind = graph.constants[name], graph.types[name]
        for axis, index in cuts:
            if index is not None and len(index) < kind.shape[axis]:
                value, kind = take(value, kind, index, axis)
        if kind.shape != graph.types[name].shape:
            names[position] = f"{node.name}/{position}/live"
            constants[names[position]], types[names[position]] = value, kind

    kept = keep.get(node.outputs[0]) if node.outputs else None
    if node.op in LINEAR_AXIS:
        reads = None if node.op == "DepthwiseConv2D" else keep.get(node.inputs[0])
        last = len(graph.types[node.inputs[1]].shape) - 1
        reduce(1, (LINEAR_AXIS[node.op], kept), (last, reads))
        if len(names) > 2 and names[2]:
            reduce(2, (len(graph.types[names[2]].shape) - 1, kept))
    elif node.op != "Gather":
        for position, name in enumerate(node.inputs):
            shape = graph.types[name].shape if name in graph.constants else ()
            if shape and shape[-1] == outputs:
                reduce(position, (len(shape) - 1, kept))
    return Narrowed(replace(node, inputs=tuple(names), attrs=_narrow_attrs(graph, node, types)), types, constants)


def _narrow_attrs(graph: Graph, node: Node, types: Mapping[str, TensorType]) -> Any:
    """The attributes that name channels or their number."""
    a = node.attrs

    def size(name: str) -> int:
        return types.get(name, graph.types[name]).shape[-1]

    match node.op:
        case "Reshape":
            return replace(a, shape=types.get(node.outputs[0], graph.types[node.outputs[0]]).shape)
        case "Split" if a.axis == len(graph.types[node.inputs[0]].shape) - 1:
            return replace(a, sizes=tuple(size(out) for out in node.outputs))
        case "Slice" if node.outputs[0] in types and node.inputs[0] in types:
            # Only whole last axes are narrowed; the others start and end where they did.
            return replace(a, ends=(*a.ends[:-1], size(node.outputs[0])))
    return a


def take(value: NDArray[Any], kind: TensorType, index: Index, axis: int) -> tuple[NDArray[Any], TensorType]:
    """A constant reduced to some indices of an axis."""
    reduced = np.ascontiguousarray(np.take(value, index, axis))
    q = kind.qparams
    if q is not None and q.axis is not None and q.axis == axis:
        q = QParams(tuple(q.scale[i] for i in index), tuple(q.zero_point[i] for i in index), axis)
    return reduced, TensorType(kind.dtype, tuple(reduced.shape), q)


def real_zero(kind: TensorType) -> float:
    """The stored value that stands for the real 0."""
    return 0.0 if kind.dtype is DType.FLOAT32 or kind.qparams is None else kind.zero_point


def weight_terms(graph: Graph, node: Node) -> NDArray[Any]:
    """A linear layer's weights minus their zero point: int64, or float64 of a real-valued layer."""
    name = node.inputs[1]
    value, kind = graph.constants[name], graph.types[name]
    if graph.types[node.inputs[0]].dtype.is_float:
        return dequantise(value, kind)
    terms = value.astype(np.int64)
    q = kind.qparams
    if q is None or not any(q.zero_point):
        return terms
    zero = np.array(q.zero_point, np.int64)
    if q.axis is not None:
        shape = [1] * terms.ndim
        shape[q.axis] = -1
        zero = zero.reshape(shape)
    return np.asarray(terms - zero)
