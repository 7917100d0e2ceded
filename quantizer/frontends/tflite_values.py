"""What the translators of TFLite operators share: tensors as graph values, constants, emitted nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.errors import ModelError, UnsupportedError
from intaglio.quantizer.frontends.tflite_options import Options, read_options
from intaglio.quantizer.frontends.tflite_schema import Operator, SubGraph, Tensor
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, QParams, TensorType, Variable
from intaglio.quantizer.ops.accumulate import NO_CLAMP, RELU, Clamp

Array = NDArray[Any]
Kind = TypeVar("Kind", bound=Options)

MAX_ELEMENTS = 1 << 26
"""No tensor of a model for a microcontroller has more; a larger one is a malformed or hostile file."""

MAX_CONSTANT_BYTES = 1 << 26
"""Of all constants together, once expanded: buffers may be shared, so the file's size does not bound it."""

_ACTIVATIONS = {0: NO_CLAMP, 1: RELU, 2: Clamp(-1.0, 1.0), 3: Clamp(0.0, 6.0)}
_ACTIVATION_NAMES = {4: "TANH", 5: "SIGN_BIT"}


@dataclass(frozen=True, eq=False)
class Handle:
    """A resource tensor: the variable that it refers to."""

    variable: str


class Builder:
    """A graph under construction from one subgraph.

    Tensors are known by their number in the file; `names` maps them to the graph's names.

    Args:
        where: the file, for messages.
        graph: the subgraph to translate.
        others: all subgraphs, for CALL_ONCE.
    """

    def __init__(self, where: str, graph: SubGraph, others: Sequence[SubGraph] = ()) -> None:
        self.file = where
        self.subgraph = graph
        self.others = others
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, Array] = {}
        self.inputs: list[str] = []
        self.variables: dict[str, Variable] = {}
        self.handles: dict[int, Handle] = {}
        self.initial: dict[str, tuple[Array, TensorType]] = {}
        self.operator: Operator | None = None
        self._left = MAX_CONSTANT_BYTES
        self.names = _unique_names(graph.tensors)
        self._fresh = 0

    # Messages

    @property
    def where(self) -> str:
        """The operator that is being translated."""
        return f"{self.file}: {self.source}" if self.operator is not None else self.file

    @property
    def source(self) -> str:
        """As nodes name their origin."""
        return f"{self.operator.builtin} #{self.operator.index}" if self.operator is not None else ""

    def fail(self, what: str, hint: str = "convert the model again") -> ModelError:
        """The error about the current operator."""
        return ModelError(self.where, what, hint)

    def unsupported(self, what: str, hint: str = "see docs/operators.md") -> UnsupportedError:
        """The error about a limit that the current operator is outside of."""
        return UnsupportedError(self.where, what, hint)

    # Reading

    def options(self, kind: type[Kind]) -> Kind:
        """The current operator's options."""
        assert self.operator is not None
        return read_options(kind, self.operator, self.where)

    def clamp(self, activation: int) -> Clamp:
        """A fused activation."""
        if activation not in _ACTIVATIONS:
            name = _ACTIVATION_NAMES.get(activation, str(activation))
            raise self.unsupported(f"fused activation {name}", "NONE, RELU, RELU6 and RELU_N1_TO_1 are supported")
        return _ACTIVATIONS[activation]

    def input(self, position: int) -> int:
        """The tensor number of an input that must be there."""
        number = self.optional(position)
        if number is None:
            raise self.fail(f"input {position} is missing")
        return number

    def optional(self, position: int) -> int | None:
        """The tensor number of an optional input; None when it is absent."""
        assert self.operator is not None
        inputs = self.operator.inputs
        return inputs[position] if position < len(inputs) and inputs[position] >= 0 else None

    def output(self, position: int = 0) -> int:
        """The tensor number of an output."""
        assert self.operator is not None
        if position >= len(self.operator.outputs):
            raise self.fail(f"output {position} is missing")
        return self.operator.outputs[position]

    def name(self, number: int) -> str:
        """The graph's name of a tensor that holds a value; a constant of the file is made known."""
        name = self.names[number]
        if name not in self.types:
            self._load(self.subgraph.tensors[number])
        return name

    def type(self, number: int) -> TensorType:
        """The type of a tensor that holds a value."""
        return self.types[self.name(number)]

    def constant(self, number: int) -> Array | None:
        """The value of a constant; None of a computed tensor."""
        return self.constants.get(self.name(number))

    def real(self, number: int) -> str:
        """The graph's name of a tensor that a layer with real activations reads: hybrid weights are dequantised."""
        kind, value = self.type(number), self.constant(number)
        if value is None or kind.qparams is None:
            return self.name(number)
        name = f"{self.names[number]}:real"
        if name not in self.types:
            self.define(name, dequantised(value, kind.qparams))
        return name

    def integers(self, position: int, what: str) -> tuple[int, ...]:
        """An input that must be a short list of constant integers, such as axes or a shape."""
        value = self.constant(self.input(position))
        if value is None:
            raise self.unsupported(f"{what} computed at run time", "convert the model with constant shapes")
        if value.dtype.kind not in "iu" or value.size > 4096:
            raise self.fail(f"{what} of type {value.dtype}, {value.size} values")
        return tuple(int(v) for v in value.ravel())

    def integer(self, position: int, what: str) -> int:
        """An input that must be one constant integer."""
        values = self.integers(position, what)
        if len(values) != 1:
            raise self.fail(f"{what} {list(values)}, not one integer")
        return values[0]

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front.

        Raises:
            ModelError: the tensor has no such axis.
        """
        if not -rank <= axis < rank:
            raise self.fail(f"axis {axis} of a tensor of rank {rank}")
        return axis % rank

    def _load(self, tensor: Tensor) -> None:
        """Make a constant of the file known to the graph."""
        if tensor.data is None:
            raise ModelError(self.where, f"reads '{tensor.name}', which nothing makes", "convert the model again")
        where = f"{self.file}: tensor {tensor.index} '{tensor.name}'"
        shape = tensor.shape
        if any(d < 0 for d in shape) or prod(shape) > MAX_ELEMENTS:
            raise ModelError(where, f"shape {list(shape)}", "no microcontroller holds such a tensor")
        value = _decode(tensor, where)
        self.define(self.names[tensor.index], value, qparams(tensor, where))

    def define(self, name: str, value: Array, quantisation: QParams | None = None) -> None:
        """Add a constant.

        Args:
            value: of a dtype that `DType` has.
        """
        self._left -= value.nbytes
        if self._left < 0:
            raise self.unsupported(
                f"constants of more than {MAX_CONSTANT_BYTES >> 20} MB", "no microcontroller holds such a model"
            )
        if any(d == 0 for d in value.shape):
            raise self.unsupported(f"'{name}' is an empty tensor of shape {list(value.shape)}")
        self.types[name] = TensorType(DType(str(value.dtype)), value.shape, quantisation)
        self.constants[name] = value

    def fold(self, number: int, value: Array) -> None:
        """Give an output a value that is known now."""
        if value.size > MAX_ELEMENTS:
            raise self.fail(f"a constant of {value.size} elements")
        tensor = self.subgraph.tensors[number]
        self.define(self.names[number], value, qparams(tensor, f"{self.file}: tensor {number} '{tensor.name}'"))

    # Writing

    def emit(self, op: str, inputs: Sequence[str], outputs: Sequence[int], **attrs: Any) -> None:
        """Add a node whose outputs are tensors of the file.

        Args:
            inputs: names in the graph; "" where absent.
            attrs: fields of the operator's attributes.
        """
        kinds = []
        for number in outputs:
            tensor = self.subgraph.tensors[number]
            where = f"{self.file}: tensor {number} '{tensor.name}'"
            kinds.append((self.names[number], dtype(tensor, where), qparams(tensor, where)))
        self.emit_typed(op, inputs, kinds, **attrs)

    def emit_typed(
        self, op: str, inputs: Sequence[str], outputs: Sequence[tuple[str, DType, QParams | None]], **attrs: Any
    ) -> None:
        """Add a node.

        Args:
            outputs: (name, dtype, quantisation) of each; the shapes follow from the operator's rule.
        """
        operator = ops.operator(op, self.where)
        name = self._node_name(outputs[0][0] if outputs else f"{op}_{inputs[0]}")
        node = Node(
            op, name, tuple(inputs), tuple(n for n, _, _ in outputs), operator.attrs(**attrs), source=self.source
        )
        kinds = [self.types[n] if n else None for n in inputs]
        try:
            shapes = operator.infer(node, kinds)
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.file}: {error.where}", error.what, error.hint) from None
        for (out, kind, quantisation), shape in zip(outputs, shapes, strict=True):
            if out in self.types:
                raise self.fail(f"makes '{out}', which exists already")
            if prod(shape) > MAX_ELEMENTS or any(d <= 0 for d in shape):
                raise self.fail(f"output of shape {list(shape)}", "no microcontroller holds such a tensor")
            self.types[out] = TensorType(kind, tuple(shape), fitting(quantisation, tuple(shape), self.where))
        self.nodes.append(node)

    def fresh(self, base: str) -> str:
        """A tensor name of our own."""
        self._fresh += 1
        return f"{base}:part{self._fresh}"

    def _node_name(self, base: str) -> str:
        taken = {n.name for n in self.nodes[-64:]}
        return base if base not in taken else f"{base}#{len(self.nodes)}"

    def graph(self, name: str, outputs: Sequence[str], contract: Contract | None) -> Graph:
        """The graph as it stands."""
        return Graph(
            name=name,
            nodes=tuple(self.nodes),
            types=self.types,
            constants=self.constants,
            inputs=tuple(self.inputs),
            outputs=tuple(outputs),
            variables=self.variables,
            contract=contract,
        )


def _unique_names(tensors: Sequence[Tensor]) -> dict[int, str]:
    """A name for each tensor: LiteRT allows tensors to share a name and to have none."""
    count = Counter(t.name for t in tensors)
    names = {t.index: t.name for t in tensors if t.name and count[t.name] == 1}
    taken = set(names.values())
    for t in tensors:
        if t.index not in names:
            name = f"{t.name or 'tensor'}:{t.index}"
            while name in taken:
                name += "'"
            names[t.index] = name
            taken.add(name)
    return names


def dtype(tensor: Tensor, where: str) -> DType:
    """The graph's type of a tensor's elements; half precision becomes single, 4 bits become 8.

    Raises:
        UnsupportedError: strings, complex numbers, doubles and the like.
    """
    name = {"float16": "float32", "int4": "int8"}.get(tensor.type, tensor.type)
    try:
        return DType(name)
    except ValueError:
        raise UnsupportedError(where, f"elements of type {tensor.type}", "use float or integers") from None


def qparams(tensor: Tensor, where: str) -> QParams | None:
    """A tensor's quantisation; None when it has none, as far as the file says."""
    q = tensor.quantisation
    if q is None or tensor.type.startswith("float"):
        return None
    if any(s <= 0 for s in q.scale):
        raise ModelError(where, "a scale of zero", "convert the model again")
    if tensor.type in ("int4", "int8", "uint8", "int16", "uint16", "int32", "int64"):
        limits = np.iinfo("int8" if tensor.type == "int4" else tensor.type)
        if not all(limits.min <= z <= limits.max for z in q.zero_point):
            raise ModelError(where, f"a zero point outside {tensor.type}", "convert the model again")
    if len(q.scale) == 1:
        return QParams(q.scale, q.zero_point)
    # Converters of 2019 kept the axis of the weights in the bias, which has one axis only.
    axis = 0 if len(tensor.shape) == 1 else q.axis
    if not 0 <= axis < len(tensor.shape):
        raise ModelError(where, f"quantised along axis {q.axis}, shape {list(tensor.shape)}", "convert the model again")
    return fitting(QParams(q.scale, q.zero_point, axis), tensor.shape, where)


def fitting(quantisation: QParams | None, shape: tuple[int, ...], where: str) -> QParams | None:
    """Check that there are as many scales as channels.

    Raises:
        ModelError: there are not.
    """
    q = quantisation
    if q is not None and q.axis is not None and (q.axis >= len(shape) or len(q.scale) != shape[q.axis]):
        raise ModelError(
            where, f"{len(q.scale)} scales along axis {q.axis} of {list(shape)}", "convert the model again"
        )
    return q


def _decode(tensor: Tensor, where: str) -> Array:
    """A constant's values."""
    assert tensor.data is not None
    count = prod(tensor.shape)
    packed = tensor.type == "int4"
    stored = np.dtype("float16" if tensor.type == "float16" else dtype(tensor, where).value).newbyteorder("<")
    need = -(-count // 2) if packed else count * stored.itemsize
    if len(tensor.data) != need:
        raise ModelError(
            where,
            f"shape {list(tensor.shape)} needs {need} bytes, the buffer has {len(tensor.data)}",
            "export it again",
        )
    if packed:
        # Two elements a byte, the low half first, sign-extended.
        halves = np.stack([tensor.data << 4, tensor.data & 0xF0], axis=1).ravel()[:count].view(np.int8) >> 4
        return np.asarray(halves, np.int8).reshape(tensor.shape)
    values = tensor.data.view(stored) if tensor.data.flags.c_contiguous else tensor.data.copy().view(stored)
    if tensor.type == "bool":
        return np.asarray(tensor.data != 0).reshape(tensor.shape)
    return np.asarray(values.astype(dtype(tensor, where).numpy, copy=False)).reshape(tensor.shape)


def dequantised(value: Array, q: QParams) -> NDArray[np.float32]:
    """scale * (integer - zero_point) in binary32, as DEQUANTIZE computes it."""
    shape = [1] * value.ndim
    if q.axis is not None:
        shape[q.axis] = -1
    scale = np.array(q.scale, np.float32).reshape(shape)
    zero = np.array(q.zero_point, np.int32).reshape(shape)
    return np.asarray(scale * (value.astype(np.int32) - zero).astype(np.float32), np.float32)


def attributes(op: str, where: str, **fields: Any) -> Attrs:
    """The attributes of an operator, which is imported now."""
    return ops.operator(op, where).attrs(**fields)


Translator = Callable[[Builder], None]
"""Adds the current operator of a builder to its graph."""
