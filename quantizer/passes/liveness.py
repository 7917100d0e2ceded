"""Which channels are constant whatever the input, and which anything needs.

Forwards: a channel is constant when all that it depends on is constant; its value is then what the operator
itself computes, and it counts only when that is the same at every position, borders included. It is constant
too when its accumulator's whole interval maps to one integer. Backwards: a
channel is live when the graph's outputs or a node that sees every channel need it, when a linear layer has a
weight for it that is not zero and cannot take its constant value into the bias, or when it must stay aligned
with a live channel of another tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Contract, DType, Graph, Node
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.passes.channels import (
    MOVES,
    Index,
    Tie,
    channels,
    is_dense,
    narrow,
    real_zero,
    ties,
    weight_terms,
)
from intaglio.quantizer.passes.rewrite import LINEAR_AXIS

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Constants:
    """Per tensor: which channels are constant, and their values (stored integers, or reals; both fit float64)."""

    known: dict[str, Mask]
    value: dict[str, Values]

    def zero(self, graph: Graph, tensor: str) -> Mask:
        """Which channels always hold the real 0."""
        return np.asarray(self.known[tensor] & (self.value[tensor] == real_zero(graph.types[tensor])))


def computed(graph: Graph) -> list[str]:
    """Inputs and results of nodes."""
    return [*graph.inputs, *(out for node in graph.nodes for out in node.outputs)]


def find_constants(graph: Graph) -> Constants:
    """Propagate constant channels forwards."""
    result = Constants({}, {})
    for name in computed(graph):
        result.known[name] = np.zeros(channels(graph, name), bool)
        result.value[name] = np.zeros(channels(graph, name))
    for node in graph.nodes:
        tied = None
        if is_dense(graph, node):
            _through_dense(graph, node, result)
        elif (tied := ties(graph, node)) is None:
            continue
        elif node.op in MOVES:
            _through_move(tied, result)
        else:
            _through_pointwise(graph, node, tied, result)
        if node.op in LINEAR_AXIS and node.op != "TransposeConv2D" and graph.contract is not None:
            _by_interval(graph, node, result)
    return result


def _by_interval(graph: Graph, node: Node, found: Constants) -> None:
    """Outputs of a quantised layer whose accumulator, for every input, is mapped to one and the same integer."""
    x, output = node.inputs[0], node.outputs[0]
    kind, terms = graph.types[x], weight_terms(graph, node)
    value, known = found.value[x] - real_zero(kind), found.known[x]
    low = np.where(known, value, kind.dtype.low - real_zero(kind)).astype(np.int64)
    high = np.where(known, value, kind.dtype.high - real_zero(kind)).astype(np.int64)
    if any(getattr(node.attrs, "pads", ())):
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    if node.op == "DepthwiseConv2D":
        low, high = (np.repeat(v, terms.shape[3] // len(v)) for v in (low, high))
        axes: tuple[int, ...] = (0, 1, 2)
    else:
        axes = tuple(range(1, terms.ndim))
    bias = bias_integers(graph, node)
    ends = np.stack(
        [bias + np.minimum(terms * low, terms * high).sum(axes), bias + np.maximum(terms * low, terms * high).sum(axes)]
    )
    mapped = _map_ends(graph, node, ends)
    if mapped is not None:
        same = mapped[0] == mapped[1]
        found.known[output] |= same
        found.value[output] = np.where(same, mapped[0], found.value[output])


def _map_ends(graph: Graph, node: Node, ends: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Requantise the ends of the accumulators' intervals, (2, outputs); None where the map may not be monotone."""
    op, ctx = ops.operator(node.op, str(node)), context(graph, node)
    op.check(ctx)
    maps = acc.definitions(ctx) if graph.contract is not Contract.TFLITE else None
    if maps is not None:
        maps = maps if len(maps) > 1 else maps * ends.shape[1]
        return np.array([[m.at(int(v)) for v, m in zip(row, maps, strict=True)] for row in ends], np.int64)
    requant = op.lower(ctx).requant
    if np.any(np.abs(ends).max() * 2.0 ** np.maximum(requant.shift, 0) >= 2**31):
        # A left shift that overflows wraps on the device.
        return None
    return np.asarray(requant.apply(ends))


def _through_dense(graph: Graph, node: Node, found: Constants) -> None:
    x = node.inputs[0]
    reads = dense_reads(graph, node)
    fixed = ~np.any(reads & ~found.known[x], axis=1)
    if fixed.any():
        used = np.flatnonzero(np.any(reads[fixed], axis=0))
        keep = {x: used if len(used) else np.array([0]), node.outputs[0]: np.flatnonzero(fixed)}
        _evaluate(graph, node, keep, found)


def _through_move(tied: Sequence[Tie], found: Constants) -> None:
    """Copy what is known; an output channel that gathers several must find one value in all."""
    for target in dict.fromkeys(tie.target for tie in tied):
        size = len(found.known[target])
        known, low, high = np.ones(size, bool), np.full(size, np.inf), np.full(size, -np.inf)
        for tie in tied:
            if tie.target == target:
                np.logical_and.at(known, tie.target_index, found.known[tie.source][tie.source_index])
                np.minimum.at(low, tie.target_index, found.value[tie.source][tie.source_index])
                np.maximum.at(high, tie.target_index, found.value[tie.source][tie.source_index])
        found.known[target] = known & (low == high)
        found.value[target] = np.where(found.known[target], low, 0.0)


def _through_pointwise(graph: Graph, node: Node, tied: Sequence[Tie], found: Constants) -> None:
    """Channels whose inputs are all constant, and depthwise channels whose weights are all zero."""
    output = node.outputs[0]
    fixed = np.ones(channels(graph, output), bool)
    for tie in tied:
        fixed[tie.target_index] &= found.known[tie.source][tie.source_index]
    if node.op == "DepthwiseConv2D":
        fixed |= ~np.any(weight_terms(graph, node), axis=(0, 1, 2))
        # A depthwise layer can only be evaluated for all the outputs of an input channel.
        whole = fixed.reshape(channels(graph, tied[0].source), -1)
        fixed = np.broadcast_to(whole.all(axis=1, keepdims=True), whole.shape).ravel()
    if fixed.any():
        keep = {output: np.flatnonzero(fixed)}
        for tie in tied:
            keep[tie.source] = np.unique(tie.source_index[fixed[tie.target_index]])
        _evaluate(graph, node, keep, found)


def _evaluate(graph: Graph, node: Node, keep: Mapping[str, Index], found: Constants) -> None:
    """Run a node, narrowed to channels whose result is constant, and note the values that are uniform."""
    output = node.outputs[0]
    narrowed = narrow(graph, node, keep)
    small = narrowed.within(graph)
    op, ctx = ops.operator(node.op, str(node)), context(small, narrowed.node)
    real = graph.types[output].dtype.is_float
    dtype = np.float64 if real else np.int64
    operands: list[NDArray[Any] | None] = []
    for name in narrowed.node.inputs:
        if not name or name in small.constants:
            operands.append(small.constants[name].astype(dtype) if name else None)
            continue
        # A channel that is not constant is multiplied by zero weights; any value does.
        operands.append(np.broadcast_to(found.value[name][keep[name]], small.types[name].shape).astype(dtype))
    if real:
        result: NDArray[Any] = op.reference(ctx, operands)[0]
    else:
        op.check(ctx)
        result = op.evaluate(ctx, op.lower(ctx), operands)[0]
    rows = np.asarray(result).reshape(-1, len(keep[output]))
    low, high = rows.min(axis=0), rows.max(axis=0)
    # Reals are equal up to the order of summation.
    uniform = high - low <= (1e-9 * np.maximum(np.abs(low), np.abs(high)) if real else 0)
    where = keep[output][uniform]
    found.known[output][where] = True
    found.value[output][where] = low[uniform]


def dense_reads(graph: Graph, node: Node) -> Mask:
    """Which input channels each output of a dense layer has a weight for: bool (outputs, inputs)."""
    terms = weight_terms(graph, node)
    return np.asarray(np.any(terms.reshape(len(terms), -1, terms.shape[-1]), axis=1))


def foldable(graph: Graph, node: Node, found: Constants) -> Mask:
    """Which input channels of a dense layer are constant in a way that its bias can take over.

    Padding puts the real 0 beside them, so a padded layer can only take channels that hold it too; so can a
    transposed convolution, whose border pixels see fewer weights.
    """
    x = node.inputs[0]
    zero, known = found.zero(graph, x), found.known[x]
    if node.op == "TransposeConv2D" or any(getattr(node.attrs, "pads", ())):
        return zero
    if graph.types[x].dtype.is_float:
        return known
    whole = bias_integers(graph, node) + folded(graph, node, found, known)
    low, high = (fp.INT32_LOW, fp.INT32_HIGH) if bias_type(graph, node) is DType.INT32 else (-(2**62), 2**62)
    return known if whole.min() >= low and whole.max() <= high else zero


def folded(graph: Graph, node: Node, found: Constants, which: Mask) -> NDArray[np.float64] | NDArray[np.int64]:
    """What some constant input channels add to each accumulator (reals: to each output)."""
    x = node.inputs[0]
    terms = weight_terms(graph, node)
    sums = terms.reshape(len(terms), -1, terms.shape[-1]).sum(axis=1)
    centred = np.where(which, found.value[x] - real_zero(graph.types[x]), 0.0)
    return np.asarray(sums @ centred.astype(sums.dtype))


def bias_integers(graph: Graph, node: Node) -> NDArray[np.int64]:
    """A layer's stored bias; zeros where it has none."""
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    if name:
        return graph.constants[name].astype(np.int64).ravel()
    return np.zeros(channels(graph, node.outputs[0]), np.int64)


def bias_type(graph: Graph, node: Node) -> DType:
    """The integer type of a layer's bias."""
    if len(node.inputs) > 2 and node.inputs[2]:
        return graph.types[node.inputs[2]].dtype
    return DType.INT64 if graph.types[node.inputs[0]].dtype is DType.INT16 else DType.INT32


class Channels:
    """Every channel of every computed tensor, numbered, and joined with those that it must stay aligned with."""

    def __init__(self, graph: Graph) -> None:
        self.first: dict[str, int] = {}
        total = 0
        for name in computed(graph):
            self.first[name] = total
            total += channels(graph, name)
        self._parent = list(range(total))

    def root(self, number: int) -> int:
        """The representative of a channel's class."""
        parent = self._parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def join(self, tie: Tie) -> None:
        """Align channels."""
        for s, t in zip(tie.source_index.tolist(), tie.target_index.tolist(), strict=True):
            self._parent[self.root(self.first[tie.source] + s)] = self.root(self.first[tie.target] + t)

    def roots(self) -> Index:
        """The representative of every channel: int64 (channels,)."""
        return np.array([self.root(i) for i in range(len(self._parent))], np.int64)


def find_live(graph: Graph, found: Constants) -> dict[str, Index]:
    """Return, per computed tensor, the channels that must stay, ascending; at least one each."""
    numbering = Channels(graph)
    pinned: list[str] = [*graph.inputs, *graph.outputs]
    dense: list[tuple[str, str, Mask]] = []
    for node in graph.nodes:
        if is_dense(graph, node):
            dense.append((node.inputs[0], node.outputs[0], dense_reads(graph, node) & ~foldable(graph, node, found)))
            continue
        tied = ties(graph, node)
        if tied is None:
            pinned += [*graph.runtime_inputs(node), *node.outputs]
            continue
        for tie in tied:
            numbering.join(tie)
    roots = numbering.roots()
    live = np.zeros(len(roots), bool)

    def classes(tensor: str) -> Index:
        """The representatives of a tensor's channels."""
        at = numbering.first[tensor]
        return np.asarray(roots[at : at + channels(graph, tensor)])

    for name in pinned:
        live[classes(name)] = True
    while True:
        count = live.sum()
        for x, y, reads in reversed(dense):
            live[classes(x)[np.any(reads[live[classes(y)]], axis=0)]] = True
        if live.sum() == count:
            # A tensor of which nothing is needed keeps one channel: shapes cannot be empty.
            empty = next((n for n in numbering.first if not live[classes(n)].any()), None)
            if empty is None:
                break
            live[classes(empty)[0]] = True
    return {name: np.flatnonzero(live[classes(name)]) for name in numbering.first}
