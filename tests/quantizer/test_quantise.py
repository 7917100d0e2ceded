"""Float models become integer graphs; the scales, types and biases are those that docs/quantisation.md states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_builder import Builder

from intaglio.quantizer.calibrate import affine_qparams, observe
from intaglio.quantizer.errors import CalibrationError, ModelError
from intaglio.quantizer.ir import Contract, DType, Graph, Node, QParams, TensorType, Variable, verify
from intaglio.quantizer.ops.accumulate import RELU
from intaglio.quantizer.ops.add import AddAttrs
from intaglio.quantizer.ops.assign_variable import AssignVariableAttrs
from intaglio.quantizer.ops.concat import ConcatAttrs
from intaglio.quantizer.ops.conv2d import Conv2DAttrs
from intaglio.quantizer.ops.fully_connected import FullyConnectedAttrs
from intaglio.quantizer.ops.log_softmax import LogSoftmaxAttrs
from intaglio.quantizer.ops.max_pool2d import MaxPool2DAttrs
from intaglio.quantizer.ops.maximum import MaximumAttrs
from intaglio.quantizer.ops.read_variable import ReadVariableAttrs
from intaglio.quantizer.ops.reshape import ReshapeAttrs
from intaglio.quantizer.ops.sigmoid import SigmoidAttrs
from intaglio.quantizer.ops.softmax import SoftmaxAttrs
from intaglio.quantizer.passes.assign_types import int8_islands
from intaglio.quantizer.passes.quantise import quantise
from intaglio.quantizer.pipeline import PASSES, Options, run_passes
from intaglio.quantizer.reference import Evaluator, Mode, dequantise
from intaglio.quantizer.reference import quantise as stored

SHAPE = (1, 8, 6, 3)


def calibration(path: Path, shape: tuple[int, ...] = SHAPE, count: int = 12) -> Path:
    np.save(path / "calibration.npy", np.random.default_rng(5).normal(size=(count, *shape[1:])))
    return path / "calibration.npy"


def cnn(weights_scale: float = 1.0) -> Graph:
    """Convolution, residual sum, pool, dense layer, softmax."""
    rng = np.random.default_rng(2)
    b = Builder()
    x = b.input("x", SHAPE)
    a = b.node(
        "Conv2D",
        "a",
        [x, b.constant("aw", weights_scale * rng.normal(size=(4, 3, 3, 3))), b.constant("ab", rng.normal(size=4))],
        Conv2DAttrs(pads=(1, 1, 1, 1), clamp=RELU),
    )
    c = b.node("Conv2D", "c", [a, b.constant("cw", rng.normal(size=(4, 1, 1, 4)))], Conv2DAttrs())
    s = b.node("Add", "s", [a, c], AddAttrs(RELU))
    p = b.node("MaxPool2D", "p", [s], MaxPool2DAttrs((2, 2), (2, 2)))
    f = b.node("Reshape", "f", [p], ReshapeAttrs((1, 48)))
    d = b.node("FullyConnected", "d", [f, b.constant("dw", 0.1 * rng.normal(size=(5, 48)))], FullyConnectedAttrs())
    return b.graph(b.node("Softmax", "y", [d], SoftmaxAttrs(1)))


def quantised(graph: Graph, data: Path, method: str = "mse", dtype: DType = DType.INT8) -> Graph:
    result = quantise(graph, observe(graph, data), method, dtype)
    verify(result, "quantise")
    return result


def noise_db(graph: Graph, result: Graph, tensor: str) -> float:
    """Signal-to-quantisation-noise ratio on fresh samples."""
    lowered = run_passes(result, Options())
    real, integer = Evaluator(graph, Mode.REAL), Evaluator(lowered, Mode.INTEGER)
    signal = noise = 0.0
    for x in np.random.default_rng(6).normal(size=(10, *SHAPE)):
        expected = real.run([x])[tensor]
        got = dequantise(integer.run([stored(x, lowered.types["x"])])[tensor], lowered.types[tensor])
        signal += float(np.sum(expected**2))
        noise += float(np.sum((got - expected) ** 2))
    return 10 * float(np.log10(signal / noise))


@pytest.mark.parametrize("method", ["min-max", "percentile", "mse", "kl"])
def test_a_network_keeps_its_signal(tmp_path: Path, method: str) -> None:
    graph = cnn()
    result = quantised(graph, calibration(tmp_path), method)
    assert result.contract is Contract.EXACT
    assert noise_db(graph, result, "d") > 22


def test_int16_activations_are_an_order_better(tmp_path: Path) -> None:
    graph = cnn()
    data = calibration(tmp_path, count=40)
    wide, narrow = (quantised(graph, data, dtype=t) for t in (DType.INT16, DType.INT8))
    assert noise_db(graph, wide, "s") > noise_db(graph, narrow, "s") + 5
    assert wide.types["a"].dtype is DType.INT16
    assert wide.types["a"].zero_point == 0
    assert wide.types["a/bias"].dtype is DType.INT64
    assert wide.types["y"] == TensorType(DType.INT16, (1, 5), QParams.of(1 / 32768, 0))
    assert int8_islands(wide) == int8_islands(narrow) == []


def test_an_operator_without_an_int16_kernel_is_an_int8_island(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", SHAPE)
    y = b.node("LogSoftmax", "y", [b.node("Sigmoid", "s", [x], SigmoidAttrs())], LogSoftmaxAttrs(3))
    result = quantised(b.graph(y), calibration(tmp_path), dtype=DType.INT16)
    assert [n.op for n in result.nodes] == ["Sigmoid", "Quantize", "LogSoftmax"]
    assert [n.name for n in int8_islands(result)] == ["y"]
    assert result.types["y"].dtype is DType.INT8


def test_scales_are_those_stated(tmp_path: Path) -> None:
    graph = cnn()
    data = calibration(tmp_path)
    result = quantised(graph, data, "min-max")
    seen = observe(graph, data)
    assert result.types["y"].qparams is not None
    assert result.types["y"].qparams.per_tensor == (1 / 256, -128)
    assert result.types["s"].qparams == result.types["p"].qparams == result.types["f"].qparams
    a = result.types["a"]
    assert a.zero_point == -128
    assert a.scale == np.float32(seen["a"].high / 255)
    for layer, axis in (("a", 0), ("d", 0)):
        kind, weights = result.types[f"{layer}/weights"], result.constants[f"{layer}/weights"]
        assert kind.qparams is not None
        assert kind.qparams.axis == axis
        assert np.array_equal(np.abs(weights.reshape(len(weights), -1).astype(int)).max(axis=1), [127] * len(weights))
        error = dequantise(weights, kind) - graph.constants[f"{layer}w"]
        assert np.all(np.abs(error) <= 0.5001 * np.array(kind.qparams.scale).reshape(-1, *[1] * (weights.ndim - 1)))


def test_bias_correction_removes_the_mean_error(tmp_path: Path) -> None:
    """A layer whose input is far from 0 on average: the rounding of its weights shifts its output."""
    rng = np.random.default_rng(7)
    b = Builder()
    w = rng.normal(size=(6, 200))
    y = b.node("FullyConnected", "y", [b.input("x", (1, 200)), b.constant("w", w)], FullyConnectedAttrs())
    graph = b.graph(y)
    samples = 3 + rng.normal(size=(50, 200))
    np.save(tmp_path / "c.npy", samples)
    result = quantised(graph, tmp_path / "c.npy")
    rounded = dequantise(result.constants["y/weights"], result.types["y/weights"])
    bias = dequantise(result.constants["y/bias"], result.types["y/bias"])
    uncorrected = np.mean(samples @ (rounded - w).T, axis=0)
    corrected = uncorrected + bias
    step = np.array(result.types["y/bias"].qparams.scale)  # type: ignore[union-attr]
    assert np.all(np.abs(corrected) <= 0.51 * step)
    assert np.abs(uncorrected).max() > 20 * step.max()


def test_tiny_weights_with_a_large_bias_stay_provable(tmp_path: Path) -> None:
    graph = cnn(weights_scale=1e-9)
    result = quantised(graph, calibration(tmp_path))
    assert np.abs(result.constants["a/bias"].astype(np.int64)).max() <= 2**29
    run_passes(result, Options())


def test_concatenation_shares_one_scale_and_softmax_keeps_its_own(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (1, 6))
    soft = b.node("Softmax", "soft", [x], SoftmaxAttrs(1))
    y = b.node("Concat", "y", [x, soft, b.constant("k", np.array([[9.0, -9.0]]))], ConcatAttrs(1))
    result = quantised(b.graph(y), calibration(tmp_path, (1, 6)))
    kinds = [result.types[t].qparams for n in result.nodes if n.op == "Concat" for t in (*n.inputs, *n.outputs)]
    assert len(set(kinds)) == 1
    assert result.types["soft"].qparams is not None
    assert result.types["soft"].qparams.per_tensor == (1 / 256, -128)
    moved = next(n for n in result.nodes if n.op == "Concat").inputs[2]
    np.testing.assert_allclose(dequantise(result.constants[moved], result.types[moved]), [[9, -9]], atol=0.05)
    run_passes(result, Options())


def test_variables_share_the_scale_of_what_is_kept_in_them(tmp_path: Path) -> None:
    b = Builder()
    b.input("x", (1, 4))
    initial = np.full((1, 4), 0.5, np.float32)
    b.variables["v"] = Variable(TensorType(DType.FLOAT32, (1, 4)), initial)
    graph = b.graph()
    kind = graph.types["x"]
    nodes = (
        Node("ReadVariable", "r", (), ("old",), ReadVariableAttrs("v")),
        Node("Maximum", "m", ("old", "x"), ("new",), MaximumAttrs()),
        Node("AssignVariable", "w", ("new",), (), AssignVariableAttrs("v")),
    )
    graph = graph.with_(nodes=nodes, types={"x": kind, "old": kind, "new": kind}, outputs=("new",))
    verify(graph, "test")
    result = quantised(graph, calibration(tmp_path, (1, 4)))
    q = result.variables["v"].type.qparams
    assert q == result.types["old"].qparams == result.types["new"].qparams
    np.testing.assert_allclose(
        dequantise(result.variables["v"].initial, result.variables["v"].type), initial, atol=0.02
    )
    lowered = run_passes(result, Options())
    run = Evaluator(lowered, Mode.INTEGER)
    xs = [stored(v, lowered.types["x"]) for v in np.random.default_rng(1).normal(size=(5, 1, 4))]
    outputs = [run.run([v])["new"] for v in xs]
    assert np.array_equal(outputs[-1], np.maximum.reduce([*xs, result.variables["v"].initial.astype(np.int64)]))


def test_degenerate_ranges_have_usable_scales() -> None:
    for dtype in (DType.INT8, DType.INT16):
        for low, high in ((0.0, 0.0), (0.0, 1e-30), (-1e30, 1e30)):
            scale, zero = affine_qparams(low, high, dtype).per_tensor
            assert np.isfinite(np.float32(scale))
            assert np.float32(scale) > 0
            assert dtype.low <= zero <= dtype.high


def test_a_float_model_without_data_is_refused() -> None:
    with pytest.raises(CalibrationError, match="give representative samples with --data"):
        run_passes(cnn(), Options())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_node(bad: float) -> None:
    graph = cnn()
    graph.constants["cw"][0] = bad  # type: ignore[index]
    with pytest.raises(ModelError, match="Conv2D 'c': 'cw' holds NaN or infinity"):
        run_passes(graph, Options())


def test_samples_that_overflow_are_refused(tmp_path: Path) -> None:
    b = Builder()
    y = b.node("Exp", "y", [b.input("x", (1, 4))])
    np.save(tmp_path / "c.npy", np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 1e4, 4.0]]))
    with pytest.raises(CalibrationError, match=r"sample 1: makes 'y' infinite"):
        observe(b.graph(y), tmp_path / "c.npy")


def test_passes_can_be_stopped_and_dumped(tmp_path: Path) -> None:
    seen: list[str] = []
    options = Options(data=calibration(tmp_path), stop_after="quantise", dump=lambda name, graph: seen.append(name))
    result = run_passes(cnn(), options)
    names = [name for name, _ in PASSES]
    assert seen == names[: names.index("quantise") + 1]
    assert result.contract is Contract.EXACT
    assert all(node.params is None for node in result.nodes)
