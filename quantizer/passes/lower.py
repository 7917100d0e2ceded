"""Compute, for every node of a quantised graph, the integers that the device needs, with their proofs."""

from __future__ import annotations

from dataclasses import replace

from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph, Node
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.requant import Interval


def lower(graph: Graph) -> Graph:
    """Set the `params` of every node.

    The integers that each tensor can hold are carried along, so that an accumulator's interval is as tight
    as the layers before it allow.

    Raises:
        UnsupportedError: a node is outside a limit of its operator.
        ProofError: an accumulator or a requantisation cannot be proven.
    """
    ranges = constant_ranges(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        op = ops.operator(node.op, str(node))
        ctx = context(graph, node, ranges)
        op.check(ctx)
        params = op.lower(ctx)
        ranges.update(zip(node.outputs, op.output_ranges(ctx, params), strict=True))
        nodes.append(replace(node, params=params))
    return graph.with_(nodes=tuple(nodes))


def constant_ranges(graph: Graph) -> dict[str, Interval]:
    """The integers that each constant holds."""
    return {
        name: (int(value.min()), int(value.max()))
        for name, value in graph.constants.items()
        if value.size and not graph.types[name].dtype.is_float
    }
