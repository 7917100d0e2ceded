"""What cannot be translated is refused by the operator's name, its node, its neighbours and the nearest names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frontends.onnx.damage import Model
from onnx import TensorProto, helper, numpy_helper

from intaglio.quantizer.errors import ModelError, UnsupportedError
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.frontends.onnx import read


def refusal(data: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        read(data, "model.onnx", "model")
    message = str(caught.value)
    assert "\n" not in message
    return message


def between(op: str, *inputs: str, opset: int = 17, domain: str = "", **attributes: Any) -> bytes:
    """Relu, the operator, Tanh; written whether or not the opset has the operator."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "first"),
        helper.make_node(op, ["a", *inputs], ["b"], "blocks.0/norm", domain=domain, **attributes),
        helper.make_node("Tanh", ["b"], ["y"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "refused",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8])],
        [numpy_helper.from_array(np.ones(8, np.float32), name) for name in inputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return bytes(model.SerializeToString())


def subgraph() -> Any:
    return helper.make_graph([], "body", [], [])


NEAR = {
    "LayerNormalization": "nearest: BatchNormalization",
    "Einsum": "see docs/operators.md",
    "Attention": "see docs/operators.md",
    "InstanceNormalization": "nearest: BatchNormalization",
    "GroupNormalization": "nearest: BatchNormalization",
    "NonMaxSuppression": "see docs/operators.md",
    "ConvInteger": "nearest: Conv",
    "DynamicQuantizeLinear": "nearest: QuantizeLinear, DequantizeLinear",
}


@pytest.mark.parametrize("op", NEAR)
@pytest.mark.parametrize("opset", [8, 17])
def test_operator_that_is_not_supported(op: str, opset: int) -> None:
    """Also where the checker would say only that the file is malformed: the opset is older than the operator."""
    message = refusal(between(op, "s", opset=opset))
    assert message == (
        f"model.onnx: {op} #1 'blocks.0/norm': operator {op} (node 1, after Relu #0, before Tanh #2) is not supported; "
        f"{NEAR[op]}"
    )


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN", "Scan", "Loop", "If"])
def test_recurrent_layers_and_control_flow_come_later(op: str) -> None:
    attributes: dict[str, Any] = {"hidden_size": 8}
    if op in ("Scan", "Loop"):
        attributes = {"body": subgraph()}
    elif op == "If":
        attributes = {"then_branch": subgraph(), "else_branch": subgraph()}
    message = refusal(between(op, "w", **attributes))
    assert (
        f"{op} #1 'blocks.0/norm': operator {op} (node 1, after Relu #0, before Tanh #2) is not supported yet"
        in message
    )
    assert message.endswith("; recurrent layers and control flow come later")


def test_operator_of_another_domain() -> None:
    message = refusal(between("Relu", domain="ai.example"))
    assert "Relu #1 'blocks.0/norm': operator ai.example.Relu (node 1, after Relu #0, before Tanh #2)" in message


def test_operator_that_is_only_evaluated_among_constants() -> None:
    message = refusal(between("Where", "s", "t"))
    assert (
        "operator Where (node 1, after Relu #0, before Tanh #2) is not supported on values computed at run time"
        in message
    )
    folded = Model(1, 4)
    picked = folded.node("Where", folded.constant(np.array(True)), folded.real(1, 4), folded.real(1, 4))
    assert [n.op for n in read(folded.bytes(folded.node("Add", "x", picked)), "m", "m").nodes] == ["Add"]


def test_first_operator_of_several_is_named() -> None:
    m = Model(1, 4)
    message = refusal(m.bytes(m.node("Det", m.node("Shrink", "x"))))
    assert "Shrink #0 'node0': operator Shrink (node 0, first, before Det #1) is not supported" in message


def test_functions_and_data_in_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").write_bytes(bytes(16))
    m = Model(1, 4)
    model = onnx.load_model_from_string(m.bytes(m.node("Add", "x", m.real(1, 4))))
    function = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [])
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.functions.append(function)
    assert refusal(changed.SerializeToString()).endswith("holds functions of its own; inline them with onnx.inliner")
    changed.CopyFrom(model)
    changed.graph.initializer[0].data_location = TensorProto.EXTERNAL
    entry = changed.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    assert "weights lie in other files" in refusal(changed.SerializeToString())
    changed.CopyFrom(model)
    outside = changed.graph.node.add()
    outside.op_type = "Constant"
    outside.output.append("unread")
    outside.attribute.append(helper.make_attribute("value", changed.graph.initializer[0]))
    outside.attribute[0].t.ClearField("raw_data")
    outside.attribute[0].t.data_location = TensorProto.EXTERNAL
    location = outside.attribute[0].t.external_data.add()
    location.key, location.value = "location", "weights.bin"
    assert "lies in another file" in refusal(changed.SerializeToString())


def test_operator_of_a_model_that_is_malformed_otherwise(models: Path) -> None:
    """Written with an operator that its opset does not have."""
    path = models / "onnx" / "golden_CCT_16_8" / "network.onnx"
    with pytest.raises(UnsupportedError) as caught:
        load_model(path)
    where, what = f"{path}: LayerNormalization #6 'LayerNorm_0'", "operator LayerNormalization (node 6, "
    assert str(caught.value).startswith(f"{where}: {what}after Add #5, before MatMul #7) is not supported; ")
