"""From calibration samples to the ranges of every tensor of a real-valued graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from intaglio.quantizer import ops
from intaglio.quantizer.data import open_data
from intaglio.quantizer.errors import CalibrationError
from intaglio.quantizer.histogram import Histogram, choose_range
from intaglio.quantizer.ir import DType, Graph, QParams
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.reference import Evaluator, Mode

MAX_SAMPLES = 1000
"""Calibration reads no more: ranges and means have settled long before."""


def observe(graph: Graph, data: Path, count: int = MAX_SAMPLES) -> dict[str, Histogram]:
    """Run samples through a real-valued graph, one at a time, and return each computed tensor's histogram.

    Raises:
        CalibrationError: the data cannot be read, are empty, of a wrong shape, or make a tensor overflow.
    """
    evaluator = Evaluator(graph, Mode.REAL)
    names = [*graph.inputs, *(out for node in graph.nodes for out in node.outputs)]
    seen = {name: Histogram() for name in names}
    for index, (sample, _) in enumerate(islice(open_data(data, graph).samples(), count)):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            values = evaluator.run(sample)
        for name in names:
            if not np.all(np.isfinite(values[name])):
                raise CalibrationError(f"{data}, sample {index}", f"makes '{name}' overflow", "remove the sample")
            seen[name].add(values[name])
    return seen


def scale_groups(graph: Graph) -> list[set[str]]:
    """Sets of computed tensors that must share scale and zero point, since an operator between them moves integers."""
    groups: dict[str, set[str]] = {}
    for node in graph.nodes:
        op = ops.operator(node.op, str(node))
        if not (op.same_scale or op.alias):
            continue
        tied = [n for n in (*node.inputs, *node.outputs) if n and n not in graph.constants]
        tied = [n for n in tied if graph.types[n].dtype.is_float]
        merged = set(tied).union(*(groups.get(n, set()) for n in tied))
        groups.update(dict.fromkeys(merged, merged))
    return list({id(g): g for g in groups.values()}.values())


def activation_qparams(graph: Graph, seen: Mapping[str, Histogram], method: str, dtype: DType) -> dict[str, QParams]:
    """Choose scale and zero point of every real-valued computed tensor.

    int8: asymmetric; int16: symmetric. What an operator dictates (softmax: 1/256) wins over the data.

    Args:
        method: min-max, percentile, mse or kl.
    """
    dictated: dict[str, QParams] = {}
    for node in graph.nodes:
        fixed = ops.operator(node.op).output_qparams(context(graph, node))
        if fixed is not None and dtype is DType.INT8:
            dictated.update(zip(node.outputs, fixed, strict=True))
    result: dict[str, QParams] = {}
    groups = scale_groups(graph)
    grouped = set().union(*groups) if groups else set()
    real = [n for n in seen if graph.types[n].dtype.is_float]
    for group in (*groups, *({n} for n in real if n not in grouped)):
        members = [n for n in real if n in group]
        fixed_here = [dictated[n] for n in members if n in dictated]
        qparams = fixed_here[0] if fixed_here else _choose([seen[n] for n in members], method, dtype)
        result.update(dict.fromkeys(members, qparams))
    return result


def _choose(histograms: Iterable[Histogram], method: str, dtype: DType) -> QParams:
    items = list(histograms)
    merged = items[0]
    for other in items[1:]:
        merged = merged.merge(other)
    symmetric = dtype is DType.INT16
    levels = dtype.high - dtype.low + 1
    low, high = choose_range(merged, method, levels, symmetric=symmetric)
    if symmetric:
        return QParams.of(max(high, 1e-12) / dtype.high, 0)
    scale = np.float32(max(high - low, 1e-12) / (levels - 1))
    zero = int(np.clip(np.rint(dtype.low - low / float(scale)), dtype.low, dtype.high))
    return QParams.of(float(scale), zero)
