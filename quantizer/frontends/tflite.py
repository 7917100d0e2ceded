"""TFLite in: int8, int16x8, uint8, float32 and hybrid models."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from intaglio.quantizer.errors import IntaglioError, ModelError, UnsupportedError
from intaglio.quantizer.frontends.tflite_cut import cut_ports
from intaglio.quantizer.frontends.tflite_folds import FOLDS, fold
from intaglio.quantizer.frontends.tflite_layers import LAYERS
from intaglio.quantizer.frontends.tflite_points import POINTS
from intaglio.quantizer.frontends.tflite_schema import Tensor, parse
from intaglio.quantizer.frontends.tflite_shapes import SHAPES
from intaglio.quantizer.frontends.tflite_state import STATE
from intaglio.quantizer.frontends.tflite_values import MAX_ELEMENTS, Builder, Translator, dtype, qparams
from intaglio.quantizer.ir import Contract, Graph, TensorType

TRANSLATORS: dict[str, Translator] = {**LAYERS, **POINTS, **SHAPES, **STATE}
"""Builtin operator to what adds it to the graph."""

RECURRENT = frozenset(
    (
        *("LSTM", "RNN", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"),
        *("BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "WHILE"),
    )
)


def load(path: Path) -> Graph:
    """Read a TFLite model file: see `read`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(str(path), f"cannot be read ({error.strerror})", "check the path") from error
    return read(data, str(path), path.stem)


def read(data: bytes, where: str, name: str) -> Graph:
    """Read a TFLite model.

    Float inputs that are quantised at once, and integer outputs that are dequantised at last, become integer
    ports. int8 weights of real-valued layers become real constants. A dynamic batch becomes 1.

    Args:
        data: the file's content.
        where: the file, for messages.
        name: of the graph.

    Returns:
        A graph of contract `tflite` when its activations are integers, of none when they are real.

    Raises:
        ModelError: not a TFLite model, or malformed; names the byte, tensor or operator.
        UnsupportedError: an operator, type or shape outside the limits.
    """
    subgraphs = parse(data, where)
    main = cut_ports(subgraphs[0], where)
    builder = Builder(where, main, subgraphs)
    _inputs(builder)
    for operator in main.operators:
        builder.operator = operator
        _operator(builder)
    builder.operator = None
    outputs = [_output(builder, number) for number in main.outputs]
    graph = builder.graph(name, outputs, None).pruned()
    return graph.with_(contract=_contract(graph, where))


def _operator(b: Builder) -> None:
    """Add the current operator to the graph, or give its outputs the values that are known."""
    assert b.operator is not None
    translate = TRANSLATORS.get(b.operator.builtin)
    if translate is None and b.operator.builtin not in FOLDS:
        raise _refusal(b)
    if fold(b):
        return
    if translate is None:
        raise b.unsupported("depends on values computed at run time", "convert the model with constant shapes")
    translate(b)


def _inputs(b: Builder) -> None:
    for number in b.subgraph.inputs:
        tensor = b.subgraph.tensors[number]
        where = f"{b.file}: input '{tensor.name}'"
        name = b.names[number]
        if name in b.types:
            raise ModelError(where, "is listed twice", "convert the model again")
        b.types[name] = TensorType(dtype(tensor, where), _port_shape(tensor, where), qparams(tensor, where))
        b.inputs.append(name)
    if not b.inputs or not b.subgraph.outputs:
        raise UnsupportedError(b.file, "has no input or no output", "convert the model with both")


def _port_shape(tensor: Tensor, where: str) -> tuple[int, ...]:
    """An input's shape; its first dimension may be dynamic and is then 1."""
    shape = []
    signature = tensor.signature if tensor.signature and len(tensor.signature) == len(tensor.shape) else tensor.shape
    for axis, (size, signed) in enumerate(zip(tensor.shape, signature, strict=True)):
        dynamic = signed < 0 or size <= 0
        if dynamic and axis:
            raise UnsupportedError(where, f"axis {axis} of {list(signature)} is dynamic", "convert with a fixed shape")
        shape.append(1 if dynamic else size)
        if shape[0] * size > MAX_ELEMENTS or (len(shape) > 1 and _elements(shape) > MAX_ELEMENTS):
            raise ModelError(where, f"shape {list(tensor.shape)}", "no microcontroller holds such a tensor")
    return tuple(shape)


def _elements(shape: list[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _output(b: Builder, number: int) -> str:
    tensor = b.subgraph.tensors[number]
    name = b.names[number]
    if name not in b.types:
        raise ModelError(f"{b.file}: output '{tensor.name}'", "nothing makes it", "convert the model again")
    if name in b.constants:
        raise UnsupportedError(f"{b.file}: output '{tensor.name}'", "does not depend on the inputs", "remove it")
    return name


def _refusal(b: Builder) -> IntaglioError:
    """The error about an operator that is not supported: its name, place, neighbours and the nearest names."""
    assert b.operator is not None
    op, index = b.operator.builtin, b.operator.index
    operators = b.subgraph.operators
    at = operators.index(b.operator)
    before = f"after {operators[at - 1].builtin} #{operators[at - 1].index}" if at else "first"
    after = f"before {operators[at + 1].builtin} #{operators[at + 1].index}" if at + 1 < len(operators) else "last"
    what = f"operator {op} (node {index}, {before}, {after}) is not supported"
    if op in RECURRENT:
        return b.unsupported(f"{what} yet", "recurrent layers come later")
    near = ", ".join(get_close_matches(op, TRANSLATORS, 3, 0.5))
    return b.unsupported(what, f"nearest: {near}" if near else "see docs/operators.md")


def _contract(graph: Graph, where: str) -> Contract | None:
    """`tflite` when the computed tensors are integers, None when they are real.

    Raises:
        UnsupportedError: there are both.
    """
    computed = [*graph.inputs, *(out for node in graph.nodes for out in node.outputs)]
    real = [name for name in computed if graph.types[name].dtype.is_float]
    scaled = [name for name in computed if graph.types[name].qparams is not None]
    if real and scaled:
        raise UnsupportedError(
            f"{where}: tensor '{real[0]}'", "is float in a quantised model", "quantise the whole model"
        )
    return None if real else Contract.TFLITE
