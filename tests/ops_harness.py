"""Run single-node graphs through every route that must agree: definition, integer reference, generated C."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def check_all_exact(
    graphs: dict[str, Graph],
    folder: Path,
    core: Core = CORES["cortex-m0"],
    count: int = 5,
    builds: Sequence[tuple[str, str, bool]] = (("gcc", "-O1", True),),
) -> None:
    """Assert definition == integer reference == C on the host, for every output of several graphs of one node.

    Args:
        graphs: by the names (C identifiers) of their libraries, which are one program.
        count: samples of each.
        builds: compiler, optimisation, whether under the sanitizers.
    """
    lowered = {}
    inputs: list[Sequence[Sequence[NDArray[Any]]]] = []
    expected: list[list[list[NDArray[Any]]]] = []
    for name, graph in graphs.items():
        verify(graph, "examples")
        lowered[name] = lower(graph)
        samples = drawn(lowered[name], count)
        inputs.append(samples)
        expected.append(reference(lowered[name], samples, name))
        write_library(emit(lowered[name], name, core), folder / name)
    folders = [folder / name for name in graphs]
    for compiler, opt, sanitize in builds:
        results = run_many_on_host(folders, inputs, compiler, opt, sanitize, trace=False)  # type: ignore[arg-type]
        for (name, graph), wanted, result in zip(lowered.items(), expected, results, strict=True):
            assert_same(wanted, result.outputs, f"{name}: {graph.nodes[0]}: C ({compiler} {opt})")


def drawn(graph: Graph, count: int) -> list[list[NDArray[Any]]]:
    """`samples` of every input."""
    rng = np.random.default_rng(7)
    columns = [samples(graph.types[tensor], rng, count) for tensor in graph.inputs]
    return [list(sample) for sample in zip(*columns, strict=True)]


def reference(graph: Graph, inputs: Sequence[Sequence[NDArray[Any]]], name: str) -> list[list[NDArray[Any]]]:
    """Per sample the outputs by the integer reference, which are those of the definition."""
    integer, defined = Evaluator(graph, Mode.INTEGER), Evaluator(graph, Mode.DEFINED)
    result = []
    for sample in inputs:
        ours, meaning = integer.run(sample), defined.run(sample)
        result.append([ours[tensor] for tensor in graph.outputs])
        assert_same([result[-1]], [[meaning[tensor] for tensor in graph.outputs]], f"{name}: definition")
    return result


def assert_same(
    expected: Sequence[Sequence[NDArray[Any]]], outputs: Sequence[Sequence[NDArray[Any]]], what: str
) -> None:
    """Outputs of every sample are equal."""
    for wanted, given in zip(expected, outputs, strict=True):
        for a, b in zip(wanted, given, strict=True):
            assert np.array_equal(a.ravel(), b.ravel()), f"{what} != integer reference"
