"""The visible order of the passes: model file in, lowered integer graph out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import DType, Graph, verify
from intaglio.quantizer.passes.lower import lower


@dataclass(frozen=True)
class Options:
    """How a model is compiled.

    Attributes:
        data: calibration data for models that arrive in float: .npz, .npy, .csv or a folder; None when quantised.
        range_method: min-max, percentile, mse or kl.
        activations: int8 or int16.
        stop_after: name of the pass after which to stop; None runs all.
        dump: called with (pass, graph) after each pass.
    """

    data: Path | None = None
    range_method: str = "mse"
    activations: DType = DType.INT8
    stop_after: str | None = None
    dump: Callable[[str, Graph], None] | None = None


Pass = Callable[[Graph, Options], Graph]

PASSES: tuple[tuple[str, Pass], ...] = (("lower", lambda graph, options: lower(graph)),)


def run_passes(graph: Graph, options: Options) -> Graph:
    """Run the passes over a graph; the verifier runs after each."""
    for name, step in PASSES:
        graph = step(graph, options)
        verify(graph, name)
        if options.dump is not None:
            options.dump(name, graph)
        if options.stop_after == name:
            break
    return graph


def run_pipeline(path: Path, options: Options) -> Graph:
    """Load a model file and run the passes.

    Raises:
        IntaglioError: see the subclasses.
    """
    graph = load_model(path)
    verify(graph, "frontend")
    return run_passes(graph, options)
