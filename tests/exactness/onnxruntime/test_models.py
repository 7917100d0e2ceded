"""Whole models beside onnxruntime: differences are counted, told from their propagation, and each explained."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exactness.onnxruntime.qdq_models import Model, Quantised, qdq
from onnx import TensorProto, helper

from intaglio.host.beside_onnxruntime import Comparison, beside_onnxruntime, weigh
from intaglio.host.binary32 import Layer, reaches
from intaglio.host.cli import run
from intaglio.host.onnxruntime_oracle import Oracle, Source, find_sources
from intaglio.host.samples import drawn_samples
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph, QParams
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.pipeline import Options, run_pipeline
from intaglio.quantizer.reference import quantise

DIGITS = Path(__file__).parents[3] / "docs" / "examples" / "digits"


def keywords(models: Path, graph: Graph, count: int) -> list[list[Any]]:
    with np.load(models / "data" / "kws01_600.npz") as stored:
        x = (stored["x"][:count].astype(np.float32) - 83) * np.float32(0.584703)
    kind = graph.types[graph.inputs[0]]
    return [[quantise(row.reshape(kind.shape), kind).astype(kind.dtype.numpy)] for row in x]


def check(comparisons: Sequence[Comparison], sessions: int) -> None:
    """All is explained, and nothing was left out."""
    assert len(comparisons) == sessions
    for c in comparisons:
        assert c.skipped is None
        assert c.fault is None
        assert not c.not_compared
        assert c.origins == sum(row.explained for row in c.layers)
        assert (c.outputs_differ > 0) <= (c.origins > 0)
        for row in c.layers:
            assert row.elements > 0
            if row.differ:
                assert row.nearest_tie is not None and row.bound is not None
                assert 0 <= row.nearest_tie <= row.bound < 1e-3


def test_keyword_spotting_qdq(models: Path) -> None:
    path = models / "onnx" / "alibaba_kws_qdq.onnx"
    graph = run_pipeline(path, Options())
    comparisons = list(beside_onnxruntime(path, graph, keywords(models, graph, 100)))
    check(comparisons, 1)
    (c,) = comparisons
    assert c.outputs == 1200
    assert c.outputs_differ > 0
    # The mean of an even number of pixels on their own scale can be a tie, which sums in binary32 miss to either side.
    assert {row.op for row in c.layers if row.differ} >= {"AveragePool2D"}


def test_keyword_spotting_qoperator(models: Path) -> None:
    """Its kernels accumulate integers: nothing differs, with graph optimisations and without."""
    path = models / "onnx" / "alibaba_kws_qop.onnx"
    graph = run_pipeline(path, Options())
    comparisons = list(beside_onnxruntime(path, graph, keywords(models, graph, 100)))
    check(comparisons, 2)
    assert [(c.outputs, c.outputs_differ, c.origins) for c in comparisons] == [(1200, 0, 0)] * 2


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
def test_digits_as_onnxruntime_quantises_them(form: str, per_channel: bool, activations: str, tmp_path: Path) -> None:
    path = quantised_by_onnxruntime(DIGITS / "digits.onnx", form, per_channel, tmp_path, activations)
    graph = run_pipeline(path, Options())
    with np.load(DIGITS / "digits_test.npz") as stored:
        x = stored["x"][:20]
    kind = graph.types[graph.inputs[0]]
    samples = [[quantise(row.reshape(kind.shape), kind).astype(kind.dtype.numpy)] for row in x]
    check(list(beside_onnxruntime(path, graph, samples)), 1 if form == "QDQ" else 2)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
def test_branches(form: str, activations: str, tmp_path: Path) -> None:
    """Sums, a concatenation, poolings and, in reals at the end, a softmax (which QOperator models of ours lack)."""
    rng = np.random.default_rng(8)
    m = Model()
    m.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8)))

    def weights(name: str, *shape: int) -> str:
        return m.constant(name, rng.normal(0, 0.3, shape).astype(np.float32))

    m.node("Conv", ["x", weights("w1", 8, 3, 3, 3), weights("b1", 8)], "c1", name="first", pads=[1, 1, 1, 1])
    m.node("Relu", ["c1"], "r1", name="relu")
    m.node("Conv", ["r1", weights("w2", 8, 1, 3, 3), weights("b2", 8)], "c2", name="deep", pads=[1, 1, 1, 1], group=8)
    m.node("AveragePool", ["r1"], "p", name="mean", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    m.node("Add", ["c2", "p"], "a", name="sum")
    m.node("Concat", ["a", "r1"], "joined", name="joined", axis=1)
    m.node("MaxPool", ["joined"], "smaller", name="largest", kernel_shape=[2, 2], strides=[2, 2])
    m.node("GlobalAveragePool", ["smaller"], "pooled", name="pooled")
    m.node("Flatten", ["pooled"], "flat", name="flat")
    last = m.node("Gemm", ["flat", weights("w3", 5, 16), weights("b3", 5)], "logits", name="dense", transB=1)
    if form == "QDQ":
        last = m.node("Softmax", ["logits"], "y", name="softmax")
    output = helper.make_tensor_value_info(last, TensorProto.FLOAT, (1, 5))
    graph = helper.make_graph(m.nodes, "branches", m.inputs, [output], m.constants)
    path = tmp_path / "branches.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), str(path))
    rows = [rng.normal(0, 1, (1, 3, 8, 8)).astype(np.float32) for _ in range(12)]
    path = quantised_by_onnxruntime(path, form, True, tmp_path, activations, rows)
    compiled = run_pipeline(path, Options())
    comparisons = list(beside_onnxruntime(path, compiled, drawn_samples(compiled, 12)))
    check(comparisons, 1 if form == "QDQ" else 2)
    assert {"Conv2D", "DepthwiseConv2D", "Add", "Concat", "MaxPool2D"} <= {row.op for row in comparisons[0].layers}


def quantised_by_onnxruntime(
    path: Path,
    form: str,
    per_channel: bool,
    folder: Path,
    activations: str = "QInt8",
    rows: Sequence[Any] | None = None,
) -> Path:
    """Quantise a float model with onnxruntime's own tool, calibrated on rows, else on those of the digits."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    if rows is None:
        with np.load(DIGITS / "digits_calibration.npz") as stored:
            rows = list(stored["x"][:20].astype(np.float32))
    seen = rows

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            port = onnx.load(str(path)).graph.input[0]
            shape = [d.dim_value or 1 for d in port.type.tensor_type.shape.dim]
            self.rows = iter([{port.name: row.reshape(shape)} for row in seen])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rows, None)

    out = folder / "quantised.onnx"
    quantize_static(
        str(path),
        str(out),
        Reader(),
        quant_format=QuantFormat[form],
        per_channel=per_channel,
        activation_type=QuantType[activations],
        weight_type=QuantType.QInt8,
        # It would be given a calibrated scale instead of 1/256.
        nodes_to_exclude=["softmax"],
    )
    return out


def near_tie(folder: Path) -> tuple[Path, list[list[Any]]]:
    """7 (1 + 2**-23) times 1 (1 - 2**-23), in steps of 2: 7/2 less 7/2 2**-46, which binary32 takes for 7/2."""
    x = Quantised((1, 2), np.float32(1 + 2**-23))
    weights = np.array([[1, 2, 3], [0, 1, 0]], np.int8)
    w = Quantised(weights.shape, np.float32(1 - 2**-23), 0, "int8", weights)
    path = folder / "near.onnx"
    onnx.save(qdq("MatMul", [x, w], Quantised((), np.float32(2))), str(path))
    return path, [[np.array([[7, 2]], np.int8)], [np.array([[6, 2]], np.int8)]]


def test_a_near_tie_is_found_and_explained(tmp_path: Path) -> None:
    path, samples = near_tie(tmp_path)
    graph = run_pipeline(path, Options())
    (c,) = beside_onnxruntime(path, graph, samples)
    (row,) = c.layers
    # Products: 7 | 16 | 21 and 6 | 14 | 18; 21/2 less a little is a near tie too, but 10 is even.
    assert (row.differ, row.explained, c.outputs_differ, c.fault) == (1, 1, 1, None)
    assert row.nearest_tie == float(Fraction(7, 2) / 2**46)
    assert row.bound is not None and row.nearest_tie < row.bound < 1e-5
    observed = next(Oracle(path, graph).run(samples, optimised=False))
    assert observed["y"].ravel().tolist() == [4, 8, 10]
    node = graph.producers()["y"]
    layer = Layer(
        ops.operator("FullyConnected"), context(graph, node), [observed["x0"], graph.constants[node.inputs[1]]]
    )
    reach = reaches(layer)
    assert reach is not None
    assert reach((0, 0)).value == Fraction(7, 2) * (1 - Fraction(1, 2**46))
    kind = graph.types["y"]
    assert weigh(reach((0, 0)), 3, 4, kind)[2]
    assert not weigh(reach((0, 0)), 3, 5, kind)[2]
    # What the definition does not give is not explained either, even where onnxruntime's integer is.
    assert not weigh(reach((0, 0)), 2, 3, kind)[2]


def planted(graph: Graph, what: str, layer: int) -> tuple[Graph, str]:
    """A graph with one wrong number, and the name of the layer that it is in."""
    nodes = [n for n in graph.nodes if n.op in ("Conv2D", "FullyConnected")]
    node = nodes[layer]
    constants, types = dict(graph.constants), dict(graph.types)
    if what == "weight":
        weights = constants[node.inputs[1]].copy()
        weights.flat[0] += -16 if weights.flat[0] > 0 else 16
        constants[node.inputs[1]] = weights
    elif what == "bias":
        constants[node.inputs[2]] = constants[node.inputs[2]] + 100
    else:
        out = node.outputs[0]
        scale, zero = types[out].qparams.per_tensor  # type: ignore[union-attr]
        types[out] = replace(types[out], qparams=QParams.of(scale * 1.004, zero))
    bare = tuple(replace(n, params=None) for n in graph.nodes)
    return lower(graph.with_(nodes=bare, constants=constants, types=types)), node.name


@pytest.mark.parametrize("what", ["weight", "bias", "scale"])
def test_a_wrong_number_is_not_explained(what: str, tmp_path: Path) -> None:
    path = quantised_by_onnxruntime(DIGITS / "digits.onnx", "QDQ", True, tmp_path)
    graph, layer = planted(run_pipeline(path, Options()), what, 1)
    (c,) = beside_onnxruntime(path, graph, drawn_samples(graph, 4))
    assert c.fault is not None
    assert c.fault.startswith("UNEXPLAINED at ")
    assert f"'{layer}'" in c.fault
    assert "onnxruntime" in c.fault and "exact value" in c.fault
    # The layers before and after it are given onnxruntime's inputs, and do not differ beyond what is explained.
    assert {row.layer for row in c.layers if row.fault} == {layer}


def test_a_layer_that_cannot_be_found_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = quantised_by_onnxruntime(DIGITS / "digits.onnx", "QDQ", True, tmp_path)
    graph = run_pipeline(path, Options())
    gone = next(n for n in graph.nodes if n.op == "Conv2D")

    def without(tensor: str) -> Comparison:
        def found(model: Any, builder: Any, whole: Graph) -> dict[str, Source]:
            return {name: s for name, s in find_sources(model, builder, whole).items() if name != tensor}

        monkeypatch.setattr("intaglio.host.onnxruntime_oracle.find_sources", found)
        (c,) = beside_onnxruntime(path, graph, drawn_samples(graph, 2))
        return c

    c = without(gone.outputs[0])
    assert c.not_compared == [str(gone)]
    assert gone.name not in {row.layer for row in c.layers}
    assert c.fault is None
    c = without(graph.outputs[0])
    assert c.fault == f"onnxruntime's value of output '{graph.outputs[0]}' is not known"


def test_a_difference_from_nowhere_is_a_fault(tmp_path: Path) -> None:
    """Outputs of the integer reference differ although no layer's definition does: the device's numbers are wrong."""
    path = quantised_by_onnxruntime(DIGITS / "digits.onnx", "QDQ", True, tmp_path)
    graph = run_pipeline(path, Options())
    last = [n for n in graph.nodes if n.op == "FullyConnected"][-1]
    wrong = replace(last, params=replace(last.params, bias=last.params.bias + 10_000))
    broken = graph.with_(nodes=tuple(wrong if n is last else n for n in graph.nodes))
    (c,) = beside_onnxruntime(path, broken, drawn_samples(graph, 2))
    assert c.outputs_differ > 0
    assert c.fault is not None
    assert c.fault.endswith("differs, and no layer before it does")


def test_what_onnxruntime_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, samples = near_tie(tmp_path)
    graph = run_pipeline(path, Options())

    def refused(*given: Any, **named: Any) -> None:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr("onnxruntime.InferenceSession", refused)
    (c,) = beside_onnxruntime(path, graph, samples)
    assert (c.skipped, c.fault, c.samples) == ("refuses the model: no kernel for this", None, 0)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (c,) = beside_onnxruntime(path, graph, samples)
    assert c.skipped == "not installed: pip install onnxruntime"


def test_dead_channels_count_in_the_bound(tmp_path: Path) -> None:
    """A channel that is always 0 is gone from our graph; onnxruntime still adds its products."""
    path = tmp_path / "dead.onnx"
    rng = np.random.default_rng(3)
    first = rng.integers(-127, 128, (6, 3, 1, 1)).astype(np.int8)
    first[2] = first[5] = 0
    second = rng.integers(-127, 128, (4, 6, 1, 1)).astype(np.int8)
    x = Quantised((1, 3, 5, 5), np.float32(0.031), 4)
    one = Quantised(first.shape, np.float32(0.017), 0, "int8", first)
    two = Quantised(second.shape, np.float32(0.019), 0, "int8", second)
    middle = Quantised((), np.float32(0.043), -7)
    model = qdq("Conv", [x, one], middle)
    tail = qdq("Conv", [replace(x, shape=(1, 6, 5, 5)), two], Quantised((), np.float32(0.11), 2))
    renamed = onnx.compose.add_prefix(tail, "t_")
    body = [n for n in renamed.graph.node if n.name != "" or n.op_type != "QuantizeLinear" or n.output[0] != "t_q0"]
    for node in body:
        for i, name in enumerate(node.input):
            if name == "t_d0":
                node.input[i] = "dy"
    graph = model.graph
    graph.node.extend(n for n in body if n.output[0] != "t_d0")
    graph.initializer.extend(renamed.graph.initializer)
    graph.output[0].name = "t_dy"
    onnx.save(model, str(path))
    compiled = run_pipeline(path, Options())
    assert compiled.live["y"] == (0, 1, 3, 4)
    check(list(beside_onnxruntime(path, compiled, drawn_samples(compiled, 10))), 1)


def test_verify_fails_and_names_the_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weight that is wrong throughout, C included: only onnxruntime can tell."""
    path, samples = near_tie(tmp_path)
    data = tmp_path / "x.npz"
    np.savez(data, x=np.concatenate([s[0] for s in samples]))
    arguments = ["verify", str(path), "--core", "cortex-m0", "--data", str(data), "--quick"]
    assert run([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["exact"] and result["explained"]
    (beside,) = result["onnxruntime"]
    assert (beside["samples"], beside["origins"], beside["outputs"], beside["outputs_differ"]) == (2, 1, 6, 1)
    assert beside["layers"][0]["nearest_tie"] == float(Fraction(7, 2) / 2**46)

    wrong, layer = planted(run_pipeline(path, Options()), "weight", 0)
    monkeypatch.setattr("intaglio.codegen.compile.run_pipeline", lambda *_: wrong)
    assert run([*arguments, "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["exact"] and not result["explained"]
    assert run(arguments) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert f"UNEXPLAINED at FullyConnected '{layer}' (MatMul #3) sample 0 element [0, 0]:" in printed
