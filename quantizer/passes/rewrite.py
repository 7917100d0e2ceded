"""What the passes share: reading operands and replacing nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.ir import DType, Graph, Node, TensorType, unique_name
from intaglio.quantizer.ops.base import context


def replace_nodes(graph: Graph, changes: Mapping[str, Sequence[Node]]) -> Graph:
    """Return the graph with some nodes, given by name, replaced by others or by none."""
    nodes = [n for node in graph.nodes for n in changes.get(node.name, (node,))]
    return graph.with_(nodes=tuple(nodes))


def rename_tensor(graph: Graph, old: str, new: str) -> Graph:
    """Return the graph with every use of a tensor's name changed; the new name takes the old one's place.

    The old tensor's type and value move along. A tensor of the new name must not be in use any more.
    """

    def named(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new if n == old else n for n in names)

    def keyed(table: Mapping[str, Any]) -> dict[str, Any]:
        rest = {k: v for k, v in table.items() if k != new}
        return {new if k == old else k: v for k, v in rest.items()}

    return graph.with_(
        nodes=tuple(replace(n, inputs=named(n.inputs), outputs=named(n.outputs)) for n in graph.nodes),
        types=keyed(graph.types),
        constants=keyed(graph.constants),
        inputs=named(graph.inputs),
        outputs=named(graph.outputs),
        live=keyed(graph.live),
    )


def bypass(graph: Graph, node: Node) -> Graph | None:
    """Remove a node that passes its input 0 through unchanged; None where a graph output would lose its name.

    Readers of its output read its input instead. An output of the graph keeps its name: then the input takes it.
    """
    source, target = node.inputs[0], node.outputs[0]
    bare = replace_nodes(graph, {node.name: ()})
    if target not in graph.outputs:
        return _redirect(bare, target, source)
    made_by_node = source not in graph.inputs and source not in graph.constants
    if made_by_node and source not in graph.outputs:
        return rename_tensor(bare, source, target)
    return None


def _redirect(graph: Graph, old: str, new: str) -> Graph:
    """Let every reader of one tensor read another; the old tensor's type goes."""
    nodes = tuple(
        replace(n, inputs=tuple(new if name == old else name for name in n.inputs)) if old in n.inputs else n
        for n in graph.nodes
    )
    return graph.with_(nodes=nodes, types={k: t for k, t in graph.types.items() if k != old})


def absorb(graph: Graph, node: Node, follower: Node, changed: Node) -> Graph:
    """Replace `node`, whose only reader is `follower`, by `changed`, and drop the follower.

    `changed` makes the follower's output: the values at that boundary are those of the fused pair.
    """
    fused = replace(changed, outputs=follower.outputs)
    result = replace_nodes(graph, {node.name: (fused,), follower.name: ()})
    return result.with_(types={k: t for k, t in result.types.items() if k != node.outputs[0]})


@dataclass(frozen=True, eq=False)
class View:
    """A graph with who makes and who reads each tensor."""

    graph: Graph

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        return self.graph.producers()

    @cached_property
    def consumers(self) -> Mapping[str, list[Node]]:
        return self.graph.consumers()

    def producer(self, tensor: str) -> Node | None:
        """The node that makes a tensor."""
        return self.producers.get(tensor)

    def only_reader(self, tensor: str) -> Node | None:
        """The single node that reads a tensor; None when several do, none does, or it is a graph output."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.graph.outputs else None


def add_constant(graph: Graph, base: str, value: NDArray[Any], kind: TensorType) -> tuple[Graph, str]:
    """Return the graph with one more constant, and its name, made from `base`."""
    name = unique_name(base, graph.types)
    stored = np.ascontiguousarray(value, dtype=kind.dtype.numpy).reshape(kind.shape)
    return graph.with_(types={**graph.types, name: kind}, constants={**graph.constants, name: stored}), name


def float_constant(graph: Graph, base: str, value: NDArray[Any]) -> tuple[Graph, str]:
    """Like `add_constant`, of binary32.

    Raises:
        UnsupportedError: a value leaves it.
    """
    with np.errstate(over="ignore"):
        stored = value.astype(np.float32)
    if not np.all(np.isfinite(stored)):
        raise UnsupportedError(f"{graph.name}: '{base}'", "folded weights leave binary32", "repair the model's weights")
    return add_constant(graph, base, stored, TensorType(DType.FLOAT32, tuple(value.shape)))


def total_macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference."""
    return sum(ops.operator(node.op, str(node)).macs(context(graph, node)) for node in graph.nodes)


LINEAR_AXIS = {"Conv2D": 0, "DepthwiseConv2D": 3, "FullyConnected": 0, "TransposeConv2D": 0}
"""Operators with inputs x, weights, optional bias; which axis of the weights runs over the output channels."""
