"""Samples for running a model: from a file, quantised as the model expects, or drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.data import DAMAGED
from intaglio.quantizer.errors import CalibrationError
from intaglio.quantizer.ir import DType, Graph, TensorType
from intaglio.quantizer.reference import quantise

Array = NDArray[Any]


def drawn_samples(graph: Graph, count: int, seed: int = 1) -> list[list[Array]]:
    """Samples without data: the smallest integers, the largest, then random ones."""
    rng = np.random.default_rng(seed)
    result = []
    for i in range(count):
        sample = []
        for name in graph.inputs:
            kind = graph.types[name]
            low, high = kind.dtype.low, kind.dtype.high
            if i < 2:
                value = np.full(kind.shape, (low, high)[i])
            else:
                value = rng.integers(low, high, kind.shape, endpoint=True)
            sample.append(value.astype(kind.dtype.numpy))
        result.append(sample)
    return result


def samples_for(graph: Graph, path: Path | None, count: int) -> tuple[list[list[Array]], Array | None]:
    """Up to `count` samples of a file with their labels (`load_samples`); without a file, `drawn_samples`."""
    return (drawn_samples(graph, count), None) if path is None else load_samples(path, graph, count)


def load_samples(path: Path, graph: Graph, count: int | None = None) -> tuple[list[list[Array]], Array | None]:
    """Read samples of a model's inputs.

    Args:
        path: .npy (one input) or .npz with one array per input by its name, or `x` for a single input; labels
            may be under `y`. Arrays have a leading axis of samples. Integers of the input's dtype are taken as
            they are; floats are quantised with the input's scale.
        count: at most so many samples.

    Returns:
        Per sample one integer array per input, and the labels.

    Raises:
        CalibrationError: the file cannot be read, an input is missing, a shape is wrong, a value is not finite.
    """
    arrays = read_arrays(path)
    labels = arrays.get("y")
    columns = []
    for name in graph.inputs:
        value = arrays.get(name)
        if value is None and len(graph.inputs) == 1:
            value = next((v for key, v in arrays.items() if key in ("x", "arr_0")), None)
        if value is None:
            raise CalibrationError(str(path), f"holds no array for input '{name}'", f"it holds {', '.join(arrays)}")
        columns.append(to_integers(value[:count], graph.types[name], f"{path}: {name}"))
    lengths = {len(c) for c in columns}
    if len(lengths) != 1 or not lengths.pop():
        raise CalibrationError(str(path), "the inputs have no samples, or not equally many", "give one per sample")
    samples = [list(sample) for sample in zip(*columns, strict=True)]
    return samples, None if labels is None else np.asarray(labels)[: len(samples)]


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a .npz by their names; that of a .npy as `x`.

    Raises:
        CalibrationError: the file cannot be read.
    """
    if not path.is_file():
        raise CalibrationError(str(path), "there is no such file", "give a .npz or .npy of numbers")
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return {"x": stored}
        with stored:
            return {key: stored[key] for key in stored.files}
    except DAMAGED as error:
        raise CalibrationError(str(path), f"cannot be read ({error})", "give a .npz or .npy of numbers") from error


def to_integers(values: Array, kind: TensorType, where: str) -> Array:
    """Return samples as the input's integers: (n, ...) of the input's shape.

    Integers in the dtype's range are taken as they are; everything else is quantised, layout NCHW turned to NHWC
    where only that fits.

    Raises:
        CalibrationError: wrong number of elements, or a value that is not finite.
    """
    if values.dtype.kind not in "iufb":
        raise CalibrationError(where, f"holds {values.dtype}", "give numbers")
    elements = int(np.prod(values.shape[1:]))
    if elements != kind.elements:
        raise CalibrationError(
            where, f"samples of shape {list(values.shape[1:])}", f"the model wants {list(kind.shape)}"
        )
    if values.ndim == 4 and len(kind.shape) == 4 and tuple(values.shape[1:]) != kind.shape[1:]:
        _, c, h, w = values.shape
        if (h, w, c) == kind.shape[1:]:
            values = values.transpose(0, 2, 3, 1)
    values = values.reshape(-1, *kind.shape)
    if values.dtype.kind in "iub" and _same_kind(values.dtype, kind.dtype):
        return values.astype(kind.dtype.numpy)
    if not np.all(np.isfinite(values)):
        raise CalibrationError(where, "holds NaN or infinity", "remove those samples")
    if kind.qparams is None:
        return values.astype(kind.dtype.numpy)
    return quantise(values, kind).astype(kind.dtype.numpy)


def _same_kind(stored: np.dtype[Any], wanted: DType) -> bool:
    return stored == wanted.numpy
