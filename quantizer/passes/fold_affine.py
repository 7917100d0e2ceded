"""Rules of `canonicalise` that fold y = x * scale + offset per channel into a real-valued linear layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph, Node, unique_name
from intaglio.quantizer.ops.accumulate import NO_CLAMP, Clamp
from intaglio.quantizer.passes.rewrite import LINEAR_AXIS, View, absorb, float_constant, replace_nodes
from intaglio.quantizer.reference import dequantise

Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """y = clamp(x * scale + offset) over the last axis.

    Attributes:
        x: the tensor.
        scale, offset: float64 (channels,).
        clamp: the node's fused activation.
    """

    x: str
    scale: Reals
    offset: Reals
    clamp: Clamp


def affine(graph: Graph, node: Node) -> Affine | None:
    """Read a node as a per-channel affine map of one computed tensor; None when it is not one."""
    if node.op not in ("BatchNorm", "Add", "Sub", "Mul", "Div") or len(graph.runtime_inputs(node)) != 1:
        return None
    x = graph.runtime_inputs(node)[0]
    shape = graph.types[x].shape
    if not shape or graph.types[node.outputs[0]].shape != shape:
        return None
    others = [_per_channel(_real(graph, name), shape[-1]) for name in node.inputs if name in graph.constants]
    if any(v is None for v in others):
        return None
    values = [v for v in others if v is not None]
    if not values:
        return None
    c, one, zero = values[0], np.ones(shape[-1]), np.zeros(shape[-1])
    first = node.inputs[0] == x
    maps = {
        "BatchNorm": (c, values[-1]),
        "Mul": (c, zero),
        "Add": (one, c),
        "Sub": (one, -c) if first else (-one, c),
    }
    if node.op == "Div":
        if not first or np.any(c == 0):
            return None
        maps["Div"] = (1.0 / c, zero)
    scale, offset = maps[node.op]
    return Affine(x, scale, offset, getattr(node.attrs, "clamp", NO_CLAMP))


def _real(graph: Graph, name: str) -> Reals:
    """A constant's reals; weights of hybrid models are stored as integers."""
    return dequantise(graph.constants[name], graph.types[name])


def _per_channel(value: Reals, channels: int) -> Reals | None:
    """A constant as one value per channel; None when it varies over another axis."""
    if value.size == 1:
        return np.full(channels, value.ravel()[0])
    if value.ndim and value.shape[-1] == channels and prod(value.shape[:-1]) == 1:
        return value.reshape(channels)
    return None


def fold_after(view: View, node: Node) -> Graph | None:
    """Fold the affine node that alone reads a layer without activation into the layer's weights and bias."""
    graph = view.graph
    if graph.contract is not None or node.op not in LINEAR_AXIS or not _weights_constant(graph, node):
        return None
    follower = view.only_reader(node.outputs[0])
    found = affine(graph, follower) if follower is not None else None
    if follower is None or found is None or node.attrs.clamp != NO_CLAMP:
        return None
    axis = LINEAR_AXIS[node.op]
    weights = _real(graph, node.inputs[1])
    along = [1] * weights.ndim
    along[axis] = -1
    bias = _bias(graph, node, weights.shape[axis]) * found.scale + found.offset
    graph, changed = _with_weights(graph, node, weights * found.scale.reshape(along), bias)
    return absorb(graph, node, follower, replace(changed, attrs=replace(node.attrs, clamp=found.clamp)))


def fold_before(view: View, node: Node) -> Graph | None:
    """Fold an affine node into the layer that alone reads it, where padding does not see the offset."""
    graph = view.graph
    found = affine(graph, node) if graph.contract is None else None
    layer = view.only_reader(node.outputs[0]) if found is not None else None
    if found is None or layer is None or layer.op not in ("Conv2D", "FullyConnected") or found.clamp != NO_CLAMP:
        return None
    if not _weights_constant(graph, layer) or getattr(layer.attrs, "groups", 1) != 1:
        return None
    if np.any(found.offset) and any(getattr(layer.attrs, "pads", ())):
        return None
    weights = _real(graph, layer.inputs[1])
    if weights.shape[-1] != len(found.scale) or layer.inputs[0] != node.outputs[0]:
        return None
    moved = (weights * found.offset).reshape(len(weights), -1).sum(axis=1)
    graph, changed = _with_weights(graph, layer, weights * found.scale, _bias(graph, layer, len(weights)) + moved)
    return absorb(graph, node, layer, replace(changed, inputs=(found.x, *changed.inputs[1:])))


def affine_to_depthwise(view: View, node: Node) -> Graph | None:
    """Turn an affine node that no layer could take, with values that differ by channel, into a 1x1 depthwise layer.

    That is one node for multiplication and addition, and its weights get a scale per channel.
    """
    graph = view.graph
    found = affine(graph, node) if graph.contract is None else None
    if found is None or (node.op != "BatchNorm" and _is_uniform(found.scale) and _is_uniform(found.offset)):
        return None
    follower = view.only_reader(node.outputs[0])
    second = affine(graph, follower) if follower is not None and found.clamp == NO_CLAMP else None
    if follower is not None and second is not None:
        both = Affine(found.x, found.scale * second.scale, found.offset * second.scale + second.offset, second.clamp)
        graph, found = replace_nodes(graph, {follower.name: ()}), both
        node = replace(node, outputs=follower.outputs)
    shape, channels = graph.types[found.x].shape, len(found.scale)
    image = shape if len(shape) == 4 and shape[0] == 1 else (1, 1, prod(shape[:-1]), channels)
    graph, w = float_constant(graph, f"{node.name}/scale", found.scale.reshape(1, 1, 1, channels))
    graph, b = float_constant(graph, f"{node.name}/offset", found.offset)
    depthwise, reshape = ops.operator("DepthwiseConv2D").attrs, ops.operator("Reshape").attrs
    attrs: Any = replace(depthwise(), clamp=found.clamp)  # type: ignore[call-arg]
    layer = replace(node, op="DepthwiseConv2D", inputs=(found.x, w, b), attrs=attrs)
    if image == shape:
        return replace_nodes(graph, {node.name: (layer,)})
    before, after = (unique_name(f"{node.name}/{side}", graph.types) for side in ("image", "scaled"))
    kind = replace(graph.types[node.outputs[0]], shape=image)
    nodes = (
        replace(node, op="Reshape", name=before, inputs=(found.x,), outputs=(before,), attrs=reshape(image)),  # type: ignore[call-arg]
        replace(layer, inputs=(before, w, b), outputs=(after,)),
        replace(node, op="Reshape", name=after, inputs=(after,), attrs=reshape(shape)),  # type: ignore[call-arg]
    )
    return replace_nodes(graph, {node.name: nodes}).with_(types={**graph.types, before: kind, after: kind})


def _is_uniform(values: Reals) -> bool:
    return bool(np.all(values == values[0]))


def _weights_constant(graph: Graph, node: Node) -> bool:
    return all(name in graph.constants for name in node.inputs[1:] if name) and node.inputs[0] not in graph.constants


def _bias(graph: Graph, node: Node, channels: int) -> Reals:
    """A layer's bias; zeros where it has none."""
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    return _real(graph, name).ravel() if name else np.zeros(channels)


def _with_weights(graph: Graph, node: Node, weights: Reals, bias: Reals) -> tuple[Graph, Node]:
    """The graph with new constants, and the node that reads them."""
    graph, w = float_constant(graph, f"{node.inputs[1]}_folded", weights)
    graph, b = float_constant(graph, f"{node.name}_bias_folded", bias)
    return graph, replace(node, inputs=(node.inputs[0], w, b))
