"""Samples from a file through a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from intaglio.host.client import Client, Model, Prediction
from intaglio.host.store import Store
from intaglio.host.tensors import TensorMeta
from intaglio.quantizer.errors import CalibrationError

Array = NDArray[Any]


def device_samples(path: Path, model: Model, count: int | None) -> tuple[list[list[Array]], Array | None]:
    """Read samples for a model on a device; floats are quantised with the scales that the device states.

    Args:
        path: .npy (one input) or .npz: an array per input by its name, or `x`; labels under `y`.
        count: at most so many.

    Raises:
        CalibrationError: the file cannot be read, or does not fit the model's inputs.
    """
    from intaglio.host.samples import read_arrays

    arrays = read_arrays(path)
    columns = []
    for tensor in model.inputs:
        value = arrays.get(tensor.name, arrays.get("x") if len(model.inputs) == 1 else None)
        if value is None:
            raise CalibrationError(str(path), f"holds no array '{tensor.name}'", f"it holds {', '.join(arrays)}")
        columns.append(_quantised(value[:count], tensor, f"{path}: {tensor.name}"))
    samples = [list(sample) for sample in zip(*columns, strict=False)]
    if not samples:
        raise CalibrationError(str(path), "holds no samples", "give at least one")
    labels = arrays.get("y")
    return samples, None if labels is None else labels[: len(samples)]


def _quantised(values: Array, tensor: TensorMeta, where: str) -> Array:
    from intaglio.host.samples import to_integers
    from intaglio.quantizer.ir import DType, QParams, TensorType

    scale = tensor.scale
    qparams = None if scale is None else QParams.of(scale, tensor.zero_point)
    return to_integers(values, TensorType(DType(tensor.dtype), tensor.shape, qparams), where)


def predict_all(
    client: Client,
    model: Model,
    samples: Sequence[Sequence[Array]],
    capture: bool,
    store: Path | None,
    done: Callable[[], None],
) -> list[Prediction]:
    """Predict every sample; with a store, move captured records there before the device's ring is full.

    Args:
        capture: ask the device to record inputs and outputs.
        store: the capture store's file; None leaves the records on the device.
        done: called after each prediction.
    """
    results = []
    if store is None:
        for sample in samples:
            results.append(client.predict(model.index, sample, capture))
            done()
        return results
    with Store(store) as kept:
        for sample in samples:
            results.append(client.predict(model.index, sample, capture))
            client.ring.drain(kept)
            done()
    return results
