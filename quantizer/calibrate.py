"""From calibration samples to the distribution of every tensor of a real-valued graph, and to its scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from intaglio.quantizer.data import open_data
from intaglio.quantizer.errors import CalibrationError
from intaglio.quantizer.histogram import Histogram, choose_range
from intaglio.quantizer.ir import DType, Graph, QParams
from intaglio.quantizer.reference import Evaluator, Mode

MAX_SAMPLES = 1000
"""Calibration reads no more: ranges and means have settled long before."""


def observe(
    graph: Graph, data: Path, pixels: tuple[float, float] = (0.0, 1.0), count: int = MAX_SAMPLES
) -> dict[str, Histogram]:
    """Run samples through a real-valued graph, one at a time, and return each computed tensor's histogram.

    Args:
        data: a file or folder, see `quantizer.data`.
        pixels: what the darkest and the brightest pixel of an image stand for.
        count: how many samples to read at most.

    Raises:
        CalibrationError: the data cannot be read, are empty, of a wrong shape, or make a tensor overflow.
    """
    evaluator = Evaluator(graph, Mode.REAL)
    names = [*graph.inputs, *(out for node in graph.nodes for out in node.outputs)]
    seen = {name: Histogram() for name in names}
    for index, (sample, _) in enumerate(open_data(data, graph, pixels).samples(count)):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            values = evaluator.run(sample)
        for name in names:
            if not np.all(np.isfinite(values[name])):
                raise CalibrationError(
                    f"{data}, sample {index}", f"makes '{name}' infinite or undefined", "remove the sample"
                )
            seen[name].add(values[name])
    return seen


def choose_qparams(histograms: Sequence[Histogram], method: str, dtype: DType) -> QParams:
    """Choose one scale and zero point for tensors that share them.

    int8: asymmetric, the real 0 exactly representable; int16: symmetric.

    Args:
        histograms: at least one.
        method: min-max, percentile, mse or kl.
        dtype: int8 or int16.
    """
    merged = histograms[0]
    for other in histograms[1:]:
        merged = merged.merge(other)
    symmetric = dtype is DType.INT16
    low, high = choose_range(merged, method, dtype.high - dtype.low + 1, symmetric=symmetric)
    return affine_qparams(low, high, dtype)


def affine_qparams(low: float, high: float, dtype: DType) -> QParams:
    """The scale and zero point that spread the integers of a type over [low, high], low <= 0 <= high."""
    if dtype is DType.INT16:
        return QParams.of(max(-low, high, _LEAST) / dtype.high, 0)
    scale = float(np.float32(max(high - low, _LEAST) / (dtype.high - dtype.low)))
    zero = int(np.clip(np.rint(dtype.low - low / scale), dtype.low, dtype.high))
    return QParams.of(scale, zero)


# A tensor of zeros gets this range: its scale must be positive and its reciprocal finite in binary32.
_LEAST = 1e-12
