"""ONNX in: opset 7 to the newest; float, QDQ and QOperator models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.quantizer.errors import IntaglioError, ModelError, UnsupportedError
from intaglio.quantizer.frontends.onnx_admission import parse, place
from intaglio.quantizer.frontends.onnx_folds import array, attribute, fold, short
from intaglio.quantizer.frontends.onnx_layers import LAYERS, Attributes, Translator
from intaglio.quantizer.frontends.onnx_points import POINTS, softmaxes
from intaglio.quantizer.frontends.onnx_qdq import QDQ, settle_quantised
from intaglio.quantizer.frontends.onnx_qlinear import QLINEAR
from intaglio.quantizer.frontends.onnx_resize import RESIZE
from intaglio.quantizer.frontends.onnx_shapes import SHAPES
from intaglio.quantizer.frontends.onnx_values import MAX_ELEMENTS, REALS, Builder, Constant, Layout, image_shape
from intaglio.quantizer.ir import DType, Graph, TensorType

OLDEST_OPSET = 7

_SPATIAL = frozenset(
    (
        *("Conv", "ConvTranspose", "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "QLinearConv"),
        *("BatchNormalization", "Resize", "Upsample", "QLinearAveragePool", "QLinearGlobalAveragePool"),
        *("SpaceToDepth", "DepthToSpace"),
    )
)
"""Operators that make an input an image; through the others in between, elementwise ones, it is looked for."""

_THROUGH = frozenset((*POINTS, "QuantizeLinear", "DequantizeLinear", "Pad"))


def load(path: Path) -> Graph:
    """Read an ONNX model file: see `read`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(str(path), f"cannot be read ({error.strerror})", "check the path") from error
    return read(data, str(path), path.stem)


def read(data: bytes, where: str, name: str) -> Graph:
    """Read an ONNX model.

    Rank-4 inputs that are images (N, C, H, W) become (N, H, W, C); a dynamic batch becomes 1.

    Args:
        data: the file's content.
        where: the file, for messages.
        name: of the graph.

    Returns:
        A graph of contract `onnx` when it is quantised, of none when it is real.

    Raises:
        ModelError: not an ONNX model, or malformed.
        UnsupportedError: an operator, type or shape outside the limits; names the node.
        IntaglioError: the `onnx` package is missing.
    """
    builder, outputs = translate(data, where)
    return settle_quantised(builder.graph(name, outputs).pruned(), where)


def translate(data: bytes, where: str) -> tuple[Builder, list[str]]:
    """Translate an ONNX model, marks of quantisation included.

    Args, Raises: as `read`.

    Returns:
        What was built, with the tensor and the layout of every ONNX value; the tensors of the graph's outputs.
    """
    try:
        import onnx
        import onnx.shape_inference
    except ImportError:
        raise ModelError(where, "ONNX models need the onnx package", "pip install 'intaglio[onnx]'") from None
    model = parse(data, where, TRANSLATED, onnx)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise UnsupportedError(where, f"opset {opset}", f"export the model with opset {OLDEST_OPSET} or newer")
    table = translators(opset)
    builder = Builder(where)
    for tensor in model.graph.initializer:
        builder.constants[tensor.name] = Constant(array(where, tensor, onnx))
    _inputs(builder, model.graph)
    for index, node in enumerate(model.graph.node):
        _node(builder, table, model, index, node, onnx)
    return builder, [_output(builder, output.name) for output in model.graph.output]


def translators(opset: int) -> dict[str, Translator]:
    """Operators that can be computed at run time."""
    return {**LAYERS, **SHAPES, **POINTS, **softmaxes(opset), **QDQ, **QLINEAR, **RESIZE}


TRANSLATED = frozenset(translators(OLDEST_OPSET))


def _inputs(b: Builder, graph: Any) -> None:
    images = _images(graph)
    for port in graph.input:
        if port.name in b.constants:
            continue
        kind = port.type.tensor_type
        if not port.type.HasField("tensor_type") or not kind.HasField("shape"):
            raise UnsupportedError(f"{b.where}: input '{port.name}'", "no tensor of known shape", "export it with one")
        shape = []
        for axis, dim in enumerate(kind.shape.dim):
            size = dim.dim_value if dim.HasField("dim_value") else 0
            if size <= 0:
                if axis:
                    named = dim.dim_param or "unknown"
                    raise UnsupportedError(
                        f"{b.where}: input '{port.name}'", f"axis {axis} is dynamic ({named})", "export fixed shapes"
                    )
                size = 1
            shape.append(size)
        dtype = _dtype(b.where, port.name, kind.elem_type)
        if int(np.prod(shape, dtype=object)) > MAX_ELEMENTS:
            raise UnsupportedError(f"{b.where}: input '{port.name}'", f"shape {shape}", "it fits no microcontroller")
        layout = Layout.PLAIN
        stored = tuple(shape)
        if len(shape) in (3, 4) and port.name in images:
            n, c, h, w = image_shape(shape)
            layout, stored = Layout.LAST, (n, h, w, c)
        b.types[port.name] = TensorType(dtype, stored)
        b.inputs.append(port.name)
        b.set(port.name, port.name, shape, layout)


def _dtype(where: str, name: str, code: int) -> DType:
    from onnx import TensorProto, helper

    try:
        kind = helper.tensor_dtype_to_np_dtype(code)
        return DType.FLOAT32 if str(kind) in REALS else DType(str(kind))
    except (KeyError, ValueError, TypeError):
        known = TensorProto.DataType.Name(code) if code in TensorProto.DataType.values() else code
        raise UnsupportedError(f"{where}: '{name}'", f"element type {known}", "use float or integers") from None


def _images(graph: Any) -> set[str]:
    """The values that reach a spatial operator, through elementwise ones or at once."""
    images: set[str] = set()
    for node in reversed(graph.node):
        through = node.op_type in _THROUGH and any(o in images for o in node.output)
        if through or node.op_type in _SPATIAL:
            images.update(node.input)
    return images


def _node(b: Builder, table: Mapping[str, Translator], model: Any, index: int, node: Any, onnx: Any) -> None:
    op = node.op_type
    where = place(b.where, index, node)
    b.source, b.node_name = f"{op} #{index}", node.name
    attributes: Attributes = {a.name: attribute(where, a, onnx) for a in node.attribute}
    if op == "Shape":
        shape = b.constants[node.input[0]].data.shape if node.input[0] in b.constants else b.value(node.input[0]).shape
        part = shape[attributes.get("start", 0) : attributes.get("end")]
        b.constants[node.output[0]] = Constant(np.array(part, np.int64))
        return
    known = [n for n in node.input if n]
    if all(n in b.constants and b.constants[n].qparams is None for n in known) and op != "DequantizeLinear":
        fold(b, where, node, model.opset_import, onnx)
        return
    ins, outs = list(node.input), list(node.output)
    for names in (ins, outs):
        while names and not names[-1]:
            names.pop()
    try:
        table[op](b, ins, outs, attributes)
    except IntaglioError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError, ArithmeticError) as error:
        # The checker knows types, not values: what slips through it is the file's fault, and said in one line.
        raise ModelError(where, f"is malformed ({short(error)})", "export the model again") from error


def _output(b: Builder, name: str) -> str:
    """The tensor of a graph output; an image stays channels-last."""
    if name in b.constants or name not in b.values:
        raise UnsupportedError(f"{b.where}: output '{name}'", "does not depend on the inputs", "remove it")
    b.source, b.node_name = f"output '{name}'", ""
    value = b.value(name)
    return value.tensor if value.layout is Layout.LAST else b.plain(name)
