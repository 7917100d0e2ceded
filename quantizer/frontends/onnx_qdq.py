"""QDQ models: QuantizeLinear and DequantizeLinear say what the integers of a tensor mean.

The nodes between a DequantizeLinear and a QuantizeLinear are evaluated over the reals by the specification; in
exact arithmetic, and rounded half to even by QuantizeLinear, they are the integer operators of contract `onnx`.
While nodes are translated, both appear as marks; `settle_quantised` then gives the tensors their integer types
and removes the marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intaglio.quantizer import ops
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.frontends.onnx_layers import Attributes, Translator
from intaglio.quantizer.frontends.onnx_values import Builder, Constant
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, QParams, TensorType
from intaglio.quantizer.ops.accumulate import NO_CLAMP, Clamp
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.ops.quantize import QuantizeAttrs

MARK = "mark"

ACTIVATIONS = ("int8", "uint8", "int16", "uint16")
"""Types that QuantizeLinear makes; int32 is for biases."""


@dataclass(frozen=True)
class MarkAttrs(Attrs):
    """A QuantizeLinear (`quantises`) or a DequantizeLinear between the real and the integer tensor."""

    quantises: bool


def scale_of(b: Builder, ins: Sequence[str], a: Attributes, dtype: DType | None) -> tuple[QParams, DType]:
    """Scale and zero point (inputs 1 and 2), and the integer type.

    Raises:
        UnsupportedError: blocked quantisation, an unsupported type, a scale that is not positive and finite.
    """
    if a.get("block_size", 0):
        raise b.fail("blocked quantisation", "quantise per tensor or per channel")
    scale = np.asarray(b.constant(ins[1]).data, np.float32)
    zero = b.constant(ins[2]).data if len(ins) > 2 and ins[2] else np.zeros(scale.shape, np.uint8)
    if len(ins) > 2 and ins[2] and dtype is None:
        if str(zero.dtype) not in ACTIVATIONS:
            raise b.fail(f"quantised type {zero.dtype}", f"{', '.join(ACTIVATIONS)} are supported")
        dtype = DType(str(zero.dtype))
    if scale.size == 0 or not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        raise b.fail("a scale that is not positive and finite", "quantise the model again")
    scales, zeros = scale.ravel(), np.broadcast_to(zero.ravel(), scale.ravel().shape)
    axis = None if scale.size == 1 else int(a.get("axis", 1))
    qparams = QParams(tuple(float(s) for s in scales), tuple(int(z) for z in zeros), axis)
    return qparams, dtype or DType.UINT8


def one_scale(b: Builder, qparams: QParams) -> QParams:
    """The parameters of a computed tensor.

    Raises:
        UnsupportedError: there are several.
    """
    if len(qparams.scale) != 1:
        raise b.fail(f"{len(qparams.scale)} scales for a computed tensor", "quantise activations per tensor")
    return qparams


def quantize(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    qparams, dtype = scale_of(b, ins, a, None)
    one_scale(b, qparams)
    value = b.value(ins[0])
    mark(b, value.tensor, outs[0], TensorType(dtype, b.shape(value.tensor), qparams), quantises=True)
    b.set_like(outs[0], outs[0], value)


def mark(b: Builder, tensor: str, out: str, kind: TensorType, *, quantises: bool) -> None:
    """Append a mark."""
    b.types[out] = kind
    b.nodes.append(Node(MARK, f"{MARK}/{out}", (tensor,), (out,), MarkAttrs(quantises), source=b.source))


def dequantize(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    if ins[0] in b.constants:
        data = b.constants[ins[0]].data
        qparams, _ = scale_of(b, ins, a, DType(str(data.dtype)))
        if qparams.axis is not None:
            axis = qparams.axis + data.ndim if qparams.axis < 0 else qparams.axis
            if not 0 <= axis < data.ndim or data.shape[axis] != len(qparams.scale):
                raise b.fail(f"{len(qparams.scale)} scales along axis {axis} of {list(data.shape)}", "re-export it")
            qparams = replace(qparams, axis=axis)
        b.constants[outs[0]] = Constant(data, qparams)
        return
    value = b.value(ins[0])
    qparams = one_scale(b, scale_of(b, ins, a, b.types[value.tensor].dtype)[0])
    known = b.types[value.tensor]
    if known.qparams is None:
        b.types[value.tensor] = replace(known, qparams=qparams)
    elif known.qparams != qparams:
        raise b.fail("dequantises with another scale than the tensor was quantised with", "quantise the model again")
    mark(b, value.tensor, outs[0], TensorType(DType.FLOAT32, b.shape(value.tensor)), quantises=False)
    b.set_like(outs[0], outs[0], value)


QDQ: dict[str, Translator] = {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}


def settle_quantised(graph: Graph, where: str) -> Graph:
    """Remove the marks of a quantised graph and give every tensor its integer type; a float graph is returned as is.

    Raises:
        UnsupportedError: a tensor stays real between quantised ones (a float island).
    """
    if not any(k.qparams is not None for k in graph.types.values()):
        return graph
    graph = _remove_marks(_fuse_clips(graph), where)
    types = _settle_backwards(graph)
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        node = _settle_node(graph.with_(types=types, constants=constants), node, types, constants, where)
        nodes.append(node)
    return graph.with_(nodes=tuple(nodes), types=types, constants=constants, contract=Contract.ONNX).pruned()


def _fuse_clips(graph: Graph) -> Graph:
    """Fuse Clip into the operator before it where the real tensor between them has no other reader.

    Exact: clipping commutes with the monotone rounding that follows.
    """
    consumers, producers = graph.consumers(), graph.producers()
    gone: dict[str, Node] = {}
    changed: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op != "Clip":
            continue
        x = node.inputs[0]
        before = producers.get(x)
        before = changed.get(before.name, before) if before else None
        alone = len(consumers.get(x, [])) == 1 and x not in graph.outputs
        if before is None or not alone or getattr(before.attrs, "clamp", None) != NO_CLAMP:
            continue
        clamp = Clamp(node.attrs.low, node.attrs.high)
        changed[before.name] = replace(before, attrs=replace(before.attrs, clamp=clamp), outputs=node.outputs)
        gone[node.name] = node
    nodes = tuple(changed.get(n.name, n) for n in graph.nodes if n.name not in gone)
    return graph.with_(nodes=nodes)


def _remove_marks(graph: Graph, where: str) -> Graph:
    consumers = graph.consumers()
    types = dict(graph.types)
    renamed: dict[str, str] = {}
    kept: list[Node] = []

    def resolve(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    for node in graph.nodes:
        if node.op != MARK:
            kept.append(replace(node, inputs=tuple(resolve(i) for i in node.inputs)))
            continue
        x, out = resolve(node.inputs[0]), node.outputs[0]
        if not node.attrs.quantises:
            renamed[out] = x
            continue
        if types[x].qparams is not None:
            if types[x].qparams == types[out].qparams and types[x].dtype == types[out].dtype:
                renamed[out] = x
            else:
                kept.append(Node("Quantize", node.name, (x,), (out,), QuantizeAttrs(), source=node.source))
            continue
        readers = [c for c in consumers.get(node.inputs[0], []) if c is not node]
        if any(c.op != MARK for c in readers) or node.inputs[0] in graph.outputs:
            raise UnsupportedError(
                f"{where}: {node.source}",
                f"'{node.inputs[0]}' is read both as real and as integers",
                "quantise every reader of that tensor",
            )
        # The real tensor is only ever seen through this mark: it becomes the integers.
        types[x] = types[out]
        renamed[out] = x
    outputs = tuple(resolve(o) for o in graph.outputs)
    return graph.with_(nodes=tuple(kept), types=types, outputs=outputs)


def _settle_backwards(graph: Graph) -> dict[str, TensorType]:
    """Types in which a real tensor that only one moving operator reads has the integers of that operator's output.

    Exact: rounding each value commutes with moving the values.
    """
    types, consumers = dict(graph.types), graph.consumers()
    for node in reversed(graph.nodes):
        op = ops.operator(node.op)
        if not (op.same_scale or op.alias) or len(node.outputs) != 1:
            continue
        after = types[node.outputs[0]]
        for name in graph.runtime_inputs(node):
            alone = len(consumers[name]) == 1 and name not in graph.outputs
            if types[name].dtype.is_float and after.qparams is not None and alone:
                types[name] = replace(types[name], dtype=after.dtype, qparams=after.qparams)
    return types


def _settle_node(graph: Graph, node: Node, types: dict[str, TensorType], constants: dict[str, Any], where: str) -> Node:
    """Give outputs that are still real the type that the operator implies, and constants integer values."""
    op = ops.operator(node.op, f"{where}: {node.source}")
    x = types[node.inputs[0]] if node.inputs else None
    for i, out in enumerate(node.outputs):
        if not types[out].dtype.is_float:
            continue
        dictated = op.output_qparams(context(graph, node))
        if x is not None and x.qparams is not None and (op.same_scale or op.alias or _bounded(node, x)):
            types[out] = replace(types[out], dtype=x.dtype, qparams=x.qparams)
        elif dictated is not None and x is not None and x.qparams is not None:
            types[out] = replace(types[out], dtype=x.dtype, qparams=_fit(dictated[i], x.dtype))
        else:
            raise UnsupportedError(
                f"{where}: {node.source}",
                f"'{out}' stays real between quantised tensors (a float island)",
                "quantise it too: QuantizeLinear and DequantizeLinear after this node",
            )
    _settle_constants(node, types, constants, where)
    return node


def _fit(qparams: QParams, dtype: DType) -> QParams:
    """Dictated scales are for int8; unsigned tensors have their zero point 128 higher."""
    if dtype is DType.UINT8:
        return replace(qparams, zero_point=tuple(z + 128 for z in qparams.zero_point))
    return qparams


def _bounded(node: Node, x: TensorType) -> bool:
    """A Clip whose bounds are integers of its input keeps the input's scale exactly."""
    if node.op != "Clip":
        return False
    bounds = [v / x.scale for v in (node.attrs.low, node.attrs.high) if v is not None]
    return all(v == round(v) for v in bounds)


def _settle_constants(node: Node, types: dict[str, TensorType], constants: dict[str, Any], where: str) -> None:
    """Biases take the accumulator's scale; other real operands are refused."""
    for position, name in enumerate(node.inputs):
        if name not in constants:
            continue
        kind = types[name]
        weighted = node.op in ("Conv2D", "DepthwiseConv2D", "FullyConnected", "TransposeConv2D") and position == 2
        if weighted:
            _settle_bias(node, name, types, constants, where)
        elif kind.dtype.is_float:
            raise UnsupportedError(
                f"{where}: {node.source}", f"operand '{name}' is real in a quantised model", "quantise it too"
            )


def _settle_bias(node: Node, name: str, types: dict[str, TensorType], constants: dict[str, Any], where: str) -> None:
    x, w, kind = types[node.inputs[0]], types[node.inputs[1]], types[name]
    if x.qparams is None or w.qparams is None:
        raise UnsupportedError(f"{where}: {node.source}", "weights are real in a quantised model", "quantise them")
    with np.errstate(over="ignore", under="ignore"):
        product = np.float32(x.scale) * np.array(w.qparams.scale, np.float32)
    if not np.all(np.isfinite(product)) or np.any(product <= 0):
        raise UnsupportedError(
            f"{where}: {node.source}", "input's times weights' scale leaves binary32", "quantise the model again"
        )
    if kind.dtype.is_float:
        real = constants[name].astype(np.float64)
        integers = np.rint(real / product.astype(np.float64))
        if np.any(np.abs(integers) >= 2**31):
            raise UnsupportedError(f"{where}: {node.source}", "a bias beyond int32", "quantise the model again")
        constants[name] = integers.astype(np.int32)
    elif kind.qparams is not None:
        given = np.broadcast_to(np.array(kind.qparams.scale, np.float32), product.shape)
        if any(kind.qparams.zero_point) or not np.all(np.abs(given - product) <= np.spacing(product)):
            raise UnsupportedError(
                f"{where}: {node.source}",
                "the bias's scale is not the product of input's and weights' scales",
                "quantise the model again",
            )
    axis = None if len(w.qparams.scale) == 1 else 0
    qparams = QParams(tuple(float(s) for s in product), (0,) * len(product), axis)
    types[name] = TensorType(DType(str(constants[name].dtype)), kind.shape, qparams)
