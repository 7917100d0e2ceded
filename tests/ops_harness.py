"""Run a single-node graph through every route that must agree: definition, integer reference, generated C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.boards.cores import CORES, Core
from intaglio.codegen.compile import write_library
from intaglio.codegen.emit import emit
from intaglio.host.hostrun import run_on_host
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
    verify(graph, "examples")
    lowered = lower(graph)
    rng = np.random.default_rng(7)
    drawn = [samples(graph.types[name], rng, count) for name in graph.inputs]
    inputs = [list(sample) for sample in zip(*drawn, strict=True)]
    integer, defined = Evaluator(lowered, Mode.INTEGER), Evaluator(lowered, Mode.DEFINED)
    write_library(emit(lowered, "example", core), folder)
    result = run_on_host(folder, inputs, opt="-O1", sanitize=True, trace=False)
    for sample, outputs in zip(inputs, result.outputs, strict=True):
        expected, meaning = integer.run(sample), defined.run(sample)
        for name, output in zip(graph.outputs, outputs, strict=True):
            assert np.array_equal(expected[name], meaning[name]), f"{graph.nodes[0]}: reference != definition"
            assert np.array_equal(expected[name], output), f"{graph.nodes[0]}: C != integer reference"
