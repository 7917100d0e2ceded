"""The parts of a TFLite file that are used, as dataclasses.

Field numbers, type codes and operator codes are those of TensorFlow Lite's schema.fbs, version 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flatbuffers import number_types as numbers
from numpy.typing import NDArray

from intaglio.quantizer.errors import ModelError, UnsupportedError
from intaglio.quantizer.frontends.tflite_builtins import builtin_name
from intaglio.quantizer.frontends.tflite_reader import File, Table

IDENTIFIER = b"TFL3"

TENSOR_TYPES = (
    *("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8"),
    *("float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16"),
    *("int2", "uint4", "float8_e4m3fn", "float8_e5m2"),
)

MAX_RANK = 8

MAX_OPERANDS = 1024
"""Inputs and outputs of an operator."""


@dataclass(frozen=True)
class Quantisation:
    """scale and zero_point, one each or one per index of `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor as the file describes it.

    Attributes:
        index: within its subgraph.
        shape: as stored; signature: with -1 where a dimension is dynamic, or None.
        type: one of TENSOR_TYPES.
        data: bytes of a constant; None of a computed tensor.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    type: str
    data: NDArray[np.uint8] | None
    quantisation: Quantisation | None
    is_variable: bool


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator as the file describes it.

    Attributes:
        index: within its subgraph.
        builtin: name of the builtin, or "CUSTOM:name".
        inputs, outputs: tensor numbers; -1 is an absent optional input.
        options: the table of its options and its number in the union BuiltinOptions.
    """

    index: int
    builtin: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_type: int
    options: Table | None


@dataclass(frozen=True, eq=False)
class SubGraph:
    """A list of operators over a list of tensors."""

    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


def parse(data: bytes, where: str) -> tuple[SubGraph, ...]:
    """Read the subgraphs of a model; the first is the model, the others are called by it.

    Raises:
        ModelError: the file is not TFLite, or malformed; names the byte, tensor or operator.
        UnsupportedError: constants lie outside the file, or are sparse.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ModelError(where, "is not a TFLite model (no TFL3 at byte 4)", "give a file that the converter wrote")
    file = File(data, where)
    model = file.root()
    version = model.number(0, numbers.Uint32Flags)
    if version != 3:
        raise UnsupportedError(where, f"schema version {version}", "convert the model with TensorFlow 2")
    codes = [_code(table) for table in model.tables(1)]
    buffers = [_buffer(file, table) for table in model.tables(4)]
    graphs = []
    for number, table in enumerate(model.tables(2)):
        place = where if number == 0 else f"{where}, subgraph {number}"
        tensors = tuple(_tensor(place, i, t, buffers) for i, t in enumerate(table.tables(0)))
        operators = tuple(_operator(place, i, t, codes, len(tensors)) for i, t in enumerate(table.tables(3)))
        ports = [table.integers(field) or () for field in (1, 2)]
        for port in (p for side in ports for p in side if not 0 <= p < len(tensors)):
            raise ModelError(place, f"tensor {port} of {len(tensors)} is an input or output", "the file is damaged")
        graphs.append(SubGraph(tensors, ports[0], ports[1], operators))
    if not graphs:
        raise ModelError(where, "holds no subgraph", "export the model again")
    return tuple(graphs)


def _code(table: Table) -> str:
    # Codes above 126 did not fit into the first, deprecated field, which then holds a placeholder.
    code = max(table.number(0, numbers.Int8Flags), table.number(3, numbers.Int32Flags))
    name = builtin_name(code)
    return f"CUSTOM:{table.text(1)}" if name == "CUSTOM" else name


def _buffer(file: File, table: Table) -> NDArray[np.uint8] | None:
    """The bytes of a buffer, inside the FlatBuffer or after it; None when it is empty."""
    offset, size = (table.number(field, numbers.Uint64Flags) for field in (1, 2))
    if offset > 1:
        # Offsets 0 and 1 say "not used"; larger ones count from the start of the file.
        if offset + size > len(file.data):
            raise file.fail(table.position, f"a buffer of {size} bytes at {offset} lies outside the file")
        return np.frombuffer(file.data, np.uint8, size, offset) if size else None
    data = table.array(0, "uint8")
    return data if data is not None and len(data) else None


def _tensor(place: str, index: int, table: Table, buffers: list[NDArray[np.uint8] | None]) -> Tensor:
    name = table.text(3)
    where = f"{place}, tensor {index} '{name}'"
    code = table.number(1, numbers.Int8Flags)
    if not 0 <= code < len(TENSOR_TYPES):
        raise ModelError(where, f"element type {code} is unknown", "the file is damaged or newer than this version")
    buffer = table.number(2, numbers.Uint32Flags)
    if buffer >= len(buffers):
        raise ModelError(where, f"buffer {buffer} of {len(buffers)}", "the file is damaged: export it again")
    shape, signature = table.integers(0) or (), table.integers(7)
    if len(shape) > MAX_RANK:
        raise UnsupportedError(where, f"rank {len(shape)}", f"ranks up to {MAX_RANK} are supported")
    if table.table(6) is not None:
        raise UnsupportedError(where, "sparse weights", "convert the model without sparsity")
    if table.number(10, numbers.Uint32Flags):
        raise UnsupportedError(where, "its values lie in another file", "save the model as one file")
    return Tensor(
        index=index,
        name=name,
        shape=shape,
        signature=signature,
        type=TENSOR_TYPES[code],
        data=buffers[buffer],
        quantisation=_quantisation(where, table.table(4)),
        is_variable=bool(table.number(5, numbers.BoolFlags)),
    )


def _quantisation(where: str, table: Table | None) -> Quantisation | None:
    if table is None:
        return None
    scales, zeros = table.array(2, "float32"), table.array(3, "int64")
    if table.number(4, numbers.Uint8Flags):
        raise UnsupportedError(where, "a quantisation that is not affine", "convert with int8 or int16x8 quantisation")
    if scales is None or not len(scales):
        return None
    table.file.spend(2 * len(scales), table.position)
    if not np.all(np.isfinite(scales)) or np.any(scales < 0):
        raise ModelError(where, "a scale that is negative or not finite", "convert the model again")
    if zeros is None or not len(zeros):
        zeros = np.zeros(len(scales), np.int64)
    if len(zeros) == 1:
        zeros = np.repeat(zeros, len(scales))
    if len(zeros) != len(scales):
        raise ModelError(where, f"{len(scales)} scales and {len(zeros)} zero points", "convert the model again")
    axis = table.number(6, numbers.Int32Flags)
    return Quantisation(tuple(scales.astype(np.float64).tolist()), tuple(zeros.tolist()), axis)


def _operator(place: str, index: int, table: Table, codes: list[str], tensors: int) -> Operator:
    opcode = table.number(0, numbers.Uint32Flags)
    if opcode >= len(codes):
        raise ModelError(
            f"{place}, operator #{index}", f"operator code {opcode} of {len(codes)}", "the file is damaged"
        )
    where = f"{place}, operator #{index} {codes[opcode]}"
    inputs, outputs = table.integers(1) or (), table.integers(2) or ()
    if len(inputs) + len(outputs) > MAX_OPERANDS:
        raise UnsupportedError(where, f"{len(inputs)} inputs, {len(outputs)} outputs", f"at most {MAX_OPERANDS} in all")
    for lowest, operands in ((-1, inputs), (0, outputs)):
        for tensor in operands:
            if not lowest <= tensor < tensors:
                raise ModelError(where, f"reads or makes tensor {tensor} of {tensors}", "the file is damaged")
    return Operator(index, codes[opcode], inputs, outputs, table.number(3, numbers.Uint8Flags), table.table(4))
