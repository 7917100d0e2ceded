"""Float layers that are seldom alone, from the reals to C: BatchNorm that nothing takes in, SVDF with its state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_builder import Builder
from numpy.typing import NDArray
from ops_harness import check_all_exact

from intaglio.quantizer.calibrate import observe
from intaglio.quantizer.ir import Contract, DType, Graph, TensorType, Variable
from intaglio.quantizer.ops.accumulate import NO_CLAMP, RELU
from intaglio.quantizer.ops.batch_norm import BatchNormAttrs
from intaglio.quantizer.ops.concat import ConcatAttrs
from intaglio.quantizer.ops.pad import PadAttrs
from intaglio.quantizer.ops.svdf import SvdfAttrs
from intaglio.quantizer.passes.quantise import quantise
from intaglio.quantizer.pipeline import Options, run_passes
from intaglio.quantizer.reference import Evaluator, Mode, dequantise
from intaglio.quantizer.reference import quantise as stored

Reals = NDArray[np.float64]


def batch_norm_after(moving: str) -> Graph:
    """Padding or concatenation of rows, then a scale and an offset per channel, some negative and one zero."""
    b = Builder()
    x = b.input("x", (1, 5, 3))
    if moving == "Pad":
        y, channels = b.node("Pad", "m", [x], PadAttrs(((0, 0), (1, 2), (0, 0)), "constant", 0.0)), 3
    else:
        y, channels = b.node("Concat", "m", [x, x], ConcatAttrs(2)), 6
    scale, offset = np.array([0.7, -1.9, 0.0, 2.5, -0.03, 1.0]), np.array([0.1, 2.0, -1.5, 0.0, 3.0, -0.4])
    norm = [y, b.constant("s", scale[:channels]), b.constant("o", offset[:channels])]
    return b.graph(b.node("BatchNorm", "y", norm, BatchNormAttrs(RELU if moving == "Concat" else NO_CLAMP)))


def svdf(rank: int, bias: float) -> Graph:
    """One layer of 4 units that remembers 6 of the inputs; biases of such a size, or none."""
    rng = np.random.default_rng(rank)
    b = Builder()
    inputs = [
        b.input("x", (1, 9)),
        b.constant("feature", rng.normal(size=(4 * rank, 9))),
        b.constant("time", rng.normal(size=(4 * rank, 6))),
    ]
    if bias:
        inputs.append(b.constant("bias", bias * rng.normal(size=4)))
    kind = TensorType(DType.FLOAT32, (1, 4 * rank * 6), None)
    b.variables["memory"] = Variable(kind, np.zeros(kind.shape, np.float32))
    return b.graph(b.node("Svdf", "y", inputs, SvdfAttrs(rank, "memory")))


def check(graph: Graph, dtype: DType, least_db: float, folder: Path) -> Graph:
    """Quantise; the definition, the integers and the C are equal, and near the reals by so much."""
    rng = np.random.default_rng(3)
    shape = graph.types["x"].shape[1:]
    np.save(folder / "data.npy", rng.normal(size=(64, *shape)))
    result = quantise(graph, observe(graph, folder / "data.npy"), "min-max", dtype)
    assert result.contract is Contract.EXACT
    check_all_exact({"layer": result}, folder)
    integer, real = Evaluator(run_passes(result, Options()), Mode.INTEGER), Evaluator(graph, Mode.REAL)
    signal = noise = 0.0
    for x in np.load(folder / "data.npy"):
        wanted = real.run([x[None]])["y"]
        got = dequantise(integer.run([stored(x[None], result.types["x"])])["y"], result.types["y"])
        signal, noise = signal + float(np.sum(wanted**2)), noise + float(np.sum((got - wanted) ** 2))
    assert 10 * np.log10(signal / noise) > least_db
    return result


@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT16])
@pytest.mark.parametrize("moving", ["Pad", "Concat"])
def test_batch_norm_that_stands_alone(moving: str, dtype: DType, tmp_path: Path) -> None:
    """As it is, and as the depthwise convolution that canonicalising makes of it."""
    graph = batch_norm_after(moving)
    least = 25 if dtype is DType.INT8 else 60
    result = check(graph, dtype, least, tmp_path)
    assert [node.op for node in result.nodes] == [moving, "BatchNorm"]
    result = check(run_passes(graph, Options(stop_after="canonicalise")), dtype, 30, tmp_path)
    assert [node.op for node in result.nodes] == [moving, "Reshape", "DepthwiseConv2D", "Reshape"]


@pytest.mark.parametrize("rank, bias", [(1, 0.0), (1, 1e5), (2, 1.0)])
def test_svdf(rank: int, bias: float, tmp_path: Path) -> None:
    result = check(svdf(rank, bias), DType.INT8, 30, tmp_path)
    assert [node.op for node in result.nodes] == ["Svdf"]
    assert result.variables["memory"].type.dtype is DType.INT16
