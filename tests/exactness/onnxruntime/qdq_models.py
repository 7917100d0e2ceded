"""ONNX models of one quantised layer, as QDQ or as a QOperator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


@dataclass(frozen=True)
class Quantised:
    """A quantised operand.

    Attributes:
        shape: as ONNX has it.
        scale: one, or one per index of `axis`.
        values: the integers of a constant; None for an input.
    """

    shape: tuple[int, ...]
    scale: Any
    zero: int = 0
    dtype: str = "int8"
    values: Array | None = None
    axis: int | None = None


@dataclass
class Model:
    """Collects the parts of a model."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def scale(self, label: Any, kind: Quantised) -> list[str]:
        """Scale and zero point as constants."""
        scale = np.asarray(kind.scale, np.float32)
        zero = np.full(scale.shape, kind.zero, kind.dtype)
        return [self.constant(f"s{label}", scale), self.constant(f"z{label}", zero)]

    def operand(self, label: int, kind: Quantised) -> list[str]:
        """The integers of an operand (an input `x0`, `x1`, ... is quantised), its scale and zero point."""
        ends = self.scale(label, kind)
        if kind.values is not None:
            return [self.constant(f"w{label}", kind.values), *ends]
        self.inputs.append(helper.make_tensor_value_info(f"x{label}", TensorProto.FLOAT, kind.shape))
        self.node("QuantizeLinear", [f"x{label}", *ends], f"q{label}")
        return [f"q{label}", *ends]

    def node(self, op: str, inputs: Sequence[str], out: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        return out

    def finished(self, last: str) -> onnx.ModelProto:
        # The checker wants a rank; every operator here keeps that of its first input.
        rank = len(self.inputs[0].type.tensor_type.shape.dim)
        output = helper.make_tensor_value_info(last, TensorProto.FLOAT, [None] * rank)
        graph = helper.make_graph(self.nodes, "layer", self.inputs, [output], self.constants)
        domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=domains, ir_version=10)


def qdq(
    op: str, operands: Sequence[Quantised | Array | None], out: Quantised | None, **attributes: Any
) -> onnx.ModelProto:
    """Every operand dequantised, the operator over the reals (value `y`, node `layer`), its result quantised.

    Args:
        operands: an array is a constant as it is; None an absent input.
        out: None when the operator's output stays real.
    """
    m = Model()
    names = []
    for i, operand in enumerate(operands):
        if isinstance(operand, Quantised):
            axis = {} if operand.axis is None else {"axis": operand.axis}
            names.append(m.node("DequantizeLinear", m.operand(i, operand), f"d{i}", **axis))
        else:
            names.append("" if operand is None else m.constant(f"c{i}", operand))
    m.node(op, names, "y", name="layer", **attributes)
    if out is None:
        return m.finished("y")
    ends = m.scale("y", out)
    m.node("QuantizeLinear", ["y", *ends], "qy")
    return m.finished(m.node("DequantizeLinear", ["qy", *ends], "dy"))


def qoperator(
    op: str, operands: Sequence[Quantised], out: Quantised, bias: Array | None = None, **attributes: Any
) -> onnx.ModelProto:
    """An operator on integers, node `layer`: each operand is followed by its scale and zero point."""
    m = Model()
    given = [name for i, operand in enumerate(operands) for name in m.operand(i, operand)]
    ends = m.scale("y", out)
    added = [] if bias is None else [m.constant("bias", bias)]
    names = {
        "QLinearConv": [*given, *ends, *added],
        "QGemm": [*given, *(added or [""]), *ends],
        "QLinearConcat": [*ends, *given],
    }.get(op, [*given, *ends])
    domain = "" if op in ("QLinearConv", "QLinearMatMul") else "com.microsoft"
    m.node(op, names, "qy", name="layer", domain=domain, **attributes)
    return m.finished(m.node("DequantizeLinear", ["qy", *ends], "dy"))
