"""Compare every route that computes a model, integer by integer, and name the first layer that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intaglio.boards.cores import Core
from intaglio.codegen.compile import Compiled
from intaglio.host.hostrun import run_on_host
from intaglio.host.records import Trace
from intaglio.host.simcore import run_on_core
from intaglio.quantizer.errors import MissingToolError, ToolError
from intaglio.quantizer.ir import Contract, DType, Graph
from intaglio.quantizer.reference import Evaluator, Mode

if TYPE_CHECKING:
    from intaglio.host.beside_onnxruntime import Comparison

Array = NDArray[Any]
Samples = Sequence[Sequence[Array]]
Layers = list[tuple[str, list[Array]]]
"""Per layer boundary: tensor name and one flat int64 array per sample."""

HOST_BUILDS = (
    *((compiler, f"-O{level}", False) for compiler in ("gcc", "clang") for level in range(4)),
    ("gcc", "-O1", True),
    ("clang", "-O1", True),
)
"""Compiler, optimisation, whether under AddressSanitizer and UndefinedBehaviorSanitizer."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        route: what was compared with the integer reference.
        samples, tensors: how many samples, and layer boundaries of each.
        integers: how many integers were compared.
        different: how many differ.
        first: the first tensor that differs, with its first differing element; None when all are equal.
        skipped: why the route could not be taken; None when it was.
    """

    route: str
    samples: int
    tensors: int
    integers: int
    different: int
    first: str | None = None
    skipped: str | None = None

    @property
    def exact(self) -> bool:
        """Taken, and without a difference."""
        return self.skipped is None and self.different == 0


def verify(
    compiled: Compiled,
    samples: Samples,
    core: Core | None,
    builds: Sequence[tuple[str, str, bool]] = HOST_BUILDS,
    done: Callable[[str], None] = lambda route: None,
) -> Iterator[Row]:
    """Yield one row per route: definition, C on the host in each build, C on the simulated core, LiteRT.

    The integer reference is what the others are compared with, tensor by tensor at the layer boundaries.

    Args:
        samples: per sample one integer array per input; a stateful model sees them as a sequence.
        core: to simulate; None for none.
        done: called with the name of each route when it begins.
    """
    graph = compiled.graph
    reference = evaluate(graph, samples, Mode.INTEGER)
    done("definition")
    meaning = evaluate(graph, samples, Mode.DEFINED)
    yield compare(f"definition ({graph.contract}, exact arithmetic)", reference, meaning)
    names = [(layer.index, i, t) for layer in compiled.library.layers for i, t in enumerate(layer.tensors)]
    for compiler, opt, sanitize in builds:
        route = f"C on the host, {compiler} {opt}{' with ASan and UBSan' if sanitize else ''}"
        done(route)
        try:
            result = run_on_host(compiled.folder, samples, compiler, opt, sanitize)  # type: ignore[arg-type]
        except MissingToolError as error:
            yield Row(route, 0, 0, 0, 0, skipped=str(error))
            continue
        yield compare(route, reference, traced(graph, names, result.traces))
    if core is not None:
        route = f"C on the simulated {core.name}"
        done(route)
        on_core = run_on_core(compiled.folder, core, samples, trace=True, count=False)
        yield compare(route, reference, traced(graph, names, on_core.traces))


def evaluate(graph: Graph, samples: Samples, mode: Mode) -> Layers:
    """Every computed tensor of every sample, by the evaluator."""
    evaluator = Evaluator(graph, mode)
    names = [out for node in graph.nodes for out in node.outputs]
    values: dict[str, list[Array]] = {name: [] for name in names}
    for sample in samples:
        result = evaluator.run(sample)
        for name in names:
            values[name].append(result[name].ravel())
    return list(values.items())


def traced(graph: Graph, names: Sequence[tuple[int, int, str]], traces: Sequence[Sequence[Trace]]) -> Layers:
    """The traces of a C library as tensors."""
    position = {(layer, output): name for layer, output, name in names}
    values: dict[str, list[Array]] = {name: [] for _, _, name in names}
    for sample in traces:
        for trace in sample:
            name = position[trace.layer, trace.output]
            stored = np.frombuffer(trace.data, graph.types[name].dtype.numpy)
            values[name].append(stored.astype(np.int64))
    return list(values.items())


def compare(route: str, reference: Layers, other: Layers) -> Row:
    """Compare tensors with ==; a tensor that the other route does not have is not compared."""
    theirs = dict(other)
    integers = different = tensors = 0
    first = None
    samples = max((len(v) for _, v in other), default=0)
    for name, expected in reference:
        if name not in theirs:
            continue
        tensors += 1
        for i, (a, b) in enumerate(zip(expected, theirs[name], strict=True)):
            wrong = np.flatnonzero(a != b)
            integers += a.size
            different += wrong.size
            if wrong.size and first is None:
                at = int(wrong[0])
                first = f"'{name}' sample {i} element {at}: {int(b[at])}, reference {int(a[at])}"
    return Row(route, samples, tensors, integers, different, first)


def litert_row(path: Path, compiled: Compiled, samples: Samples) -> Row:
    """Compare the outputs with LiteRT's reference kernels; the oracle of contract `tflite`."""
    route = "LiteRT BUILTIN_REF"
    if compiled.graph.contract is not Contract.TFLITE or path.suffix != ".tflite":
        return Row(route, 0, 0, 0, 0, skipped="only for models that arrive quantised as TFLite")
    for node in compiled.graph.nodes:
        state = getattr(node.attrs, "state_variable", None)
        if state is not None and compiled.graph.variables[state].type.dtype is DType.INT8:
            # LiteRT's kernel knows states of 16 bits only and does not check: it would write beyond its memory.
            return Row(route, 0, 0, 0, 0, skipped=f"{node.source} has an int8 state, which TFLite Micro alone knows")
    try:
        from intaglio.host.litert import run_litert
    except ImportError:
        return Row(route, 0, 0, 0, 0, skipped="not installed: pip install ai-edge-litert")
    tensors = [out for node in compiled.graph.nodes for out in node.outputs]
    try:
        theirs = run_litert(path, compiled.graph, samples, tensors)
    except ToolError as error:
        return Row(route, 0, 0, 0, 0, skipped=error.what)
    return compare(route, evaluate(compiled.graph, samples, Mode.INTEGER), theirs)


def onnxruntime_comparisons(
    path: Path, compiled: Compiled, samples: Samples, done: Callable[[str], None] = lambda route: None
) -> list[Comparison]:
    """Hold a model of contract `onnx` beside onnxruntime; none for other models."""
    if compiled.graph.contract is not Contract.ONNX or path.suffix != ".onnx":
        return []
    from intaglio.host.beside_onnxruntime import beside_onnxruntime

    return list(beside_onnxruntime(path, compiled.graph, samples, done))
