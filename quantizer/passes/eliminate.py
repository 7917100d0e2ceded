"""Remove channels that no output depends on, exactly: constant ones move into the bias of the layer that reads them.

Every remaining channel of every remaining tensor holds the integers that it held before; `Graph.live` says which
channels those are. (In a real-valued graph the reals agree up to the rounding of the biases to binary32.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from intaglio.quantizer.ir import Graph, Node, QParams, TensorType
from intaglio.quantizer.passes.channels import Index, channels, is_dense, narrow
from intaglio.quantizer.passes.liveness import (
    Constants,
    bias_integers,
    bias_type,
    find_constants,
    find_live,
    foldable,
    folded,
)
from intaglio.quantizer.passes.rewrite import add_constant, float_constant, replace_nodes, total_macs
from intaglio.quantizer.reference import dequantise


def eliminate(graph: Graph) -> Graph:
    """Remove dead channels; note the multiply-accumulates that the model had before, and which channels live."""
    if graph.model_macs is None:
        graph = graph.with_(model_macs=total_macs(graph))
    found = find_constants(graph)
    live = find_live(graph, found)
    partial = {name: kept for name, kept in live.items() if len(kept) < channels(graph, name)}
    if not partial:
        return graph
    for node in graph.nodes:
        if node.inputs and node.inputs[0] in partial and is_dense(graph, node):
            graph = _fold_constants(graph, node, found, live[node.inputs[0]])
    types, constants = dict(graph.types), dict(graph.constants)
    nodes: list[Node] = []
    for node in graph.nodes:
        small = narrow(graph, node, partial)
        types.update(small.types)
        constants.update(small.constants)
        nodes.append(small.node)
    return graph.with_(
        nodes=tuple(nodes), types=types, constants=constants, live=_renumbered(graph.live, partial)
    ).pruned()


def _fold_constants(graph: Graph, node: Node, found: Constants, kept: Index) -> Graph:
    """Add what the input channels that go contribute to a dense layer's bias."""
    gone = foldable(graph, node, found)
    gone[kept] = False
    added = folded(graph, node, found, gone)
    if not np.any(added):
        return graph
    name = f"{node.name}/bias/folded"
    old = node.inputs[2] if len(node.inputs) > 2 else ""
    if graph.types[node.inputs[0]].dtype.is_float:
        bias = dequantise(graph.constants[old], graph.types[old]).ravel() if old else np.zeros(len(added))
        graph, name = float_constant(graph, name, bias + added)
    else:
        kind = graph.types[old] if old else _bias_kind(graph, node)
        graph, name = add_constant(graph, name, bias_integers(graph, node) + added.astype(np.int64), kind)
    return replace_nodes(graph, {node.name: (replace(node, inputs=(*node.inputs[:2], name)),)})


def _bias_kind(graph: Graph, node: Node) -> TensorType:
    """The type of a bias for a layer that had none: on the scale of its accumulator."""
    x, w = graph.types[node.inputs[0]], graph.types[node.inputs[1]]
    scales = w.qparams.scale if w.qparams is not None else (1.0,)
    axis = 0 if len(scales) > 1 else None
    qparams = QParams(tuple(x.scale * s for s in scales), (0,) * len(scales), axis)
    return TensorType(bias_type(graph, node), (channels(graph, node.outputs[0]),), qparams)


def _renumbered(before: Mapping[str, tuple[int, ...]], partial: Mapping[str, Index]) -> dict[str, tuple[int, ...]]:
    """The surviving channels in the model's own numbering, after this pass and any before it."""
    result = dict(before)
    for name, kept in partial.items():
        known = before.get(name)
        result[name] = tuple(int(i) if known is None else known[i] for i in kept)
    return result
