"""Give every tensor of a real-valued graph integers: activations by calibration, weights by their own range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.errors import GraphError
from intaglio.quantizer.histogram import Histogram
from intaglio.quantizer.ir import Contract, DType, Graph, Node, QParams, TensorType
from intaglio.quantizer.ops.accumulate import NO_CLAMP
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.passes.rewrite import LINEAR_AXIS
from intaglio.quantizer.reference import dequantise

Reals = NDArray[np.float64]


def quantise(graph: Graph, activations: Mapping[str, QParams], seen: Mapping[str, Histogram], dtype: DType) -> Graph:
    """Return the graph with integer types and constants, contract `exact`.

    Weights of linear layers: int8, symmetric, one scale per output channel. Biases: int32 (int64 under int16
    activations) on the accumulator's scale, corrected by the expected error of the weights' rounding. Other
    constant operands: like activations, by their own range.

    Args:
        activations: scale and zero point of every computed real tensor.
        seen: histograms of the same tensors; their means are what the bias correction expects.
        dtype: of the activations.
    """
    types = dict(graph.types)
    constants: dict[str, NDArray[Any]] = dict(graph.constants)
    for name, qparams in activations.items():
        types[name] = TensorType(dtype, types[name].shape, qparams)
    nodes = []
    for node in graph.nodes:
        if node.op in LINEAR_AXIS:
            node = _linear(graph, node, types, constants, seen)
        else:
            for name in node.inputs:
                if name in constants and types[name].dtype.is_float:
                    _operand(name, types, constants, dtype)
        nodes.append(node)
    result = graph.with_(nodes=tuple(nodes), types=types, constants=constants, contract=Contract.EXACT).pruned()
    for name, kind in result.types.items():
        if kind.dtype.is_float:
            raise GraphError(name, "is still real after quantisation", "report this model")
    return result


def _operand(name: str, types: dict[str, TensorType], constants: dict[str, NDArray[Any]], dtype: DType) -> None:
    """Quantise a constant operand by its own range."""
    value = constants[name].astype(np.float64)
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    if dtype is DType.INT16:
        scale, zero = max(-low, high, 1e-12) / dtype.high, 0
    else:
        scale = float(np.float32(max(high - low, 1e-12) / 255))
        zero = int(np.clip(np.rint(dtype.low - low / scale), dtype.low, dtype.high))
    qparams = QParams.of(scale, zero)
    constants[name] = np.clip(np.rint(value / qparams.scale[0]) + zero, dtype.low, dtype.high).astype(dtype.numpy)
    types[name] = TensorType(dtype, types[name].shape, qparams)


def weight_integers(weights: Reals, axis: int) -> tuple[NDArray[np.int8], QParams]:
    """Symmetric int8 per channel: round(w / scale), scale = max|w| / 127 in binary32; 1 for channels of zeros."""
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    largest = np.abs(rows).max(axis=1)
    scale = np.where(largest > 0, np.maximum(largest / 127, 1e-30), 1.0).astype(np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    stored = np.clip(np.rint(weights / scale.astype(np.float64).reshape(shape)), -127, 127).astype(np.int8)
    return stored, QParams(tuple(float(s) for s in scale), (0,) * len(scale), axis)


def _linear(
    graph: Graph,
    node: Node,
    types: dict[str, TensorType],
    constants: dict[str, NDArray[Any]],
    seen: Mapping[str, Histogram],
) -> Node:
    """Quantise the weights and the bias of a linear layer; their tensors are its own from here on."""
    axis = LINEAR_AXIS[node.op]
    weights = graph.constants[node.inputs[1]].astype(np.float64)
    if graph.types[node.inputs[1]].qparams is not None:
        weights = dequantise(graph.constants[node.inputs[1]], graph.types[node.inputs[1]])
    x = types[node.inputs[0]]
    stored, qparams = weight_integers(weights, axis)
    channels = weights.shape[axis]
    bias = np.zeros(channels)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = graph.constants[node.inputs[2]].astype(np.float64).ravel()
    error = _expected_error(graph, node, weights, stored, qparams, axis, seen[node.inputs[0]])
    # A bias beyond 30 bits would overflow the accumulator: its channel gets coarser weights instead.
    scales = np.array(qparams.scale, np.float64)
    product = x.scale * scales
    wide = x.dtype is DType.INT16
    limit = float(2**46 if wide else 2**29)
    coarse = np.abs(bias - error) > product * limit
    if np.any(coarse):
        scales = np.where(coarse, np.abs(bias - error) / limit / x.scale, scales).astype(np.float32).astype(np.float64)
        shape = [1] * weights.ndim
        shape[axis] = -1
        stored = np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8)
        qparams = QParams(tuple(float(s) for s in scales), (0,) * channels, axis)
        product = x.scale * scales
    integers = np.rint((bias - error) / product)
    names = (f"{node.name}/weights", f"{node.name}/bias")
    constants[names[0]], constants[names[1]] = stored, integers.astype(np.int64 if wide else np.int32)
    types[names[0]] = TensorType(DType.INT8, weights.shape, qparams)
    bias_scale = QParams(tuple(float(p) for p in product.astype(np.float32)), (0,) * channels, 0)
    types[names[1]] = TensorType(DType.INT64 if wide else DType.INT32, (channels,), bias_scale)
    return replace(node, inputs=(node.inputs[0], *names))


def _expected_error(
    graph: Graph,
    node: Node,
    weights: Reals,
    stored: NDArray[np.int8],
    qparams: QParams,
    axis: int,
    histogram: Histogram,
) -> Reals:
    """By how much rounding the weights shifts each output channel, for the mean input: float64 (channels,).

    Source of the bias correction: M. Nagel et al., "Data-Free Quantization through Weight Equalization and Bias
    Correction", ICCV 2019, section 4.2, with the means measured instead of derived.
    """
    difference = dequantise(stored, TensorType(DType.INT8, stored.shape, qparams)) - weights
    attrs = replace(node.attrs, clamp=NO_CLAMP)
    bare = replace(node, inputs=node.inputs[:2], attrs=attrs)
    mean = histogram.mean.reshape(graph.types[node.inputs[0]].shape)
    (shift,) = ops.operator(node.op).reference(context(graph, bare), [mean, difference])
    return np.asarray(shift.reshape(-1, weights.shape[axis]).mean(axis=0), np.float64)
