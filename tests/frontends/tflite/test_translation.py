"""What the TFLite frontend makes of a file: types, constants, ports, state, folded shapes; and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frontends.tflite.builder import GraphBuilder, ModelBuilder, options

from intaglio.quantizer.errors import ModelError, UnsupportedError
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.frontends.tflite import read
from intaglio.quantizer.ir import Contract, DType, Graph, QParams, verify
from intaglio.quantizer.ops.accumulate import Clamp
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode


def parse(model: ModelBuilder) -> Graph:
    """The graph, verified."""
    graph = read(model.bytes(), "model.tflite", "model")
    verify(graph, "frontend")
    return graph


def conv(
    size: tuple[int, int] = (5, 7),
    kernel: tuple[int, int] = (3, 2),
    batch: tuple[int, ...] | None = None,
    **fields: Any,
) -> ModelBuilder:
    """One int8 convolution of 2 channels into 3."""
    model = ModelBuilder()
    g = model.main
    signature = None if batch is None else (*batch, *size, 2)[:4]
    x = g.tensor((1, *size, 2), "int8", 0.1, 3, name="image", signature=signature)
    weights = np.arange(3 * kernel[0] * kernel[1] * 2, dtype=np.int8).reshape(3, *kernel, 2)
    w = g.tensor(weights.shape, "int8", [0.01, 0.02, 0.03], data=weights, name="weights")
    b = g.tensor((3,), "int32", [0.001, 0.002, 0.003], data=np.array([1, 2, 3], np.int32), axis=3, name="bias")
    y = g.tensor((1, 1, 1, 3), "int8", 0.2, -5, name="result")
    g.op("CONV_2D", [x, w, b], [y], options("Conv2DOptions", **{"strideH": 1, "strideW": 1, **fields}))
    g.ports([x], [y])
    return model


def chain(g: GraphBuilder, builtin: str, x: int, shape: tuple[int, ...], dtype: str = "int8", **kw: Any) -> int:
    """An operator without options whose output has the same scale."""
    y = g.tensor(shape, dtype, None if dtype == "float32" else 0.1, **kw)
    g.op(builtin, [x], [y])
    return y


def test_quantised_convolution() -> None:
    graph = parse(conv())
    assert graph.contract is Contract.TFLITE
    assert (graph.inputs, graph.outputs) == (("image",), ("result",))
    assert graph.types["weights"].qparams == QParams(tuple(np.float32([0.01, 0.02, 0.03]).tolist()), (0, 0, 0), 0)
    bias = graph.types["bias"].qparams
    assert bias is not None and bias.axis == 0, "the axis 3 that old converters kept in the bias is 0"
    (node,) = graph.nodes
    assert (node.op, node.source) == ("Conv2D", "CONV_2D #0")
    assert graph.types["result"].shape == (1, 5, 7, 3), "the shape is inferred, not believed"
    lower(graph)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "pads"),
    [
        ((5, 7), (3, 2), (1, 1), (1, 1), (1, 1, 0, 1)),
        ((5, 7), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
        ((6, 6), (3, 3), (2, 2), (1, 1), (0, 1, 0, 1)),
        ((6, 6), (1, 1), (2, 2), (1, 1), (0, 0, 0, 0)),
        ((9, 9), (3, 3), (1, 1), (2, 3), (2, 2, 3, 3)),
        ((10, 4), (10, 4), (2, 2), (1, 1), (4, 4, 1, 1)),
    ],
)
def test_same_padding_becomes_explicit(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> None:
    h, w = stride
    fields = {"strideH": h, "strideW": w, "dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
    graph = parse(conv(size, kernel, padding=0, **fields))
    assert graph.nodes[0].attrs.pads == pads
    assert graph.types["result"].shape[1:3] == (-(-size[0] // h), -(-size[1] // w))
    assert parse(conv(size, kernel, padding=1)).nodes[0].attrs.pads == (0, 0, 0, 0)


@pytest.mark.parametrize(("code", "clamp"), [(0, (None, None)), (1, (0.0, None)), (2, (-1.0, 1.0)), (3, (0.0, 6.0))])
def test_fused_activation(code: int, clamp: tuple[float | None, float | None]) -> None:
    assert parse(conv(fusedActivationFunction=code)).nodes[0].attrs.clamp == Clamp(*clamp)


@pytest.mark.parametrize(("code", "name"), [(4, "TANH"), (5, "SIGN_BIT"), (77, "77")])
def test_other_fused_activations_are_refused(code: int, name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"CONV_2D #0: fused activation {name}"):
        parse(conv(fusedActivationFunction=code))


def test_dynamic_batch_becomes_1() -> None:
    assert parse(conv(batch=(-1,))).types["image"].shape == (1, 5, 7, 2)


def test_other_dynamic_axis_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"input 'image': axis 1 of \[1, -1, 5, 7\] is dynamic"):
        parse(conv(batch=(1, -1)))


def test_real_model_has_no_contract_and_hybrid_weights_are_dequantised() -> None:
    model = ModelBuilder()
    g = model.main
    x, y = g.tensor((1, 4), "float32", name="x"), g.tensor((1, 2), "float32", name="y")
    values = np.arange(-4, 4, dtype=np.int8).reshape(2, 4)
    w = g.tensor((2, 4), "int8", [0.5, 0.25], data=values, name="w")
    g.op("FULLY_CONNECTED", [x, w, -1], [y], options("FullyConnectedOptions"))
    g.ports([x], [y])
    graph = parse(model)
    assert graph.contract is None
    name = graph.nodes[0].inputs[1]
    assert graph.types[name].dtype is DType.FLOAT32 and graph.types[name].qparams is None
    assert np.array_equal(graph.constants[name], values * np.float32([[0.5], [0.25]]))
    assert "w" not in graph.constants


def test_half_precision_weights() -> None:
    model = ModelBuilder()
    g = model.main
    x, real, y = g.tensor((1, 2), "float32"), g.tensor((1, 2), "float32"), g.tensor((1, 1), "float32")
    half = g.tensor((1, 2), "float16", data=np.array([[1.5, -2.25]], np.float16))
    g.op("DEQUANTIZE", [half], [real], options("DequantizeOptions"))
    g.op("FULLY_CONNECTED", [x, real, -1], [y], options("FullyConnectedOptions"))
    g.ports([x], [y])
    graph = parse(model)
    assert [n.op for n in graph.nodes] == ["FullyConnected"]
    assert graph.constants["t1"].tolist() == [[1.5, -2.25]] and graph.constants["t1"].dtype == np.float32


def test_weights_of_four_bits() -> None:
    model = ModelBuilder()
    g = model.main
    x, y = g.tensor((1, 3), "int8", 0.1), g.tensor((1, 1), "int8", 0.1)
    w = g.tensor((1, 3), "int4", 0.1, data=np.array([0x8F, 0x07], np.uint8))
    g.op("FULLY_CONNECTED", [x, w, -1], [y], options("FullyConnectedOptions"))
    g.ports([x], [y])
    assert parse(model).constants["t2"].tolist() == [[-1, -8, 7]]


def ports(scales: tuple[float, ...] = (0.1,)) -> ModelBuilder:
    """x (float) quantised once per scale, the sum of them all dequantised."""
    model = ModelBuilder()
    g = model.main
    x, y = g.tensor((1, 4), "float32", name="x"), g.tensor((1, 4), "float32", name="y")
    integers = [g.tensor((1, 4), "int8", s, 3, name=f"q{i}") for i, s in enumerate(scales)]
    for number in integers:
        g.op("QUANTIZE", [x], [number], options("QuantizeOptions"))
    total = g.tensor((1, 4), "int8", 0.2, 5, name="total")
    operands = [integers[0], integers[-1]]
    g.op("ADD", operands, [total], options("AddOptions", potScaleInt16=False))
    g.op("DEQUANTIZE", [total], [y], options("DequantizeOptions"))
    g.ports([x], [y])
    return model


def test_float_ports_are_cut() -> None:
    graph = parse(ports())
    assert (graph.inputs, graph.outputs) == (("q0",), ("total",))
    assert [n.op for n in graph.nodes] == ["Add"]
    assert graph.contract is Contract.TFLITE


def test_input_quantised_twice_alike_is_one_input() -> None:
    graph = parse(ports((0.1, 0.1)))
    assert graph.inputs == ("q0",) and graph.nodes[0].inputs == ("q0", "q0")


def test_input_quantised_in_two_ways_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="input 'x': is quantised in two ways"):
        parse(ports((0.1, 0.2)))


def test_output_that_is_also_read_is_cut_and_kept() -> None:
    """A DEQUANTIZE that something else reads too cannot go: the model is half float, and refused by name."""
    model = ports()
    g = model.main
    more = g.tensor((1, 4), "float32", name="more")
    g.op("EXP", [1], [more])
    g.ports([0], [1, more])
    with pytest.raises(UnsupportedError, match="DEQUANTIZE #2: 'total' becomes float in the middle"):
        parse(model)


def test_shapes_computed_from_shapes_are_folded() -> None:
    model = ModelBuilder()
    g = model.main
    x, y = g.tensor((1, 4, 6), "int8", 0.1, name="x"), g.tensor((1, 24), "int8", 0.1)
    size, one, joined = g.tensor((3,), "int32"), g.tensor((), "int32"), g.tensor((2,), "int32")
    constants = [g.tensor((1,), "int32", data=np.array([v], np.int32)) for v in (0, 1, 1)]
    rest = g.tensor((), "int32", data=np.array(-1, np.int32))
    g.op("SHAPE", [x], [size], options("ShapeOptions"))
    g.op("STRIDED_SLICE", [size, *constants], [one], options("StridedSliceOptions", shrinkAxisMask=1))
    g.op("PACK", [one, rest], [joined], options("PackOptions", valuesCount=2))
    g.op("RESHAPE", [x, joined], [y], options("ReshapeOptions"))
    g.ports([x], [y])
    graph = parse(model)
    assert [(n.op, n.attrs.shape) for n in graph.nodes] == [("Reshape", (1, 24))]
    assert not graph.constants


def test_state() -> None:
    """The initial value comes from CALL_ONCE; reads see what was assigned before them, in the order of the file."""
    model = ModelBuilder()
    init, g = model.subgraph(), model.main
    handle, first = init.tensor((), "resource"), np.array([[1, -2, 3]], np.int8)
    value = init.tensor((1, 3), "int8", 0.5, data=first)
    shared = options("VarHandleOptions", container=b"", sharedName=b"memory")
    init.op("VAR_HANDLE", [], [handle], shared)
    init.op("ASSIGN_VARIABLE", [handle, value], [])
    x, y, old, new = (g.tensor((1, 3), "int8", 0.5, name=n) for n in ("x", "y", "old", "new"))
    handle = g.tensor((), "resource")
    g.op("CALL_ONCE", [], [], options("CallOnceOptions", initSubgraphIndex=1))
    g.op("VAR_HANDLE", [], [handle], shared)
    g.op("READ_VARIABLE", [handle], [old])
    g.op("MAXIMUM", [x, old], [new], options("MaximumMinimumOptions"))
    g.op("ASSIGN_VARIABLE", [handle, new], [])
    g.op("READ_VARIABLE", [handle], [y])
    g.ports([x], [y])
    graph = parse(model)
    assert np.array_equal(graph.variables["memory"].initial, first)
    ours = Evaluator(lower(graph), Mode.INTEGER)
    assert ours.run([np.array([[0, 0, 9]])])["y"].tolist() == [[1, 0, 9]]
    assert ours.run([np.array([[5, -9, 0]])])["y"].tolist() == [[5, 0, 9]]
    ours.reset()
    assert ours.run([np.array([[-9, -9, -9]])])["y"].tolist() == first.tolist()


def test_variable_without_a_value_is_refused() -> None:
    model = ModelBuilder()
    g = model.main
    x, y, handle = g.tensor((1, 3), "int8", 0.5), g.tensor((1, 3), "int8", 0.5), g.tensor((), "resource")
    g.op("VAR_HANDLE", [], [handle], options("VarHandleOptions", sharedName=b"memory"))
    g.op("READ_VARIABLE", [handle], [y])
    g.ports([x], [y])
    with pytest.raises(UnsupportedError, match="READ_VARIABLE #1: variable 'memory' is read before it has a value"):
        parse(model)


def test_tensors_that_share_a_name_or_have_none() -> None:
    model = ModelBuilder()
    g = model.main
    x = g.tensor((1, 3), "int8", 0.1, name="same")
    y = chain(g, "NEG", x, (1, 3), name="same")
    z = chain(g, "ABS", y, (1, 3), name="")
    last = chain(g, "NEG", z, (1, 3), name="same:0")
    g.ports([x], [last])
    graph = parse(model)
    names = [*graph.inputs, *(out for n in graph.nodes for out in n.outputs)]
    assert len(set(names)) == 4 and names[1:] == ["same:1", "tensor:2", "same:0"]


def test_several_inputs_and_outputs_keep_their_order() -> None:
    model = ModelBuilder()
    g = model.main
    x = [g.tensor((1, 3), "int8", 0.1, name=f"x{i}") for i in range(3)]
    y = [chain(g, "NEG", n, (1, 3), name=f"y{i}") for i, n in enumerate(x)]
    g.ports([x[2], x[0], x[1]], [y[1], y[2], y[0]])
    graph = parse(model)
    assert graph.inputs == ("x2", "x0", "x1") and graph.outputs == ("y1", "y2", "y0")


@pytest.mark.parametrize(
    ("builtin", "message"),
    [
        (
            "CUMSUM",
            r"CUMSUM #1: operator CUMSUM \(node 1, after NEG #0, before ABS #2\) is not supported; nearest: SUM",
        ),
        ("SIGN", r"operator SIGN .* is not supported; nearest: SIN"),
        *(
            (name, rf"{name} #1: operator {name} \(.*\) is not supported yet; recurrent layers come later")
            for name in (
                "LSTM",
                "RNN",
                "WHILE",
                "UNIDIRECTIONAL_SEQUENCE_LSTM",
                "BIDIRECTIONAL_SEQUENCE_LSTM",
                "UNIDIRECTIONAL_SEQUENCE_RNN",
                "BIDIRECTIONAL_SEQUENCE_RNN",
            )
        ),
    ],
)
def test_unsupported_operator_is_named_with_its_neighbours(builtin: str, message: str) -> None:
    model = ModelBuilder()
    g = model.main
    x = g.tensor((1, 3), "int8", 0.1)
    g.ports([x], [chain(g, "ABS", chain(g, builtin, chain(g, "NEG", x, (1, 3)), (1, 3)), (1, 3))])
    with pytest.raises(UnsupportedError, match=message):
        parse(model)


@pytest.mark.parametrize("name", ["trained_lstm", "trained_lstm_int8"])
def test_recurrent_models_are_refused_by_operator_and_node(models: Path, name: str) -> None:
    what = r"LSTM #0: operator UNIDIRECTIONAL_SEQUENCE_LSTM \(node 0, first, before RESHAPE #1\) is not supported yet"
    with pytest.raises(UnsupportedError, match=what):
        load_model(models / "tflite" / f"{name}.tflite")


def test_output_that_nothing_makes_is_refused() -> None:
    model = ModelBuilder()
    g = model.main
    x = g.tensor((1, 3), "int8", 0.1)
    g.ports([x], [g.tensor((1, 3), "int8", 0.1, name="lost")])
    with pytest.raises(ModelError, match="output 'lost': nothing makes it"):
        parse(model)


def test_constant_output_is_refused() -> None:
    model = ModelBuilder()
    g = model.main
    x, size = g.tensor((1, 3), "int8", 0.1), g.tensor((2,), "int32", name="size")
    g.op("SHAPE", [x], [size], options("ShapeOptions"))
    g.ports([x], [size])
    with pytest.raises(UnsupportedError, match="output 'size': does not depend on the inputs"):
        parse(model)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"dtype": "int8", "data": np.zeros(5, np.int8), "scale": 0.1}, r"needs 6 bytes, the buffer has 5"),
        ({"dtype": "int8", "data": np.zeros(6, np.int8)}, "weights 'w' of type int8 have no scale"),
        ({"dtype": "int8", "data": np.zeros(6, np.int8), "scale": [0.1, 0.2, 0.3]}, "3 scales along axis 0 of"),
        ({"dtype": "int8", "data": np.zeros(6, np.int8), "scale": 0.0}, "a scale of zero"),
        ({"dtype": "int8", "data": np.zeros(6, np.int8), "scale": np.inf}, "a scale that is negative or not finite"),
        ({"dtype": "int8", "data": np.zeros(6, np.int8), "scale": 0.1, "zero": 300}, "a zero point outside int8"),
        ({"dtype": "int8", "scale": 0.1}, "reads 'w', which nothing makes"),
    ],
)
def test_bad_weights_are_named(tensor: dict[str, Any], message: str) -> None:
    model = ModelBuilder()
    g = model.main
    x, y = g.tensor((1, 3), "int8", 0.1), g.tensor((1, 2), "int8", 0.1)
    w = g.tensor((2, 3), name="w", **tensor)
    g.op("FULLY_CONNECTED", [x, w, -1], [y], options("FullyConnectedOptions"))
    g.ports([x], [y])
    with pytest.raises(ModelError, match=message):
        parse(model)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a TFLite model"),
        (b"TFL3", "is not a TFLite model"),
        (b"\x08\x00\x00\x00ONNX" + bytes(64), "is not a TFLite model"),
        (b"\xff\xff\xff\xffTFL3" + bytes(64), "byte 4294967295: a value lies outside the file of 72 bytes"),
    ],
)
def test_file_that_is_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_model(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none.tflite: cannot be read \(No such file or directory\)"):
        load_model(tmp_path / "none.tflite")
