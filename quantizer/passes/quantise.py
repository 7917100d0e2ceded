"""Give every tensor of a real-valued graph integers: activations by calibration, weights by their own range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.calibrate import affine_qparams
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.histogram import Histogram
from intaglio.quantizer.ir import Contract, DType, Graph, Node, QParams, TensorType, Variable
from intaglio.quantizer.ops.accumulate import NO_CLAMP
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.passes.assign_types import TypeChoice
from intaglio.quantizer.passes.rewrite import LINEAR_AXIS
from intaglio.quantizer.reference import dequantise

Reals = NDArray[np.float64]


def quantise(graph: Graph, seen: Mapping[str, Histogram], method: str, dtype: DType) -> Graph:
    """Return the graph with integer types and constants, contract `exact`.

    Weights of linear layers: int8, symmetric, one scale per output channel. Biases: int32 (int64 under int16
    activations) on the accumulator's scale, corrected by the expected error of the weights' rounding. Other
    constant operands: like activations, by their own range.

    Args:
        seen: histogram of every computed tensor; their means are what the bias correction expects.
        method: of choosing ranges: min-max, percentile, mse or kl.
        dtype: of the activations: int8 or int16.

    Raises:
        UnsupportedError: an operator leaves a real tensor.
    """
    choice = TypeChoice(graph, seen, method, dtype)
    connected = choice.connected()
    writer = _Writer(graph, connected, seen)
    nodes = [writer.node(node, choice.width.get(node.name, dtype)) for node in connected.nodes]
    result = connected.with_(
        nodes=tuple(nodes),
        types=writer.types,
        constants=writer.constants,
        variables=writer.variables,
        contract=Contract.EXACT,
    ).pruned()
    for node in result.nodes:
        for name in (*node.inputs, *node.outputs):
            if name and result.types[name].dtype.is_float:
                raise UnsupportedError(str(node), f"'{name}' stays real", "quantise the model before exporting it")
    return result


_SVDF_SUM = 2.0**31 - 2.0**29 - 2.0**24
"""The largest sum over an SVDF unit's memory; what rounding the weights adds is in the rest."""


class _Writer:
    """Collects the quantised constants of a graph.

    Args:
        real: the graph before any type was changed; `connected`: the same with integer types of what is computed.
    """

    def __init__(self, real: Graph, connected: Graph, seen: Mapping[str, Histogram]) -> None:
        self.real = real
        self.seen = seen
        self.sources = {out: n.inputs[0] for n in connected.nodes if n.op == "Quantize" for out in n.outputs}
        self.types = dict(connected.types)
        self.constants: dict[str, NDArray[Any]] = dict(connected.constants)
        self.variables: dict[str, Variable] = dict(connected.variables)

    def node(self, node: Node, dtype: DType) -> Node:
        """Quantise a node's constant operands; they become its own where they are not shared unchanged."""
        if node.op in LINEAR_AXIS:
            return self._linear(node)
        if node.op == "Svdf":
            return self._svdf(node)
        inputs = list(node.inputs)
        for i, name in enumerate(inputs):
            if name in self.constants and self.real.types[name].dtype.is_float:
                value = self.constants[name].astype(np.float64)
                moved = ops.operator(node.op).same_scale
                qparams = self.types[node.outputs[0]].qparams if moved else None
                if qparams is None:
                    qparams = affine_qparams(min(float(value.min()), 0.0), max(float(value.max()), 0.0), dtype)
                inputs[i] = self._store(f"{node.name}/{i}", value, dtype, qparams)
        return replace(node, inputs=tuple(inputs))

    def _store(self, name: str, value: Reals, dtype: DType, qparams: QParams) -> str:
        """Add a constant: clip(round(value / scale) + zero point)."""
        kind = TensorType(dtype, tuple(value.shape), qparams)
        scale, zero = (np.array(v, np.float64) for v in (qparams.scale, qparams.zero_point))
        if qparams.axis is not None:
            shape = [1] * value.ndim
            shape[qparams.axis] = -1
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        low = -dtype.high if qparams.axis is not None else dtype.low
        stored = np.clip(np.rint(value / scale) + zero, low, dtype.high)
        self.constants[name], self.types[name] = stored.astype(dtype.numpy).reshape(value.shape), kind
        return name

    def _reals(self, name: str) -> Reals:
        """A constant of the model as reals; weights may arrive quantised (hybrid models)."""
        return dequantise(self.real.constants[name], self.real.types[name])

    def _linear(self, node: Node) -> Node:
        axis, x = LINEAR_AXIS[node.op], self.types[node.inputs[0]]
        if any(name and name not in self.real.constants for name in node.inputs[1:]):
            raise UnsupportedError(str(node), "weights or bias are computed", "make them constants")
        weights = self._reals(node.inputs[1])
        bias = self._reals(node.inputs[2]).ravel() if len(node.inputs) > 2 and node.inputs[2] else None
        channels = weights.shape[axis]
        largest = np.abs(np.moveaxis(weights, axis, 0).reshape(channels, -1)).max(axis=1)
        scales = np.where(largest > 0, np.maximum(largest / 127, 2.0**-100), 1.0).astype(np.float32).astype(np.float64)
        offset = np.zeros(channels) if bias is None else bias
        # A bias that fills the accumulator would overflow it (int32), or need slow arithmetic (int64 beyond 33 bits):
        # its channel gets coarser weights instead.
        wide = x.dtype is DType.INT16
        limit = 2.0**31 if wide else 2.0**29
        least = np.nextafter((np.abs(offset) / limit / x.scale).astype(np.float32), np.float32(np.inf))
        scales = np.maximum(scales, least.astype(np.float64))
        qparams = QParams(tuple(float(s) for s in scales), (0,) * channels, axis)
        w = self._store(f"{node.name}/weights", weights, DType.INT8, qparams)
        offset = offset - self._expected_error(node, weights, w, axis)
        product = QParams(tuple(float(s) for s in x.scale * scales), (0,) * channels, 0)
        b = self._store(f"{node.name}/bias", offset, DType.INT64 if wide else DType.INT32, product)
        return replace(node, inputs=(node.inputs[0], w, b))

    def _expected_error(self, node: Node, weights: Reals, stored: str, axis: int) -> Reals:
        """By how much rounding the weights shifts each output channel, for the mean input: float64 (channels,).

        Source of the bias correction: M. Nagel et al., "Data-Free Quantization through Weight Equalization and
        Bias Correction", ICCV 2019, section 4.2, with the means measured instead of derived.
        """
        difference = dequantise(self.constants[stored], self.types[stored]) - weights
        tensor = self.sources.get(node.inputs[0], node.inputs[0])
        bare = replace(node, inputs=(tensor, node.inputs[1]), attrs=replace(node.attrs, clamp=NO_CLAMP))
        mean = self.seen[tensor].mean.reshape(self.real.types[tensor].shape)
        (shift,) = ops.operator(node.op).reference(context(self.real, bare), [mean, difference])
        return np.asarray(shift.reshape(-1, weights.shape[axis]).mean(axis=0), np.float64)

    def _svdf(self, node: Node) -> Node:
        """int8 feature weights, int16 time weights and state, per tensor; the state's range is its bound."""
        variable = node.attrs.state_variable
        feature, time = self._reals(node.inputs[1]), self._reals(node.inputs[2])
        seen = self.seen[self.sources.get(node.inputs[0], node.inputs[0])]
        bound = float(np.abs(feature).sum(axis=1).max()) * max(-seen.low, seen.high)
        state = affine_qparams(-bound, bound, DType.INT16)
        bias = self._reals(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
        # Full weights over a full state leave int32 from three terms on: what a unit sums gets 31 bits, the bias 29.
        units = np.abs(time).reshape(-1, node.attrs.rank * time.shape[1]).sum(axis=1)
        scales = {
            "feature": float(np.abs(feature).max()) / 127,
            "time": max(float(np.abs(time).max()) / 32767, float(units.max()) * 32768 / _SVDF_SUM),
        }
        if bias is not None:
            scales["time"] = max(scales["time"], float(np.abs(bias).max()) / 2.0**29 / state.scale[0])
        inputs = [node.inputs[0]]
        for name, value, dtype in (("feature", feature, DType.INT8), ("time", time, DType.INT16)):
            qparams = QParams.of(float(np.float32(max(scales[name], 2.0**-100))), 0)
            inputs.append(self._store(f"{node.name}/{name}", value, dtype, qparams))
        if bias is not None:
            scale = QParams((state.scale[0] * self.types[inputs[2]].scale,), (0,))
            inputs.append(self._store(f"{node.name}/bias", bias, DType.INT32, scale))
        kept = self.real.variables[variable]
        stored = np.clip(np.rint(kept.initial / state.scale[0]), -32768, 32767).astype(np.int16)
        self.variables[variable] = Variable(TensorType(DType.INT16, kept.type.shape, state), stored)
        return replace(node, inputs=tuple(inputs))
