"""What the ONNX frontend makes of a model means what onnxruntime computes: over the reals, within binary32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import Graph, verify
from intaglio.quantizer.passes.canonicalise import canonicalise
from intaglio.quantizer.passes.fold_constants import fold_constants
from intaglio.quantizer.reference import Evaluator, Mode

Array = NDArray[Any]
IMAGE = [1, 4, 6, 5]
RNG = np.random.default_rng(3)


def real(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


Case = tuple[str, list[int], list[tuple[str, list[str], dict[str, Any]]], dict[str, Array], int]
"""Name, input shape, nodes (operator, inputs, attributes; each makes the next's `t{i}`), constants, opset."""


def one(
    op: str, shape: list[int], constants: dict[str, Array] | None = None, opset: int = 17, **attributes: Any
) -> Case:
    constants = constants or {}
    return (op, shape, [(op, ["x", *constants], attributes)], constants, opset)


CASES: list[Case] = [
    one("Conv", IMAGE, {"w": real(6, 4, 3, 3), "b": real(6)}, pads=[1, 1, 1, 1]),
    one("Conv", IMAGE, {"w": real(6, 4, 3, 2)}, strides=[2, 1], auto_pad="SAME_UPPER"),
    one("Conv", IMAGE, {"w": real(6, 4, 3, 2)}, strides=[2, 1], auto_pad="SAME_LOWER"),
    one("Conv", IMAGE, {"w": real(8, 1, 3, 3), "b": real(8)}, group=4, dilations=[2, 1]),
    one("Conv", IMAGE, {"w": real(6, 2, 1, 1)}, group=2),
    one("Conv", [1, 3, 9], {"w": real(5, 3, 3)}, pads=[2, 0]),
    one("ConvTranspose", IMAGE, {"w": real(4, 3, 3, 2), "b": real(3)}, strides=[2, 2], pads=[1, 0, 0, 1]),
    one("Gemm", [1, 7], {"w": real(5, 7), "b": real(5)}, transB=1),
    one("Gemm", [1, 7], {"w": real(7, 5), "b": real(1, 5)}, alpha=0.5, beta=2.0),
    one("MatMul", [1, 3, 7], {"w": real(7, 5)}),
    one("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    one("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    one("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    one("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    one("GlobalAveragePool", IMAGE),
    one("GlobalMaxPool", IMAGE),
    one("BatchNormalization", IMAGE, {"s": real(4), "b": real(4), "m": real(4), "v": np.abs(real(4)) + 0.5}),
    one("Softmax", IMAGE, axis=1),
    one("Softmax", [1, 9], axis=-1),
    one("LogSoftmax", [1, 9], axis=1),
    one("Add", IMAGE, {"c": real(1, 4, 1, 1)}),
    one("Mul", IMAGE, {"c": real(6, 1)}),
    one("Sub", IMAGE, {"c": real(5)}),
    one("Div", IMAGE, {"c": np.abs(real(4, 1, 1)) + 1}),
    one("Max", IMAGE, {"c": real(1)}),
    one("Min", IMAGE, {"c": real(1)}),
    one("Relu", IMAGE),
    one("Clip", IMAGE, {"lo": np.float32(-0.5), "hi": np.float32(0.75)}),
    one("LeakyRelu", IMAGE, alpha=0.2),
    one("PRelu", IMAGE, {"s": real(4, 1, 1)}),
    one("Sigmoid", IMAGE),
    one("Tanh", IMAGE),
    one("HardSigmoid", IMAGE, alpha=0.3, beta=0.4),
    one("HardSwish", IMAGE),
    one("Elu", IMAGE, alpha=0.7),
    one("Gelu", IMAGE, opset=20),
    one("Exp", IMAGE),
    one("Abs", IMAGE),
    one("Neg", IMAGE),
    one("Transpose", IMAGE, perm=[0, 2, 3, 1]),
    one("Transpose", IMAGE, perm=[0, 3, 1, 2]),
    one("Flatten", IMAGE),
    one("Reshape", IMAGE, {"s": ints(1, -1)}),
    one("Reshape", IMAGE, {"s": ints(0, 2, -1, 5)}),
    one("Squeeze", [1, 4, 1, 5], {"a": ints(2)}),
    one("Unsqueeze", [1, 4, 5], {"a": ints(2)}),
    one("Slice", IMAGE, {"s": ints(1, -1), "e": ints(4, -6), "a": ints(1, 3), "t": ints(2, -2)}),
    one("Gather", IMAGE, {"i": ints(2, -1, 0)}, axis=1),
    one("Pad", IMAGE, {"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}),
    one("Pad", IMAGE, {"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}, mode="reflect"),
    one("ReduceMean", IMAGE, axes=[2, 3], keepdims=0),
    one("ReduceMean", IMAGE, axes=[1], keepdims=1),
    one("ReduceMax", IMAGE, axes=[2, 3], keepdims=1),
    one("ReduceSum", IMAGE, {"a": ints(2, 3)}, keepdims=0),
    one("DepthToSpace", IMAGE, blocksize=2),
    one("DepthToSpace", IMAGE, blocksize=2, mode="CRD"),
    one("SpaceToDepth", [1, 3, 4, 6], blocksize=2),
    # Forms of older opsets, and of newer ones.
    one("Clip", IMAGE, opset=7, min=-0.5, max=0.75),
    one("Clip", IMAGE, opset=9, min=-0.5),
    one("Pad", IMAGE, opset=7, pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.5),
    one("Pad", IMAGE, {"p": ints(1, 2, 0, 1), "v": np.float32(0.5), "a": ints(2, -1)}, opset=18),
    one("Slice", IMAGE, opset=7, starts=[1, -3], ends=[4, -1], axes=[1, 3]),
    one("Squeeze", [1, 4, 1, 5], opset=7, axes=[2]),
    one("Unsqueeze", [1, 4, 5], opset=7, axes=[2]),
    one("Flatten", IMAGE, opset=11, axis=-2),
    one("ReduceSum", IMAGE, opset=7, axes=[2, 3]),
    one("ReduceMean", IMAGE, {"a": ints(2, 3)}, opset=18, keepdims=0),
    one("ReduceMax", IMAGE, {"a": ints(1)}, opset=18),
    one("Upsample", IMAGE, opset=7, mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]),
    one("Upsample", IMAGE, {"s": np.array([1, 1, 2, 2], np.float32)}, opset=9, mode="linear"),
    one("Resize", IMAGE, {"s": np.array([1, 1, 2, 3], np.float32)}, opset=10, mode="nearest"),
    one("Resize", IMAGE, {"r": real(0), "s": np.array([1, 1, 0.5, 2], np.float32)}, opset=11, mode="linear"),
    one("Softmax", IMAGE, opset=11, axis=1),
    one("Softmax", IMAGE, opset=7),
    one("LogSoftmax", [2, 3, 4], opset=11, axis=2),
    one("BatchNormalization", IMAGE, {"s": real(4), "b": real(4), "m": real(4), "v": np.abs(real(4)) + 0.5}, opset=7),
    one("Dropout", IMAGE, opset=7, ratio=0.3),
    one("Gemm", [1, 7], {"w": real(7, 5), "b": real(5)}, opset=7),
    one("Gemm", [7, 2], {"w": real(7, 5), "b": real(2, 5)}, opset=13, transA=1),
    one("MatMul", [7], {"w": real(7, 5)}),
    one("MatMul", [1, 3, 7], {"w": real(7)}),
    one("ConvTranspose", [1, 4, 5, 6], {"w": real(4, 2, 3, 3), "b": real(4)}, group=2, strides=[2, 1]),
    one("ConvTranspose", [1, 2, 5, 6], {"w": real(2, 3, 3, 2)}, dilations=[2, 3], pads=[1, 0, 1, 2]),
    one("ConvTranspose", [1, 2, 5, 6], {"w": real(2, 3, 3, 3)}, strides=[2, 2], auto_pad="SAME_UPPER"),
    one("ConvTranspose", [1, 2, 5], {"w": real(2, 3, 3)}, strides=[2], output_shape=[10], output_padding=[1]),
    one("Cast", IMAGE, to=TensorProto.DOUBLE),
    one("Mean", IMAGE, {"c": real(4, 1, 1)}),
    one("Selu", IMAGE, alpha=1.5, gamma=1.25),
    one("Mish", IMAGE, opset=18),
    one("Softplus", IMAGE),
    one("Erf", IMAGE),
    one("Sin", IMAGE),
    one("Cos", IMAGE),
    one("Floor", IMAGE),
    one("Ceil", IMAGE),
    one("Round", IMAGE),
    one("Pow", IMAGE, {"e": np.float32(2)}),
    one("Pow", IMAGE, {"e": np.float32(1)}),
    ("positive", IMAGE, [
        ("Abs", ["x"], {}), ("Add", ["t0", "one"], {}), ("Log", ["t1"], {}), ("Sqrt", ["t1"], {}),
        ("Reciprocal", ["t1"], {}), ("Sum", ["t2", "t3", "t4"], {}),
    ], {"one": np.float32(1)}, 17),
    ("conv-flatten-gemm", IMAGE, [
        ("Conv", ["x", "w"], {}), ("Relu", ["t0"], {}), ("Flatten", ["t1"], {}), ("Gemm", ["t2", "g"], {"transB": 1}),
    ], {"w": real(3, 4, 3, 3), "g": real(7, 36)}, 17),
    ("tensorflow-style", [1, 6, 5, 4], [
        ("Transpose", ["x"], {"perm": [0, 3, 1, 2]}), ("Conv", ["t0", "w"], {"pads": [1, 1, 1, 1]}),
        ("Transpose", ["t1"], {"perm": [0, 2, 3, 1]}), ("Reshape", ["t2", "s"], {}), ("MatMul", ["t3", "g"], {}),
    ], {"w": real(2, 4, 3, 3), "s": ints(1, 60), "g": real(60, 3)}, 13),
    ("branches", IMAGE, [
        ("Conv", ["x", "w"], {"pads": [1, 1, 1, 1]}), ("Sigmoid", ["t0"], {}), ("Mul", ["t0", "t1"], {}),
        ("Add", ["t2", "x"], {}), ("Concat", ["t3", "x"], {"axis": 1}), ("GlobalAveragePool", ["t4"], {}),
    ], {"w": real(4, 4, 3, 3)}, 17),
    ("flat-arithmetic", IMAGE, [
        ("Flatten", ["x"], {}), ("Mul", ["t0", "c"], {}), ("Gemm", ["t1", "g"], {"transB": 1}),
    ], {"c": real(120), "g": real(3, 120)}, 17),
]  # fmt: skip


def build(case: Case, path: Path) -> None:
    _, shape, nodes, constants, opset = case
    made = [
        helper.make_node(op, inputs, ["y" if i == len(nodes) - 1 else f"t{i}"], f"node{i}", **attributes)
        for i, (op, inputs, attributes) in enumerate(nodes)
    ]
    graph = helper.make_graph(
        made,
        "case",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, str(path))


def infer(path: Path, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def channels_last(value: Array, shape: tuple[int, ...]) -> Array:
    """An ONNX value in the order of our tensor: turned where that is an image."""
    if value.shape == shape:
        return value
    if value.ndim == 3:
        value = value[:, :, None]
    assert value.transpose(0, 2, 3, 1).shape == shape
    return value.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_reals_are_those_of_onnxruntime(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "case.onnx"
    build(case, path)
    graph = load_model(path)
    verify(graph, "frontend")
    x = real(*case[1])
    expected = infer(path, x)
    for form in (graph, canonicalise(fold_constants(graph))):
        _compare(form, x, expected)


def _compare(graph: Graph, x: Array, expected: Array) -> None:
    kind = graph.types[graph.inputs[0]]
    result = Evaluator(graph, Mode.REAL).run([channels_last(x, kind.shape)])[graph.outputs[0]]
    turned = channels_last(expected, graph.types[graph.outputs[0]].shape)
    # A comparison of reals: binary32 there, binary64 here.
    assert np.abs(result - turned).max() <= 1e-4 * max(1.0, float(np.abs(expected).max()))


def test_transposes_are_gone(tmp_path: Path) -> None:
    """Neither channels-first images nor TensorFlow's transposes around convolutions cost a copy."""
    for case in CASES:
        if case[0] in ("conv-flatten-gemm", "tensorflow-style", "branches"):
            build(case, tmp_path / "case.onnx")
            graph = canonicalise(fold_constants(load_model(tmp_path / "case.onnx")))
            assert not [n for n in graph.nodes if n.op == "Transpose"], case[0]
