"""The visible order of the passes: model file in, lowered integer graph out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from intaglio.quantizer.calibrate import observe
from intaglio.quantizer.errors import CalibrationError
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import DType, Graph, verify
from intaglio.quantizer.passes.canonicalise import canonicalise
from intaglio.quantizer.passes.check_finite import check_finite
from intaglio.quantizer.passes.eliminate import eliminate
from intaglio.quantizer.passes.fold_constants import fold_constants
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.passes.quantise import quantise


@dataclass(frozen=True)
class Options:
    """How a model is compiled.

    Attributes:
        data: calibration data for models that arrive in float: .npz, .npy, .csv or a folder; None when quantised.
        range_method: min-max, percentile, mse or kl.
        activations: int8 or int16.
        pixels: what the darkest and the brightest pixel of calibration images stand for.
        stop_after: name of the pass after which to stop; None runs all.
        dump: called with (pass, graph) after each pass.
    """

    data: Path | None = None
    range_method: str = "mse"
    activations: DType = DType.INT8
    pixels: tuple[float, float] = (0.0, 1.0)
    stop_after: str | None = None
    dump: Callable[[str, Graph], None] | None = None


Pass = Callable[[Graph, Options], Graph]


def _quantise(graph: Graph, options: Options) -> Graph:
    """Calibrate and quantise a model that arrived in float."""
    if graph.contract is not None:
        return graph
    if options.data is None:
        raise CalibrationError(
            graph.name, "the model is in float and has to be calibrated", "give representative samples with --data"
        )
    seen = observe(graph, options.data, options.pixels)
    return quantise(graph, seen, options.range_method, options.activations)


PASSES: tuple[tuple[str, Pass], ...] = (
    ("check-finite", lambda graph, options: check_finite(graph)),
    ("fold-constants", lambda graph, options: fold_constants(graph)),
    ("canonicalise", lambda graph, options: canonicalise(graph)),
    ("eliminate", lambda graph, options: eliminate(graph)),
    ("quantise", _quantise),
    ("eliminate-integers", lambda graph, options: eliminate(graph) if graph.contract is not None else graph),
    ("lower", lambda graph, options: lower(graph)),
)


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


def run_until(path: Path, options: Options, stop_after: str) -> Graph:
    """`run_pipeline`, stopped after a pass."""
    return run_pipeline(path, replace(options, stop_after=stop_after))
