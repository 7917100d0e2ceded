"""A case on its way through the compiler: read, quantised, evaluated, and made a C library."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from exactness.onnx_backend.cases import Array, Case

from intaglio.quantizer.frontends.onnx import translate
from intaglio.quantizer.frontends.onnx_qdq import settle_quantised
from intaglio.quantizer.frontends.onnx_values import Layout
from intaglio.quantizer.ir import DType, Graph, TensorType, verify
from intaglio.quantizer.pipeline import Options, run_passes
from intaglio.quantizer.reference import quantise


@dataclass(frozen=True, eq=False)
class Run:
    """A case that compiles.

    Attributes:
        graph: lowered.
        inputs: per data set, the integers of each graph input, in the device's layout and type.
        expected: per data set, the case's value of each graph output, in the device's layout.
    """

    case: Case
    graph: Graph
    inputs: list[list[Array]]
    expected: list[list[Array]]


def run_case(case: Case, folder: Path, dtype: DType = DType.INT8) -> Run:
    """Read a case, calibrate it with its own data, lower it.

    Raises:
        IntaglioError: it is refused.
    """
    model = case.model
    builder, outputs = translate(case.data, case.name)
    graph = settle_quantised(builder.graph(case.name, outputs).pruned(), case.name)
    verify(graph, "frontend")
    layouts = {n: v.layout for n, v in builder.values.items()}
    names = [port.name for port in model.graph.input]
    samples = [[_stored(v, layouts[n]) for v, n in zip(s, names, strict=True)] for s in case.samples]
    data = folder / f"{case.name}.npz"
    np.savez(data, **{n: np.stack([s[i] for s in samples]) for i, n in enumerate(graph.inputs)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = run_passes(graph, Options(data=data, range_method="min-max", activations=dtype))
    kinds = [graph.types[n] for n in graph.inputs]
    ports = [port.name for port in model.graph.output]
    return Run(
        case,
        graph,
        [[_integers(v, kind) for v, kind in zip(s, kinds, strict=True)] for s in samples],
        [[_stored(v, layouts[n]) for v, n in zip(wanted, ports, strict=True)] for wanted in case.expected],
    )


def _stored(value: Any, layout: Layout) -> Array:
    """A value of a case in the order of our tensor."""
    array = np.asarray(value)
    if layout is not Layout.LAST:
        return array
    image = array[:, :, None] if array.ndim == 3 else array
    return image.transpose(0, 2, 3, 1)


def _integers(value: Array, kind: TensorType) -> Array:
    integers = quantise(value, kind) if kind.qparams is not None and value.dtype.kind == "f" else value
    return integers.reshape(kind.shape).astype(kind.dtype.numpy)
