"""ONNX in: opset 7 to the newest; float, QDQ and QOperator models."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.quantizer.errors import IntaglioError, ModelError, UnsupportedError
from intaglio.quantizer.frontends.onnx_layers import LAYERS, Attributes, Translator
from intaglio.quantizer.frontends.onnx_points import POINTS, softmaxes
from intaglio.quantizer.frontends.onnx_qdq import QDQ, settle_quantised
from intaglio.quantizer.frontends.onnx_qlinear import QLINEAR
from intaglio.quantizer.frontends.onnx_shapes import SHAPES
from intaglio.quantizer.frontends.onnx_values import MAX_ELEMENTS, Builder, Constant, Layout, image_shape
from intaglio.quantizer.ir import DType, Graph, TensorType

OLDEST_OPSET = 7

RECURRENT = ("LSTM", "GRU", "RNN", "Scan", "Loop", "If")

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
    """Read an ONNX model.

    Rank-4 inputs that are images (N, C, H, W) become (N, H, W, C); a dynamic batch becomes 1.

    Raises:
        ModelError: not an ONNX model, or malformed.
        UnsupportedError: an operator, type or shape outside the limits.
        IntaglioError: the `onnx` package is missing.
    """
    try:
        import onnx
    except ImportError:
        raise ModelError(str(path), "ONNX models need the onnx package", "pip install 'intaglio[onnx]'") from None
    model = _parse(path, onnx)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise UnsupportedError(str(path), f"opset {opset}", f"export the model with opset {OLDEST_OPSET} or newer")
    table = {**LAYERS, **SHAPES, **POINTS, **softmaxes(opset), **QDQ, **QLINEAR}
    builder = Builder(str(path))
    _constants(builder, model.graph, onnx)
    _inputs(builder, model.graph)
    for index, node in enumerate(model.graph.node):
        _node(builder, table, model, index, node, onnx)
    outputs = [_output(builder, output.name) for output in model.graph.output]
    graph = builder.graph(path.stem, outputs).pruned()
    return settle_quantised(graph, str(path))


def _parse(path: Path, onnx: Any) -> Any:
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise ModelError(str(path), f"cannot be read ({error.strerror})", "check the path") from error
    except Exception as error:
        raise ModelError(str(path), f"is not an ONNX model ({_short(error)})", "export the model again") from error
    if any(t.data_location == 1 or t.external_data for t in model.graph.initializer):
        raise UnsupportedError(str(path), "weights lie in other files", "save the model as one file")
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise ModelError(str(path), f"is malformed: {_short(error)}", "export the model again") from error
    if model.functions:
        raise UnsupportedError(str(path), "holds functions of its own", "inline them with onnx.inliner")
    return model


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _constants(b: Builder, graph: Any, onnx: Any) -> None:
    for tensor in graph.initializer:
        b.constants[tensor.name] = Constant(_array(b.where, tensor, onnx))


def _array(where: str, tensor: Any, onnx: Any) -> np.ndarray[Any, np.dtype[Any]]:
    if int(np.prod([max(d, 0) for d in tensor.dims], dtype=object)) > MAX_ELEMENTS:
        raise ModelError(f"{where}: '{tensor.name}'", f"shape {list(tensor.dims)}", "no microcontroller holds that")
    try:
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise ModelError(f"{where}: '{tensor.name}'", f"is malformed ({_short(error)})", "export it again") from error
    if array.dtype.kind not in "iufb":
        raise UnsupportedError(f"{where}: '{tensor.name}'", f"type {array.dtype}", "integers and floats are supported")
    return array


def _inputs(b: Builder, graph: Any) -> None:
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
        if len(shape) in (3, 4) and _is_image(graph, port.name):
            n, c, h, w = image_shape(shape)
            layout, stored = Layout.LAST, (n, h, w, c)
        b.types[port.name] = TensorType(dtype, stored)
        b.inputs.append(port.name)
        b.set(port.name, port.name, shape, layout)


def _dtype(where: str, name: str, code: int) -> DType:
    from onnx import helper

    try:
        kind = helper.tensor_dtype_to_np_dtype(code)
        return DType.FLOAT32 if kind.kind == "f" else DType(str(kind))
    except (KeyError, ValueError, TypeError):
        raise UnsupportedError(f"{where}: '{name}'", f"element type {code}", "use float or integers") from None


def _is_image(graph: Any, name: str) -> bool:
    """Whether a value reaches a spatial operator through elementwise ones."""
    reached, names = {name}, [name]
    while names:
        current = names.pop()
        for node in graph.node:
            if current not in node.input:
                continue
            if node.op_type in _SPATIAL:
                return True
            if node.op_type in _THROUGH:
                fresh = [o for o in node.output if o not in reached]
                reached.update(fresh)
                names += fresh
    return False


def _node(b: Builder, table: Mapping[str, Translator], model: Any, index: int, node: Any, onnx: Any) -> None:
    op = node.op_type
    b.source, b.node_name = f"{op} #{index}", node.name
    where = f"{b.where}: {op} #{index}" + (f" '{node.name}'" if node.name else "")
    attributes: Attributes = {a.name: _attribute(where, a, onnx) for a in node.attribute}
    if op not in table and op not in ("Constant", "Shape", "ConstantOfShape", "Cast", "Size", "Range", "Expand"):
        _refuse(where, op, table, model, index)
    known = [n for n in node.input if n]
    if op == "Shape":
        shape = b.value(node.input[0]).shape
        b.constants[node.output[0]] = Constant(
            np.array(shape[attributes.get("start", 0) : attributes.get("end")], np.int64)
        )
        return
    if all(n in b.constants and b.constants[n].qparams is None for n in known) and op != "DequantizeLinear":
        _fold(b, where, node, model, onnx)
        return
    if op == "Cast":
        op = "Identity"
    if op not in table:
        raise UnsupportedError(where, "depends on values computed at run time", "re-export with constant shapes")
    ins = list(node.input)
    while ins and not ins[-1]:
        ins.pop()
    outs = list(node.output)
    while outs and not outs[-1]:
        outs.pop()
    try:
        table[op](b, ins, outs, attributes)
    except IntaglioError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError, ZeroDivisionError) as error:
        # The checker knows types, not values: what slips through it is the file's fault, and said in one line.
        raise ModelError(where, f"is malformed ({_short(error)})", "export the model again") from error


def _attribute(where: str, attribute: Any, onnx: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto):
        return _array(where, value, onnx)
    return value


def _refuse(where: str, op: str, table: Mapping[str, Translator], model: Any, index: int) -> None:
    nodes = model.graph.node
    around = " -> ".join(nodes[i].op_type for i in range(max(index - 1, 0), min(index + 2, len(nodes))))
    if op in RECURRENT:
        raise UnsupportedError(where, f"{op} is not supported yet (in {around})", "recurrent layers come later")
    near = ", ".join(get_close_matches(op, table, 3, 0.5)) or "see docs/operators.md"
    raise UnsupportedError(where, f"operator {op} is not supported (in {around})", f"nearest: {near}")


def _fold(b: Builder, where: str, node: Any, model: Any, onnx: Any) -> None:
    """Evaluate a node of constants with onnx's own reference implementation."""
    from onnx.reference import ReferenceEvaluator

    names = [n for n in dict.fromkeys(node.input) if n]
    feeds = {n: b.constants[n].data for n in names}
    bound = max([int(np.prod(np.abs(v.astype(object)))) for v in feeds.values() if v.size <= 8] or [0])
    if node.op_type in ("ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize") and bound > MAX_ELEMENTS:
        raise ModelError(where, "makes a constant larger than any microcontroller", "export the model again")
    ports = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in feeds.items()
    ]
    outs = [onnx.ValueInfoProto(name=o) for o in node.output if o]
    single = onnx.helper.make_model(
        onnx.helper.make_graph([node], "constant", ports, outs), opset_imports=model.opset_import
    )
    try:
        results: Any = ReferenceEvaluator(single).run(None, feeds)
    except Exception as error:
        raise ModelError(where, f"constant cannot be evaluated ({_short(error)})", "export it again") from error
    for name, result in zip([o for o in node.output if o], results, strict=True):
        b.constants[name] = Constant(np.asarray(result))


def _output(b: Builder, name: str) -> str:
    """The tensor of a graph output; an image stays channels-last."""
    if name in b.constants or name not in b.values:
        raise UnsupportedError(f"{b.where}: output '{name}'", "does not depend on the inputs", "remove it")
    b.source = f"output '{name}'"
    value = b.value(name)
    return value.tensor if value.layout is Layout.LAST else b.plain(name)
