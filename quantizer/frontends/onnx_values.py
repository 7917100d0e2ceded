"""What the ONNX frontend builds with: values under a layout, constants, nodes.

ONNX images are channels-first; ours are channels-last. Each ONNX value is kept under a layout that says how its
stored tensor is to be read, so that transposes are written only where the order of elements must really change.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.ir import Attrs, DType, Graph, Node, QParams, TensorType
from intaglio.quantizer.ops.reshape import ReshapeAttrs
from intaglio.quantizer.ops.transpose import TransposeAttrs

MAX_ELEMENTS = 1 << 26
"""No tensor of a model for a microcontroller has more; a larger one is a malformed or hostile file."""

MAX_CONSTANT_BYTES = 1 << 28
"""What may be made of the constants of a file, in all: a layer that reads weights holds them in its own order."""

Array = NDArray[Any]

REALS = ("float16", "float32", "float64")
"""numpy's names of the types that count as real; what onnx adds to them (bfloat16, float8...) is refused."""


class Layout(StrEnum):
    """How a stored tensor is read."""

    PLAIN = "plain"
    """As ONNX has it."""
    LAST = "channels-last"
    """ONNX (N, C, H, W) or (N, C, L), stored (N, H, W, C) or (N, 1, L, C)."""
    FLAT = "flat"
    """ONNX (N, C * H * W), stored as the flattened (N, H, W, C) image."""


@dataclass(frozen=True)
class Value:
    """A computed ONNX value.

    Attributes:
        tensor: name of our tensor.
        shape: as ONNX has it.
        layout: of the stored tensor.
        image: the stored (H, W, C) behind a FLAT value.
    """

    tensor: str
    shape: tuple[int, ...]
    layout: Layout = Layout.PLAIN
    image: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Constant:
    """A constant ONNX value: integers with `qparams` when it stands behind a DequantizeLinear."""

    data: Array
    qparams: QParams | None = None


@dataclass
class Builder:
    """Collects a graph while ONNX nodes are translated one after the other.

    Attributes:
        where: the file, for messages.
        values, constants: of ONNX names.
        made: bytes of constants that have been made so far.
    """

    where: str
    values: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    stored: dict[str, Array] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    source: str = ""
    node_name: str = ""
    made: int = 0
    _labels: set[str] = field(default_factory=set)
    _numbers: dict[str, int] = field(default_factory=dict)

    def fail(self, what: str, hint: str) -> UnsupportedError:
        """An error at the node that is being translated."""
        name = f" '{self.node_name}'" if self.node_name else ""
        return UnsupportedError(f"{self.where}: {self.source}{name}", what, hint)

    def spend(self, size: int) -> None:
        """Take the bytes of a constant that is about to be made off what the file may make.

        Raises:
            UnsupportedError: no more are left.
        """
        self.made += size
        if self.made > MAX_CONSTANT_BYTES:
            raise self.fail("makes constants larger than any microcontroller", "export the model again")

    def value(self, name: str) -> Value:
        """A computed value; a constant becomes one in plain layout.

        Raises:
            UnsupportedError: a constant has several scales.
        """
        if name not in self.values:
            constant = self.constant(name)
            if constant.qparams is not None and len(constant.qparams.scale) > 1:
                raise self.fail(f"'{name}' has {len(constant.qparams.scale)} scales", "only weights and biases may")
            tensor = self.add_constant(name, constant.data, constant.qparams)
            self.values[name] = Value(tensor, tuple(constant.data.shape))
        return self.values[name]

    def constant(self, name: str) -> Constant:
        """A constant.

        Raises:
            UnsupportedError: the value is computed at run time.
        """
        if name not in self.constants:
            raise self.fail(f"'{name}' is computed at run time", "it must be a constant of the model")
        return self.constants[name]

    def add_constant(self, name: str, data: Array, qparams: QParams | None = None) -> str:
        """Store a constant tensor; reals as float32. Returns its name."""
        self.spend(data.nbytes)
        if data.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):
                data = data.astype(np.float32)
            if not np.all(np.isfinite(data)):
                raise self.fail(f"constant '{name}' holds NaN, infinity or more than binary32", "repair the weights")
        tensor = self._unused(name or "constant", self.types)
        self.types[tensor] = TensorType(DType(str(data.dtype)), tuple(data.shape), qparams)
        self.stored[tensor] = np.asarray(data, order="C")
        return tensor

    def emit(
        self,
        op: str,
        attrs: Attrs,
        inputs: Sequence[str],
        name: str | Sequence[str],
        kind: TensorType | Sequence[TensorType] | None = None,
    ) -> list[str]:
        """Append a node.

        Args:
            inputs: our tensors; "" for an absent one.
            name: wanted name of the output, or of each.
            kind: dtype and scale of the outputs (their shapes are ignored); FLOAT32, or that of input 0 when it is
                quantised, when not given.

        Returns:
            The outputs' tensors.
        """
        names = [name] if isinstance(name, str) else list(name)
        label = self._unused(self.node_name or names[0], self._labels)
        self._labels.add(label)
        outs: list[str] = []
        for wanted in names:
            outs.append(self._unused(wanted, self.types, outs))
        node = Node(op, label, tuple(inputs), tuple(outs), attrs, source=self.source)
        try:
            shapes = ops.operator(op, str(node)).infer(node, [self.types.get(i) for i in inputs])
        except UnsupportedError as error:
            raise self.fail(error.what, error.hint) from error
        if kind is None:
            first = self.types[inputs[0]]
            kind = first if first.qparams is not None or not first.dtype.is_float else TensorType(DType.FLOAT32, ())
        kinds = [kind] * len(outs) if isinstance(kind, TensorType) else list(kind)
        for out, shape, k in zip(outs, shapes, kinds, strict=True):
            if prod(shape) > MAX_ELEMENTS or any(d <= 0 for d in shape):
                raise self.fail(f"output of shape {list(shape)}", "no microcontroller holds such a tensor")
            self.types[out] = TensorType(k.dtype, tuple(shape), k.qparams)
        self.nodes.append(node)
        return outs

    def _unused(self, base: str, *taken: Container[str]) -> str:
        """base, or base_2, base_3, ..., whichever is not taken; numbers once given are not tried again."""
        name, number = base, self._numbers.get(base, 2)
        while any(name in names for names in taken):
            name = f"{base}_{number}"
            number += 1
        self._numbers[base] = number
        return name

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Stored shape of a tensor of ours."""
        return self.types[tensor].shape

    def reshaped(self, tensor: str, shape: Sequence[int]) -> str:
        """The tensor under another shape."""
        if tuple(shape) == self.shape(tensor):
            return tensor
        return self.emit("Reshape", ReshapeAttrs(tuple(shape)), [tensor], f"{tensor}/reshape")[0]

    def transposed(self, tensor: str, perm: Sequence[int]) -> str:
        """The tensor with its axes permuted: a Reshape when only axes of size 1 move."""
        shape = self.shape(tensor)
        target = [shape[p] for p in perm]
        moved = [p for p in perm if shape[p] != 1]
        if moved == sorted(moved):
            return self.reshaped(tensor, target)
        return self.emit("Transpose", TransposeAttrs(tuple(perm)), [tensor], f"{tensor}/transpose")[0]

    def plain(self, name: str) -> str:
        """The tensor of a value in ONNX's own order."""
        value = self.value(name)
        if value.layout is Layout.LAST:
            first = self.transposed(value.tensor, (0, 3, 1, 2))
            return self.reshaped(first, value.shape)
        if value.layout is Layout.FLAT:
            assert value.image is not None
            image = self.reshaped(value.tensor, (1, *value.image))
            return self.reshaped(self.transposed(image, (0, 3, 1, 2)), value.shape)
        return value.tensor

    def last(self, name: str) -> str:
        """The tensor of an image (N, C, H, W) or (N, C, L), channels last and of rank 4."""
        value = self.value(name)
        if value.layout is Layout.LAST:
            return value.tensor
        if len(value.shape) not in (3, 4):
            raise self.fail(f"'{name}' has shape {list(value.shape)}", "an image of 1 or 2 dimensions is needed")
        n, c, h, w = image_shape(value.shape)
        return self.transposed(self.reshaped(self.plain(name), (n, c, h, w)), (0, 2, 3, 1))

    def set(
        self,
        name: str,
        tensor: str,
        shape: Sequence[int],
        layout: Layout = Layout.PLAIN,
        image: tuple[int, int, int] | None = None,
    ) -> None:
        """Give an ONNX name its value."""
        self.values[name] = Value(tensor, tuple(shape), layout, image)

    def set_image(self, name: str, tensor: str, rank: int) -> None:
        """Give an ONNX name a channels-last tensor (N, H, W, C) as its value."""
        n, h, w, c = self.shape(tensor)
        self.set(name, tensor, (n, c, h, w) if rank == 4 else (n, c, w), Layout.LAST)

    def set_like(self, name: str, tensor: str, like: Value) -> None:
        """Give an ONNX name a tensor that is laid out as another value."""
        self.set(name, tensor, like.shape, like.layout, like.image)

    def graph(self, name: str, outputs: Sequence[str]) -> Graph:
        """The finished graph."""
        return Graph(
            name=name,
            nodes=tuple(self.nodes),
            types=self.types,
            constants=self.stored,
            inputs=tuple(self.inputs),
            outputs=tuple(outputs),
        )


def image_shape(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """(N, C, H, W) of an image of one or two dimensions."""
    return (shape[0], shape[1], 1, shape[2]) if len(shape) == 3 else (shape[0], shape[1], shape[2], shape[3])


def stored_axis(value: Value, axis: int) -> int:
    """The axis of the stored tensor that an ONNX axis became."""
    rank = len(value.shape)
    axis = axis + rank if axis < 0 else axis
    if value.layout is not Layout.LAST:
        return axis
    return {4: (0, 3, 1, 2), 3: (0, 3, 2)}[rank][axis]
