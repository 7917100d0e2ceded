"""Small ONNX models that between them use every translator, and damage done to their fields rather than their bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from intaglio.quantizer.frontends.onnx import TRANSLATED
from intaglio.quantizer.frontends.onnx_folds import FOLDS

Array = NDArray[Any]
NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 16, 63, 127, 255, 1 << 16, (1 << 31) - 1, 1 << 32, (1 << 62) + 1)
SIGNED = (*NUMBERS, *(-n for n in NUMBERS), -(1 << 63))
REALS = (0.0, 1.0, -1.0, 0.5, 1e-45, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan"), 1e30, 1e-30)
WORDS = ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "linear", "nearest", "cubic", "reflect", "edge", "CRD",
         "wrap", "align_corners", "asymmetric", "half_pixel", "tf_crop_and_resize", "floor", "ceil", "tanh",
         "", "\x00")  # fmt: skip
NAMES = ("axis", "axes", "pads", "strides", "dilations", "kernel_shape", "group", "auto_pad", "ceil_mode",
         "keepdims", "mode", "to", "perm", "split", "alpha", "beta", "transA", "transB", "blocksize", "epsilon",
         "output_padding",
         "count_include_pad", "coordinate_transformation_mode", "output_shape", "num_outputs",
         "block_size")  # fmt: skip
OPERATORS = sorted(TRANSLATED | FOLDS)


class Model:
    """Collects an ONNX model; values are named by their makers."""

    def __init__(self, *shape: int, kind: int = TensorProto.FLOAT) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.input = helper.make_tensor_value_info("x", kind, shape)
        self.rng = np.random.default_rng(5)

    def constant(self, value: Array) -> str:
        """A constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def real(self, *shape: int) -> str:
        """A constant of random reals."""
        return self.constant(self.rng.normal(size=shape).astype(np.float32))

    def ints(self, *values: int) -> str:
        """A constant of int64."""
        return self.constant(np.array(values, np.int64))

    def node(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """A node; returns its first output."""
        names = [f"t{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        made = helper.make_node(op, inputs, names, f"node{len(self.nodes)}", domain=domain, **attributes)
        self.nodes.append(made)
        return names[0]

    def bytes(self, *outputs: str, opset: int = 17) -> bytes:
        """The file; outputs have the shape that onnx infers, else any."""
        graph = helper.make_graph(
            self.nodes, "seed", [self.input], [helper.make_empty_tensor_value_info(o) for o in outputs], self.constants
        )
        domains = sorted({n.domain for n in self.nodes} - {""})
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = 8
        model = onnx.shape_inference.infer_shapes(model)
        for port in model.graph.output:
            if not port.type.tensor_type.HasField("shape"):
                # Behind operators that onnx does not know; the checker wants a shape, any.
                port.CopyFrom(helper.make_tensor_value_info(port.name, TensorProto.FLOAT, ["n"]))
        return bytes(model.SerializeToString())


def layers() -> bytes:
    """Convolutions, pools, a normalisation, a resize, a dense layer, softmax."""
    m = Model(1, 4, 6, 6)
    t = m.node("Conv", "x", m.real(6, 4, 3, 3), m.real(6), pads=[1, 1, 1, 1])
    s, b, mean = m.real(6), m.real(6), m.real(6)
    t = m.node("BatchNormalization", t, s, b, mean, m.constant(np.full(6, 0.5, np.float32)))
    t = m.node("PRelu", t, m.real(6, 1, 1))
    t = m.node("Conv", t, m.real(6, 1, 3, 3), group=6, auto_pad="SAME_UPPER", strides=[2, 2])
    t = m.node("Clip", t, m.constant(np.float32(0)), m.constant(np.float32(6)))
    t = m.node("ConvTranspose", t, m.real(6, 3, 2, 2), m.real(3), strides=[2, 2])
    t = m.node("MaxPool", t, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    t = m.node("AveragePool", t, kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1)
    t = m.node("Resize", t, "", "", m.ints(1, 3, 6, 6), mode="linear")
    t = m.node("Flatten", t)
    t = m.node("Gemm", t, m.real(5, 108), m.real(5), transB=1)
    return m.bytes(m.node("Softmax", t, axis=1))


def shapes() -> bytes:
    """Shapes computed from shapes, and everything that moves values."""
    m = Model(1, 4, 6, 4)
    t = m.node("Gather", m.node("Shape", "x"), m.ints(1))
    t = m.node("Concat", m.ints(-1), t, axis=0)
    t = m.node("Reshape", "x", t)
    t = m.node("Pad", t, m.ints(1, 0, 1, 2), m.constant(np.float32(0.5)))
    t = m.node("Slice", t, m.ints(0, -1), m.ints(20, -7), m.ints(0, 1), m.ints(2, -2))
    t = m.node("Transpose", t, perm=[1, 0])
    split = m.node("Split", t, m.ints(1, 2), outputs=2, axis=0)
    t = m.node("Concat", split, f"{split}_1", axis=0)
    t = m.node("Unsqueeze", t, m.ints(0, 1))
    t = m.node("SpaceToDepth", m.node("Gather", t, m.ints(0, 1), axis=2), blocksize=2)
    t = m.node("DepthToSpace", t, blocksize=2, mode="CRD")
    t = m.node("ReduceMean", t, axes=[2], keepdims=0)
    t = m.node("Squeeze", t, m.ints(0, 1))
    top = m.node("TopK", t, m.ints(2), outputs=2)
    return m.bytes(m.node("ArgMax", top, axis=-1, keepdims=0), f"{top}_1")


def points() -> bytes:
    """Elementwise operators, broadcasting, products."""
    m = Model(1, 3, 4)
    t = "x"
    for op in ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Exp", "Sqrt", "Abs", "Neg"):
        t = m.node(op, t)
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
        t = m.node(op, t, m.real(3, 1))
    t = m.node("Sum", t, "x", m.node("Pow", "x", m.constant(np.float32(2))))
    t = m.node("MatMul", m.node("MatMul", t, m.real(4, 3)), t)
    t = m.node("Cast", m.node("Dropout", m.node("Identity", t)), to=1)
    return m.bytes(m.node("LogSoftmax", t, axis=-1), m.node("ReduceSum", t, m.ints(1)))


def qdq() -> bytes:
    """QuantizeLinear and DequantizeLinear around a convolution, a sum and a dense layer."""
    m = Model(1, 4, 5, 5)

    def both(value: str, scale: float, zero: int) -> str:
        s, z = m.constant(np.float32(scale)), m.constant(np.array(zero, np.int8))
        return m.node("DequantizeLinear", m.node("QuantizeLinear", value, s, z), s, z)

    def weights(shape: tuple[int, ...], dtype: str, scale: float, channels: int = 0) -> str:
        data = m.constant(m.rng.integers(-100, 100, shape).astype(dtype))
        scales = np.full(channels, scale, np.float32) if channels else np.float32(scale)
        zeros = np.zeros(channels or (), dtype)
        return m.node("DequantizeLinear", data, m.constant(scales), m.constant(zeros), axis=0)

    x = both("x", 0.5, 3)
    t = m.node("Conv", x, weights((4, 4, 3, 3), "int8", 0.25, 4), weights((4,), "int32", 0.125, 4), pads=[1] * 4)
    t = both(m.node("Relu", t), 0.25, -128)
    t = both(m.node("Add", t, x), 0.5, 0)
    t = both(m.node("Reshape", m.node("GlobalAveragePool", t), m.ints(1, 4)), 0.5, 0)
    return m.bytes(both(m.node("Gemm", t, weights((3, 4), "int8", 0.25), transB=1), 0.5, 1))


def qoperators() -> bytes:
    """QLinearConv, QLinearMatMul and onnxruntime's own quantised operators."""
    m = Model(1, 2, 4, 4)

    def scale(value: float, zero: int = 0) -> tuple[str, str]:
        return m.constant(np.float32(value)), m.constant(np.array(zero, np.uint8))

    def data(*shape: int) -> str:
        return m.constant(m.rng.integers(0, 255, shape).astype(np.uint8))

    a, b, c, w = scale(0.5, 7), scale(0.25), scale(0.125, 200), scale(0.01, 128)
    t = m.node("QuantizeLinear", "x", *a)
    t = m.node("QLinearConv", t, *a, data(3, 2, 3, 3), *w, *b, m.constant(np.arange(3, dtype=np.int32)))
    ms = "com.microsoft"
    t = m.node("QLinearAdd", t, *b, t, *b, *c, domain=ms)
    t = m.node("QLinearLeakyRelu", t, *c, *b, domain=ms, alpha=0.1)
    t = m.node("QLinearConcat", *c, t, *b, t, *b, domain=ms, axis=1)
    t = m.node("QLinearGlobalAveragePool", t, *c, *b, domain=ms)
    t = m.node("Flatten", t)
    t = m.node("QLinearMatMul", t, *b, data(6, 4), *w, *c)
    t = m.node("QGemm", t, *c, data(4, 4), *w, m.constant(np.arange(4, dtype=np.int32)), *b, domain=ms)
    return m.bytes(m.node("DequantizeLinear", m.node("QLinearSigmoid", t, *b, *c, domain=ms), *c))


SEEDS: dict[str, Callable[[], bytes]] = {
    "layers": layers, "shapes": shapes, "points": points, "qdq": qdq, "qoperators": qoperators,
}  # fmt: skip


def damaged(data: bytes, seed: int, edits: int | None = None) -> bytes:
    """Return the model with one to four of its fields changed; the bytes as they are when they are no model."""
    rng = random.Random(seed)
    try:
        model = onnx.load_model_from_string(data)
    except Exception:
        return data
    for _ in range(edits or rng.randint(1, 4)):
        graph = model.graph
        kind = rng.choice((_node, _node, _node, _attribute, _attribute, _tensor, _tensor, _port, _order))
        try:
            kind(graph, rng)
        except Exception:  # The model may be damaged beyond this edit already.
            continue
        if rng.random() < 0.05 and model.opset_import:
            rng.choice(list(model.opset_import)).version = rng.choice((1, 6, 7, 9, 10, 11, 12, 13, 18, 19, 21, 23, 99))
    return bytes(model.SerializeToString())


def _values(graph: Any) -> Sequence[str]:
    names = [n for node in graph.node for n in (*node.input, *node.output)]
    return ["", *names, *(t.name for t in graph.initializer), *(p.name for p in graph.input)]


def _node(graph: Any, rng: random.Random) -> None:
    node = rng.choice(list(graph.node))
    what = rng.randrange(6)
    if what == 0:
        node.op_type = rng.choice(OPERATORS)
    elif what == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(_values(graph))
    elif what == 2:
        node.input.append(rng.choice(_values(graph)))
    elif what == 3 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif what == 4:
        node.output.append(rng.choice(("", f"new{rng.randrange(9)}")))
    elif node.output:
        graph.output.add().name = rng.choice(list(node.output))


def _attribute(graph: Any, rng: random.Random) -> None:
    nodes = [n for n in graph.node if n.attribute]
    if not nodes or rng.random() < 0.2:
        node = rng.choice(list(graph.node))
        value = rng.choice(([rng.choice(SIGNED) for _ in range(rng.randrange(1, 5))], rng.choice(SIGNED[:40])))
        node.attribute.append(helper.make_attribute(rng.choice(NAMES), value))
        return
    node = rng.choice(nodes)
    attribute = rng.choice(list(node.attribute))
    what = rng.randrange(8)
    if what == 0:
        node.attribute.remove(attribute)
    elif what == 1:
        attribute.name = rng.choice(NAMES)
    elif attribute.type == onnx.AttributeProto.INTS:
        if what < 5 and attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(SIGNED)
        elif what == 5:
            attribute.ints.append(rng.choice(SIGNED))
        else:
            del attribute.ints[-1]
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = rng.choice(SIGNED)
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice(REALS)
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = rng.choice(WORDS).encode()


def _tensor(graph: Any, rng: random.Random) -> None:
    tensor = rng.choice(list(graph.initializer))
    what = rng.randrange(7)
    if what == 0:
        tensor.data_type = rng.randrange(25)
    elif what == 1 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIGNED)
    elif what == 2:
        tensor.dims.append(rng.choice((0, 1, 1, 2)))
    elif what == 3 and tensor.dims:
        del tensor.dims[-1]
    else:
        value = numpy_helper.to_array(tensor).copy()
        if what == 4:
            kind = rng.choice((np.int64, np.int32, np.float32, np.float64, np.int8, np.uint8, bool))
            with np.errstate(all="ignore"):
                value = value.astype(kind)
        elif what == 5:
            value = np.resize(value, [rng.randrange(4) for _ in range(rng.randrange(4))]).astype(value.dtype)
        elif value.size:
            pool = REALS if value.dtype.kind == "f" else SIGNED
            with np.errstate(all="ignore"):
                value.flat[rng.randrange(value.size)] = np.array(rng.choice(pool)).astype(value.dtype)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _port(graph: Any, rng: random.Random) -> None:
    kind = rng.choice(list(graph.input)).type.tensor_type
    what = rng.randrange(5)
    if what == 0:
        kind.elem_type = rng.randrange(25)
    elif what == 1:
        kind.shape.dim.add().dim_value = rng.choice(NUMBERS)
    elif what == 2:
        del kind.shape.dim[-1]
    else:
        rng.choice(list(kind.shape.dim)).dim_value = rng.choice(SIGNED)


def _order(graph: Any, rng: random.Random) -> None:
    at = rng.randrange(len(graph.node))
    if rng.random() < 0.5:
        node = onnx.NodeProto()
        node.CopyFrom(graph.node[at])
        for i in range(len(node.output)):
            node.output[i] += "_again"
        graph.node.append(node)
    else:
        del graph.node[at]
