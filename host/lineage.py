"""Where a packaged model comes from, and what its tensors looked like when it was made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.quantizer.data import open_data
from intaglio.quantizer.errors import PackageError
from intaglio.quantizer.ir import Graph
from intaglio.quantizer.pipeline import Options
from intaglio.quantizer.reference import Evaluator, Mode, quantise

BINS = 32
_SAMPLES = 256
_BLOCK = 1 << 20


def lineage(model: Path, graph: Graph, options: Options) -> dict[str, Any]:
    """The facts that tie a package to what it was made from.

    Args:
        model: the model file.
        graph: lowered.
        options: it was compiled with.

    Returns:
        `model`: name and SHA-256 of the file; `options`; with calibration data `data`: the SHA-256 of them, and
        `statistics`: for each input and output of the model, over up to 256 samples of the data, evaluated in
        integers: how many integers, their least and greatest, and how many fall into each of 32 equal parts of the
        type's range, from the lowest. A device counts the same way, so drift is a comparison of integers.

    Raises:
        PackageError: a file cannot be read.
    """
    facts: dict[str, Any] = {
        "model": {"file": model.name, "sha256": file_digest(model)},
        "options": {
            "ranges": options.range_method,
            "activations": str(options.activations),
            "pixels": list(options.pixels),
        },
    }
    if options.data is not None:
        facts["data"] = {"name": options.data.name, "sha256": file_digest(options.data)}
        facts["statistics"] = statistics(graph, options)
    return facts


def statistics(graph: Graph, options: Options) -> list[dict[str, Any]]:
    """See `lineage`."""
    assert options.data is not None
    source = open_data(options.data, graph, options.pixels)
    evaluator = Evaluator(graph, Mode.INTEGER)
    names = [*graph.inputs, *graph.outputs]
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    ends: dict[str, tuple[int, int]] = {}
    for sample, _ in source.samples(_SAMPLES):
        integers = [quantise(value, graph.types[name]) for name, value in zip(graph.inputs, sample, strict=True)]
        values = evaluator.run(integers)
        for name in names:
            dtype = graph.types[name].dtype
            value = values[name]
            width = (dtype.high - dtype.low + 1) // BINS
            counts[name] += np.bincount(((value - dtype.low) // width).ravel(), minlength=BINS)
            low, high = ends.get(name, (dtype.high, dtype.low))
            ends[name] = (min(low, int(value.min())), max(high, int(value.max())))
    return [
        {
            "tensor": name,
            "count": int(counts[name].sum()),
            "least": ends[name][0],
            "greatest": ends[name][1],
            "histogram": counts[name].tolist(),
        }
        for name in names
        if name in ends
    ]


def file_digest(path: Path) -> str:
    """SHA-256 of a file; of a folder: over the names and the digests of its files, in the order of the names.

    Raises:
        PackageError: it cannot be read.
    """
    sha = hashlib.sha256()
    try:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                sha.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode())
        else:
            for block in _blocks(path):
                sha.update(block)
    except OSError as error:
        raise PackageError(str(path), f"cannot be read ({error.strerror})", "check the file") from None
    return sha.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
