"""Choose the integer type, scale and zero point of every computed tensor, and requantise where readers disagree.

A tensor is of the type asked for, unless its operator has no integer kernel of that type (LogSoftmax under
int16 activations): then it is int8. Operators that move integers tie the scales of what they read and make. What an
operator dictates (softmax: 1/256) wins over the data. Where a node wants another scale or type than its input
has, a Quantize is put between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from intaglio.quantizer import ops
from intaglio.quantizer.calibrate import choose_qparams
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.histogram import Histogram
from intaglio.quantizer.ir import DType, Graph, Node, QParams, TensorType, Variable, unique_name
from intaglio.quantizer.ops.base import context

NEVER_READ = QParams.of(1.0, 0)


class TypeChoice:
    """The choice for one graph.

    Args:
        graph: real-valued.
        seen: histogram of every computed tensor.
        method: of choosing ranges: min-max, percentile, mse or kl.
        dtype: of the activations: int8 or int16.
    """

    def __init__(self, graph: Graph, seen: Mapping[str, Histogram], method: str, dtype: DType) -> None:
        self.graph = graph
        self.seen = seen
        self.method = method
        self.dtype = dtype
        self.width = {node.name: self._width(node) for node in graph.nodes}
        self.types: dict[str, TensorType] = dict(graph.types)
        self._dictated: dict[str, QParams] = {}
        real = [t for t in graph.inputs if graph.types[t].dtype.is_float]
        for tensor in real:
            self.types[tensor] = replace(graph.types[tensor], dtype=dtype)
        for node in graph.nodes:
            self._type_outputs(node)
        for group in self._groups():
            self._scale(group)
        self.variables = {name: self._variable(name, v) for name, v in graph.variables.items()}

    def _width(self, node: Node) -> DType:
        """The type in which a node computes: that asked for, or int8 where its limits want that."""
        if self.dtype is DType.INT8:
            return DType.INT8
        op, ctx = ops.operator(node.op, str(node)), context(self.graph, node)

        def typed(kinds: Sequence[TensorType | None], qparams: Sequence[QParams]) -> tuple[TensorType | None, ...]:
            return tuple(
                replace(t, dtype=self.dtype, qparams=q) if t is not None and t.dtype.is_float else t
                for t, q in zip(kinds, qparams, strict=True)
            )

        any_scale = [QParams.of(2**-10, 0)]
        outputs = typed(ctx.outputs, any_scale * len(ctx.outputs))
        fixed = op.output_qparams(replace(ctx, outputs=outputs))  # type: ignore[arg-type]
        trial = replace(
            ctx,
            inputs=typed(ctx.inputs, any_scale * len(ctx.inputs)),
            outputs=outputs if fixed is None else typed(ctx.outputs, fixed),  # type: ignore[arg-type]
            ranges=dict.fromkeys(range(len(ctx.inputs)), (self.dtype.low, self.dtype.high)),
        )
        if node.op in WEIGHTED:
            return DType.INT8 if node.op == "Svdf" else self.dtype
        try:
            op.check(trial)
        except UnsupportedError:
            return DType.INT8
        return self.dtype

    def _type_outputs(self, node: Node) -> None:
        real = [out for out in node.outputs if self.graph.types[out].dtype.is_float]
        for out in real:
            self.types[out] = replace(self.graph.types[out], dtype=self.width[node.name])
        ctx = replace(context(self.graph, node), outputs=tuple(self.types[out] for out in node.outputs))
        fixed = ops.operator(node.op).output_qparams(ctx)
        if fixed is not None:
            self._dictated |= {out: q for out, q in zip(node.outputs, fixed, strict=True) if out in real}

    def _groups(self) -> Iterator[list[str]]:
        """Computed real tensors that share a scale: tied by operators that move integers, or by a variable."""
        groups: dict[str, list[str]] = {t: [t] for t in self.seen if self.graph.types[t].dtype.is_float}
        keepers: dict[str, list[str]] = {}
        for node in self.graph.nodes:
            op, names = ops.operator(node.op, str(node)), [*node.inputs, *node.outputs]
            variable = getattr(node.attrs, "variable", None)
            if variable is not None:
                names += keepers.get(variable, [])
                keepers[variable] = names
            elif not (op.same_scale or op.alias):
                continue
            # Of several outputs the first is of the values: TopK's second is of places.
            dtype = self.types[node.outputs[0] if node.outputs else names[-1]].dtype
            names = [t for t in names if t in groups and self.types[t].dtype is dtype]
            merged = list(dict.fromkeys(t for name in names for t in groups[name]))
            groups.update(dict.fromkeys(merged, merged))
        yield from {id(g): g for g in groups.values()}.values()

    def _scale(self, group: list[str]) -> None:
        """Give a group its scale. A dictated one serves all when it covers what the others hold."""
        dtype = self.types[group[0]].dtype
        dictated = {self._dictated[t] for t in group if t in self._dictated}
        histograms = [self.seen[t] for t in group] + self._constants(group)
        shared = choose_qparams(histograms, self._method(group), dtype)
        if len(dictated) == 1:
            scale, zero = next(iter(dictated)).per_tensor
            low, high = scale * (dtype.low - zero), scale * (dtype.high - zero)
            if all(low - scale <= h.low and h.high <= high + scale for h in histograms):
                shared = next(iter(dictated))
        for t in group:
            self.types[t] = replace(self.types[t], qparams=self._dictated.get(t, shared))

    def _method(self, group: list[str]) -> str:
        """Inputs keep their whole range: what a sensor delivers is not an outlier."""
        return "min-max" if set(group) & set(self.graph.inputs) else self.method

    def _constants(self, group: list[str]) -> list[Histogram]:
        """Histograms of the constants that nodes of a group move along with its tensors."""
        result = []
        for node in self.graph.nodes:
            if ops.operator(node.op).same_scale and node.outputs[0] in group:
                for name in node.inputs:
                    if name in self.graph.constants and self.graph.types[name].dtype.is_float:
                        histogram = Histogram()
                        histogram.add(self.graph.constants[name].astype(np.float64))
                        result.append(histogram)
        return result

    def _variable(self, name: str, variable: Variable) -> Variable:
        """A variable in the type of what is read from it; its initial value quantised."""
        readers = [n for n in self.graph.nodes if getattr(n.attrs, "variable", None) == name]
        tensors = [t for n in readers for t in (*n.outputs, *n.inputs) if t in self.seen]
        if not variable.type.dtype.is_float or not tensors:
            return variable
        kind = replace(self.types[tensors[0]], shape=variable.type.shape)
        scale, zero = (kind.qparams or NEVER_READ).per_tensor
        stored = np.clip(np.rint(variable.initial / scale) + zero, kind.dtype.low, kind.dtype.high)
        return Variable(kind, stored.astype(kind.dtype.numpy))

    def wanted(self, node: Node, tensor: str) -> TensorType:
        """The type in which a node reads a computed tensor."""
        kind = self.types[tensor]
        op, variable = ops.operator(node.op), getattr(node.attrs, "variable", None)
        if variable is not None:
            return replace(self.variables[variable].type, shape=kind.shape)
        if not self.graph.types[tensor].dtype.is_float:
            return kind
        if (op.same_scale or op.alias) and node.outputs:
            return replace(self.types[node.outputs[0]], shape=kind.shape)
        if kind.dtype is not self.width[node.name]:
            dtype = self.width[node.name]
            return TensorType(dtype, kind.shape, choose_qparams([self.seen[tensor]], self.method, dtype))
        return kind

    def connected(self) -> Graph:
        """The graph with these types (constants still real) and a Quantize wherever a node wants another type."""
        types, nodes = dict(self.types), []
        made: dict[tuple[str, TensorType], str] = {}
        quantize = ops.operator("Quantize")
        for node in self.graph.nodes:
            inputs = list(node.inputs)
            for i, tensor in enumerate(node.inputs):
                if tensor not in self.seen or self.wanted(node, tensor) == self.types[tensor]:
                    continue
                key = (tensor, self.wanted(node, tensor))
                if key not in made:
                    made[key] = unique_name(f"{tensor}/{key[1].dtype}", types)
                    types[made[key]] = key[1]
                    nodes.append(
                        Node("Quantize", made[key], (tensor,), (made[key],), quantize.attrs(), source=node.source)
                    )
                inputs[i] = made[key]
            nodes.append(replace(node, inputs=tuple(inputs)))
        return self.graph.with_(types=types, nodes=tuple(nodes), variables=self.variables)


WEIGHTED = frozenset({"Conv2D", "DepthwiseConv2D", "FullyConnected", "TransposeConv2D", "Svdf"})
"""Operators with int8 weights of their own: int16 activations are fine for all but SVDF."""


def int8_islands(graph: Graph) -> list[Node]:
    """The nodes of a quantised graph of int16 inputs that compute in int8, having no int16 kernel."""
    if all(graph.types[t].dtype is not DType.INT16 for t in graph.inputs):
        return []
    return [
        node
        for node in graph.nodes
        if node.op != "Quantize"
        and not (ops.operator(node.op).same_scale or ops.operator(node.op).alias)
        and any(graph.types[t].dtype is DType.INT8 for t in node.outputs)
    ]
