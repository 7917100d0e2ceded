"""Single layers beside onnxruntime: every difference explained, and the bounds that explain held against binary32."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from exactness.onnxruntime.layer_cases import QDQ, QOPERATOR, Draw

from intaglio.host.beside_onnxruntime import beside_onnxruntime
from intaglio.host.binary32 import FUNCTION_UNITS, Layer, U, reaches
from intaglio.host.onnxruntime_oracle import Source, stored
from intaglio.host.samples import drawn_samples
from intaglio.quantizer import ops
from intaglio.quantizer.frontends.onnx import translate
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.pipeline import Options, run_pipeline
from intaglio.quantizer.realmath import DOUBLE
from intaglio.quantizer.reference import Evaluator, Mode

TIES = {"Add", "Sub", "Abs", "Neg", "QLinearAdd", "ReduceSum", "Resize half pixel", "AveragePool padded"}
"""Of round scales, ties abound, and binary32, in which no 0.05 exists, sends some to the other side."""


@pytest.mark.parametrize("name", [*QDQ, *QOPERATOR])
@pytest.mark.parametrize("exactly", [True, False])
def test_differences_are_explained(name: str, exactly: bool, tmp_path: Path) -> None:
    path = tmp_path / "layer.onnx"
    onnx.save((QDQ | QOPERATOR)[name](Draw(11, exactly=exactly)), str(path))
    graph = run_pipeline(path, Options())
    comparisons = list(beside_onnxruntime(path, graph, drawn_samples(graph, 6)))
    assert len(comparisons) == (2 if name in QOPERATOR else 1)
    for c in comparisons:
        assert c.skipped is None
        assert c.fault is None
        assert not c.not_compared
        assert c.elements >= c.outputs == 6 * prod(graph.types[graph.outputs[0]].shape)
        assert sum(row.explained for row in c.layers) == c.origins
        if exactly and name in TIES:
            assert c.origins > 0
            assert c.outputs_differ > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QDQ, *QOPERATOR])
def test_sweep(name: str, tmp_path: Path) -> None:
    """Twelve draws of scales and weights of every layer."""
    for seed in range(100, 112):
        path = tmp_path / f"{seed}.onnx"
        onnx.save((QDQ | QOPERATOR)[name](Draw(seed)), str(path))
        graph = run_pipeline(path, Options())
        for c in beside_onnxruntime(path, graph, drawn_samples(graph, 8, seed)):
            assert (c.skipped, c.fault) == (None, None), seed


@pytest.mark.parametrize("name", QDQ)
def test_bounds_hold(name: str, tmp_path: Path) -> None:
    """onnxruntime's real result, before QuantizeLinear, lies within the bound of the exact one for every element."""
    path = tmp_path / "layer.onnx"
    model = QDQ[name](Draw(5))
    onnx.save(model, str(path))
    graph = run_pipeline(path, Options())
    node = graph.producers()["y"]
    ctx = context(graph, node)
    out = ctx.output
    if "y" not in [o.name for o in model.graph.output]:
        model.graph.output.append(onnx.ValueInfoProto(name="y"))
    session = _session(model)
    builder, _ = translate(path.read_bytes(), str(path))
    defined = Evaluator(graph, Mode.DEFINED)
    compared = 0
    for sample in drawn_samples(graph, 4):
        feeds = {}
        for value, port in zip(sample, graph.inputs, strict=True):
            source = Source(port, builder.values[port], graph.types[port], "")
            feeds[port] = source.theirs(value, builder.values[port].shape, real=True)
        theirs = stored(session.run(["y"], feeds)[0], builder.values["y"])
        values = defined.run(sample)
        operands = [values[name] for name in node.inputs]
        reach = reaches(
            Layer(ops.operator(node.op), ctx, operands, real_bias="real" in name or name == "ConvTranspose")
        )
        assert reach is not None
        for index in list(np.ndindex(out.shape))[:: max(1, out.elements // 60)]:
            r = reach(index)
            real = float(theirs.reshape(out.shape)[index])
            if np.isinf(real):
                # Log and Reciprocal of 0: saturated on both sides.
                assert abs(r.value) > 256
                continue
            value = Fraction(real) / Fraction(out.scale)
            assert r.value - r.below <= value <= r.value + r.above, (index, float(value - r.value), float(r.above))
            compared += 1
    assert compared >= 30


FUNCTIONS = ("Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Sin", "Cos", "Elu", "Gelu", "HardSigmoid")


@pytest.mark.parametrize("op", [*FUNCTIONS, "HardSwish", "Softplus", "Mish"])
def test_accuracy_of_functions(op: str) -> None:
    """What `FUNCTION_UNITS` takes for granted, on points from 1e-6 to 80 of both signs: at most half of it is used."""
    positive = op in ("Log", "Sqrt", "Reciprocal")
    x = np.geomspace(1e-6, 80, 1 << 16).astype(np.float32)
    x = x if positive else np.concatenate([x, -x])
    port = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, x.shape)
    graph = onnx.helper.make_graph([onnx.helper.make_node(op, ["x"], ["y"])], "f", [port], [y])
    session = _session(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10))
    theirs = session.run(None, {"x": x})[0].astype(np.float64)
    operator: Any = ops.operator(op)
    assert isinstance(operator, UnaryOperator)
    exact = np.asarray(operator.function(operator.attrs(), x.astype(np.float64), DOUBLE))
    error = np.abs(theirs - exact) / (float(U) * (1 + np.abs(x.astype(np.float64)) + np.abs(exact)))
    assert error.max() <= FUNCTION_UNITS / 2


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
