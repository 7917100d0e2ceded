"""Rules of `canonicalise` that remove or merge nodes which only move values."""

from __future__ import annotations

from dataclasses import replace

from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph, Node
from intaglio.quantizer.passes.rewrite import View, bypass, replace_nodes


def drop_no_op(view: View, node: Node) -> Graph | None:
    """Remove a node whose output is its input, type and all."""
    graph = view.graph
    if len(node.outputs) != 1 or not node.inputs or node.inputs[0] in graph.constants:
        return None
    if graph.types[node.inputs[0]] != graph.types[node.outputs[0]] or not _is_no_op(graph, node):
        return None
    return bypass(graph, node)


def _is_no_op(graph: Graph, node: Node) -> bool:
    """Whether equal types of input and output mean equal values."""
    a = node.attrs
    match node.op:
        case "Reshape" | "Quantize" | "Cast":
            return True
        case "Concat" | "Split":
            return len(node.inputs) == 1
        case "Transpose":
            return _moves_nothing(graph.types[node.inputs[0]].shape, a.perm)
        case "Slice":
            return all(step > 0 for step in a.steps)
        case "Pad":
            return not any(map(any, a.pads))
        case "Clip":
            return a.low is None and a.high is None
    return False


def _moves_nothing(shape: tuple[int, ...], perm: tuple[int, ...]) -> bool:
    """Whether a transposition keeps the order of the elements: axes longer than 1 stay in order."""
    long = [p for p in perm if shape[p] > 1]
    return long == sorted(long)


def merge_reshapes(view: View, node: Node) -> Graph | None:
    """Let a Reshape of a Reshape read the first one's input."""
    first = view.producer(node.inputs[0]) if node.inputs else None
    if node.op != "Reshape" or first is None or first.op != "Reshape":
        return None
    return replace_nodes(view.graph, {node.name: (replace(node, inputs=first.inputs),)})


def merge_transposes(view: View, node: Node) -> Graph | None:
    """Turn two Transposes in a row into one."""
    first = view.producer(node.inputs[0]) if node.inputs else None
    if node.op != "Transpose" or first is None or first.op != "Transpose":
        return None
    perm = tuple(first.attrs.perm[p] for p in node.attrs.perm)
    merged = replace(node, inputs=first.inputs, attrs=replace(node.attrs, perm=perm))
    return replace_nodes(view.graph, {node.name: (merged,)})


def transpose_to_reshape(view: View, node: Node) -> Graph | None:
    """Turn a Transpose that only moves axes of length 1 into a Reshape, which costs nothing."""
    if node.op != "Transpose" or not _moves_nothing(view.graph.types[node.inputs[0]].shape, node.attrs.perm):
        return None
    shape = view.graph.types[node.outputs[0]].shape
    # The operator is looked up by name: passes know operators by their binding names, not by their modules.
    attrs = ops.operator("Reshape").attrs(shape)  # type: ignore[call-arg]
    return replace_nodes(view.graph, {node.name: (replace(node, op="Reshape", attrs=attrs),)})
