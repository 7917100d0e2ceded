"""Run single-node graphs through every route that must agree: definition, integer reference, generated C."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intaglio.boards.cores import CORES, Core
from intaglio.codegen.compile import write_library
from intaglio.codegen.emit import emit
from intaglio.host.hostrun import run_many_on_host
from intaglio.quantizer.ir import Graph, TensorType, verify
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode


def samples(kind: TensorType, rng: np.random.Generator, count: int) -> list[NDArray[Any]]:
    """The dtype's extremes, then random integers."""
    low, high = kind.dtype.low, kind.dtype.high
    fixed = [np.full(kind.shape, low), np.full(kind.shape, high)]
    drawn = [rng.integers(low, high, kind.shape, endpoint=True) for _ in range(count - 2)]
    return [v.astype(kind.dtype.numpy) for v in fixed + drawn]


def check_exact(graph: Graph, folder: Path, core: Core = CORES["cortex-m0"], count: int = 5) -> None:
    """Assert definition == integer reference == C on the host under sanitizers, for every output."""
    check_all_exact({"example": graph}, folder, core, count)


def check_all_exact(
    graphs: dict[str, Graph],
    folder: Path,
    core: Core = CORES["cortex-m0"],
    count: int = 5,
    compiler: Literal["gcc", "clang"] = "gcc",
    opt: str = "-O1",
) -> None:
    """`check_exact` of several graphs, by the names (C identifiers) of their libraries, in one program."""
    lowered = {}
    inputs: list[Sequence[Sequence[NDArray[Any]]]] = []
    for name, graph in graphs.items():
        verify(graph, "examples")
        lowered[name] = lower(graph)
        rng = np.random.default_rng(7)
        drawn = [samples(graph.types[tensor], rng, count) for tensor in graph.inputs]
        inputs.append([list(sample) for sample in zip(*drawn, strict=True)])
        write_library(emit(lowered[name], name, core), folder / name)
    folders = [folder / name for name in graphs]
    results = run_many_on_host(folders, inputs, compiler, opt, sanitize=True, trace=False)
    for (name, graph), given, result in zip(lowered.items(), inputs, results, strict=True):
        integer, defined = Evaluator(graph, Mode.INTEGER), Evaluator(graph, Mode.DEFINED)
        for sample, outputs in zip(given, result.outputs, strict=True):
            expected, meaning = integer.run(sample), defined.run(sample)
            for tensor, output in zip(graph.outputs, outputs, strict=True):
                what = f"{name}: {graph.nodes[0]}"
                assert np.array_equal(expected[tensor], meaning[tensor]), f"{what}: reference != definition"
                assert np.array_equal(expected[tensor], output), f"{what}: C != integer reference"
