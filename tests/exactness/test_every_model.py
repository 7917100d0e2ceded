"""All models of the manifest: compared integer by integer on the host and on every simulated core, or refused by name.

A model takes part as soon as it compiles: nothing has to be listed but what is refused.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from intaglio.boards.cores import CORES, Core
from intaglio.codegen.compile import Compiled, compile_model
from intaglio.host.elfscan import check_armv6m, scan_elf
from intaglio.host.hostrun import run_many_on_host
from intaglio.host.samples import drawn_samples
from intaglio.host.simcore import run_on_core
from intaglio.host.verify import HOST_BUILDS, compare, evaluate, traced
from intaglio.quantizer.errors import ModelError, UnsupportedError
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import DType, Graph
from intaglio.quantizer.pipeline import Options
from intaglio.quantizer.reference import Mode

Array = NDArray[Any]

MEASURED = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55")

KINDS = ("tflite", "tflite-op-golden", "onnx", "keras-h5", "darknet-cfg")
"""The manifest's kinds of models; the others are data, recorded outputs and weights."""

REFUSED = {
    "tflite/trained_lstm.tflite": r"UNIDIRECTIONAL_SEQUENCE_LSTM .* is not supported yet; recurrent layers come later",
    "tflite/trained_lstm_int8.tflite": r"UNIDIRECTIONAL_SEQUENCE_LSTM .* is not supported yet; recurrent layers come",
    "tflite/audio_preprocessor_int8.tflite": r"operator CUSTOM:SignalWindow .* is not supported",
    "onnx/golden_CCT_16_8/network.onnx": r"LayerNormalization",
}
"""Model to the reason."""

UNREAD = {".h5": "unknown model format '.h5'", ".cfg": "unknown model format '.cfg'"}
"""Formats that no frontend reads."""


def manifest(models: Path) -> list[str]:
    """The models' files, relative to the folder."""
    with (models / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file) if row["kind"] in KINDS]


def test_what_is_refused_is_refused_by_name(models: Path) -> None:
    """Both ways: nothing else is refused, and what has come to be read is no longer listed."""
    refused = {}
    for name in manifest(models):
        try:
            load_model(models / name)
        except ModelError as error:
            refused[name] = error
    unread = {name for name in refused if Path(name).suffix in UNREAD}
    assert all(UNREAD[Path(name).suffix] in str(refused.pop(name)) for name in unread)
    assert sorted(refused) == sorted(REFUSED)
    for name, error in refused.items():
        assert isinstance(error, UnsupportedError), name
        assert re.search(REFUSED[name], str(error)), error


def compiled_models(models: Path, core: Core, folder: Path) -> Iterator[tuple[str, Path, Compiled]]:
    """Every model that is not refused, in C for a core; models in float twice: int8, and int16 activations."""
    for number, name in enumerate(manifest(models)):
        path = models / name
        try:
            graph = load_model(path)
        except ModelError:
            continue
        out = folder / f"model_{number}"
        if graph.contract is not None:
            yield name, path, compile_model(path, core, out, name=f"model_{number}")
            continue
        data = calibration(graph, folder / f"{number}.npz")
        for dtype in (DType.INT8, DType.INT16):
            options = Options(data=data, activations=dtype)
            c_name = f"model_{number}_{dtype}"
            yield f"{name} as {dtype}", path, compile_model(path, core, folder / c_name, name=c_name, options=options)


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


def boundaries(compiled: Compiled) -> list[tuple[int, int, str]]:
    """(layer, output, tensor) of everything that a trace shows."""
    return [(layer.index, i, t) for layer in compiled.library.layers for i, t in enumerate(layer.tensors)]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", MEASURED)
def test_every_model_is_exact_on_the_core(name: str, models: Path, tmp_path: Path) -> None:
    """Every layer boundary == the integer reference, recorded outputs ==, no float; for M0, Armv6-M alone."""
    core = CORES[name]
    failures = []
    taken = records = 0
    for model, path, compiled in compiled_models(models, core, tmp_path):
        graph, taken = compiled.graph, taken + 1
        samples = drawn_samples(graph, 3)
        record = recorded(path, graph)
        if record is not None:
            samples.append(record[0])
        result = run_on_core(compiled.folder, core, samples, trace=True, count=False)
        row = compare(name, evaluate(graph, samples, Mode.INTEGER), traced(graph, boundaries(compiled), result.traces))
        if not row.exact or not row.integers:
            failures.append(f"{model}: {row.different} of {row.integers} differ: {row.first}")
        if record is not None:
            records += 1
            if not np.array_equal(result.outputs[-1][0].ravel(), record[1]):
                failures.append(f"{model}: not the recorded output")
        image = tmp_path / "image.elf"
        image.write_bytes(result.elf)
        failures += [f"{model}: {finding}" for finding in scan_elf(image, core).findings]
        if not core.thumb2:
            failures += [f"{model}: not Armv6-M: {code}" for code in check_armv6m(image)]
    assert not failures, "\n".join(failures)
    assert taken >= 108
    assert records == 66


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_model_is_exact_on_the_host(compiler: str, models: Path, tmp_path: Path) -> None:
    """-O0 to -O3, and under AddressSanitizer and UndefinedBehaviorSanitizer."""
    taken = [*compiled_models(models, CORES["cortex-m0"], tmp_path)]
    assert len(taken) >= 108
    samples = [drawn_samples(compiled.graph, 3) for _, _, compiled in taken]
    wanted = [evaluate(c.graph, s, Mode.INTEGER) for (_, _, c), s in zip(taken, samples, strict=True)]
    failures = []
    for name, opt, sanitize in HOST_BUILDS:
        if name != compiler:
            continue
        results = run_many_on_host([c.folder for _, _, c in taken], samples, name, opt, sanitize)  # type: ignore[arg-type]
        for (model, _, compiled), reference, result in zip(taken, wanted, results, strict=True):
            row = compare(opt, reference, traced(compiled.graph, boundaries(compiled), result.traces))
            if not row.exact or not row.integers:
                failures.append(f"{model}, {opt}: {row.different} of {row.integers} differ: {row.first}")
    assert not failures, "\n".join(failures)
