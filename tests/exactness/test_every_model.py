"""All models of the manifest: compared integer by integer on the host and on every simulated core, or refused by name.

A model takes part as soon as it compiles: nothing has to be listed but what is refused.
"""

from __future__ import annotations

import csv
import functools
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from intaglio.boards.cores import CORES, Core
from intaglio.codegen.compile import make_manifest, write_library
from intaglio.codegen.emit import Library, emit
from intaglio.host.elfscan import check_armv6m, scan_elf
from intaglio.host.hostrun import run_many_on_host
from intaglio.host.records import Trace
from intaglio.host.samples import drawn_samples
from intaglio.host.simcore import run_on_core
from intaglio.host.verify import HOST_BUILDS, Layers, compare, evaluate, traced
from intaglio.quantizer.errors import ModelError, UnsupportedError
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import DType, Graph
from intaglio.quantizer.pipeline import Options, run_pipeline
from intaglio.quantizer.reference import Mode

Array = NDArray[Any]

MEASURED = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55")

TAKEN = {"tflite": 32, "tflite-op-golden": 66, "onnx": 10}
"""The manifest's kinds of models that are read, and how many models at least are compared (in float: two each)."""

UNREAD = {"keras-h5": "unknown model format '.h5'", "darknet-cfg": "unknown model format '.cfg'"}
"""Kinds of models that no frontend reads; the other kinds are data, recorded outputs and weights."""

REFUSED = {
    "tflite/trained_lstm.tflite": r"UNIDIRECTIONAL_SEQUENCE_LSTM .* is not supported yet; recurrent layers come later",
    "tflite/trained_lstm_int8.tflite": r"UNIDIRECTIONAL_SEQUENCE_LSTM .* is not supported yet; recurrent layers come",
    "tflite/audio_preprocessor_int8.tflite": r"operator CUSTOM:SignalWindow .* is not supported",
    "onnx/golden_CCT_16_8/network.onnx": r"LayerNormalization",
}
"""Model to the reason."""


def manifest(models: Path, kind: str) -> list[str]:
    """The files of a kind, relative to the folder."""
    with (models / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file) if row["kind"] == kind]


def refusals(models: Path, kind: str) -> dict[str, ModelError]:
    """File to why it is refused."""
    result = {}
    for name in manifest(models, kind):
        try:
            load_model(models / name)
        except ModelError as error:
            result[name] = error
    return result


def test_what_is_refused_is_refused_by_name(models: Path) -> None:
    """Both ways: nothing else is refused, and what has come to be read is no longer listed."""
    refused = {name: error for kind in TAKEN for name, error in refusals(models, kind).items()}
    assert sorted(refused) == sorted(REFUSED)
    for name, error in refused.items():
        assert isinstance(error, UnsupportedError), name
        assert re.search(REFUSED[name], str(error)), error


@pytest.mark.parametrize("kind", UNREAD)
def test_other_formats_are_refused_by_name(kind: str, models: Path) -> None:
    refused = refusals(models, kind)
    assert sorted(refused) == sorted(manifest(models, kind))
    assert all(UNREAD[kind] in str(error) for error in refused.values())


@dataclass(frozen=True)
class Subject:
    """A model that takes part.

    Attributes:
        label: the file, and how a model in float was quantised.
        name: of its library.
        samples: extremes, random integers, and the recorded inputs where there are.
        reference: every tensor of every sample by the integer reference.
        recorded: the recorded output; None without.
    """

    label: str
    name: str
    graph: Graph
    samples: list[list[Array]]
    reference: Layers
    recorded: Array | None


@functools.cache
def subjects(models: Path, kind: str) -> tuple[Subject, ...]:
    """Every model of a kind that is not refused; models in float twice: int8, and int16 activations."""
    result = []
    for number, name in enumerate(manifest(models, kind)):
        path = models / name
        try:
            graph = load_model(path)
        except ModelError:
            continue
        with tempfile.TemporaryDirectory() as folder:
            ways = {name: Options()}
            if graph.contract is None:
                data = calibration(graph, Path(folder) / "noise.npz")
                ways = {f"{name} as {d}": Options(data=data, activations=d) for d in (DType.INT8, DType.INT16)}
            for way, (label, options) in enumerate(ways.items()):
                lowered = run_pipeline(path, options)
                samples = drawn_samples(lowered, 3)
                record = recorded(path, lowered)
                samples += [] if record is None else [record[0]]
                reference = evaluate(lowered, samples, Mode.INTEGER)
                output = None if record is None else record[1]
                result.append(Subject(label, f"model_{number}_{way}", lowered, samples, reference, output))
    return tuple(result)


def generate(subject: Subject, core: Core, folder: Path) -> Library:
    """Write the library as `intaglio compile` does."""
    library = emit(subject.graph, subject.name, core)
    write_library(library, folder, make_manifest(library, core, None))
    return library


def differences(subject: Subject, library: Library, traces: Sequence[Sequence[Trace]], route: str) -> list[str]:
    """A line when an integer at a layer boundary is not that of the reference."""
    names = [(layer.index, i, t) for layer in library.layers for i, t in enumerate(layer.tensors)]
    row = compare(route, subject.reference, traced(subject.graph, names, traces))
    if row.exact and row.integers:
        return []
    return [f"{subject.label}, {route}: {row.different} of {row.integers} differ: {row.first}"]


def calibration(graph: Graph, path: Path) -> Path:
    """Normal noise: whether integers are equal does not depend on how well the scales fit."""
    rng = np.random.default_rng(0)
    np.savez(path, **{name: rng.normal(size=(8, *graph.types[name].shape)) for name in graph.inputs})
    return path


def recorded(path: Path, graph: Graph) -> tuple[list[Array], Array] | None:
    """The inputs and the output that lie beside a model of one operator."""
    golden = [*path.parent.glob(f"{path.stem}_golden_*.csv")]
    if not golden:
        return None
    inputs = [read_csv(p) for p in sorted(path.parent.glob(f"{path.stem}_input*.csv"))]
    kinds = [graph.types[name] for name in graph.inputs]
    return [v.reshape(k.shape).astype(k.dtype.numpy) for v, k in zip(inputs, kinds, strict=True)], read_csv(golden[0])


def read_csv(path: Path) -> Array:
    """Integers separated by commas and line ends."""
    return np.array([int(v) for v in path.read_text().replace("\n", ",").split(",") if v.strip()], np.int64)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("core_name", MEASURED)
@pytest.mark.parametrize("kind", TAKEN)
def test_every_model_is_exact_on_the_core(kind: str, core_name: str, models: Path, tmp_path: Path) -> None:
    """Every layer boundary == the integer reference, recorded outputs ==, no float; for M0, Armv6-M alone."""
    core = CORES[core_name]
    failures = []
    for subject in subjects(models, kind):
        folder = tmp_path / subject.name
        library = generate(subject, core, folder)
        result = run_on_core(folder, core, subject.samples, trace=True, count=False)
        failures += differences(subject, library, result.traces, core_name)
        if subject.recorded is not None and not np.array_equal(result.outputs[-1][0].ravel(), subject.recorded):
            failures.append(f"{subject.label}: not the recorded output")
        image = folder / "image.elf"
        image.write_bytes(result.elf)
        failures += [f"{subject.label}: {finding}" for finding in scan_elf(image, core).findings]
        if not core.thumb2:
            failures += [f"{subject.label}: not Armv6-M: {code}" for code in check_armv6m(image)]
    assert not failures, "\n".join(failures)
    assert len(subjects(models, kind)) >= TAKEN[kind]
    assert all(subject.recorded is not None for subject in subjects(models, "tflite-op-golden"))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("compiler", "opt", "sanitize"), HOST_BUILDS)
@pytest.mark.parametrize("kind", TAKEN)
def test_every_model_is_exact_on_the_host(
    kind: str, compiler: Any, opt: str, sanitize: bool, models: Path, tmp_path: Path
) -> None:
    taken = subjects(models, kind)
    assert len(taken) >= TAKEN[kind]
    libraries = [generate(subject, CORES["cortex-m0"], tmp_path / subject.name) for subject in taken]
    folders = [tmp_path / subject.name for subject in taken]
    results = run_many_on_host(folders, [subject.samples for subject in taken], compiler, opt, sanitize)
    failures = []
    for subject, library, result in zip(taken, libraries, results, strict=True):
        failures += differences(subject, library, result.traces, f"{compiler} {opt}")
    assert not failures, "\n".join(failures)
