"""Writes TFLite models for tests, through the flatbuffers object API of LiteRT's schema: independent of our reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

TYPES = {
    name: getattr(schema.TensorType, name.upper())
    for name in ("float32", "float16", "int32", "uint8", "int64", "bool", "int16", "int8", "resource", "int4")
}


def options(kind: str, **fields: Any) -> Any:
    """An options table, such as options("Conv2DOptions", strideH=1)."""
    table = getattr(schema, f"{kind}T")()
    for name, value in fields.items():
        assert hasattr(table, name), f"{kind} has no {name}"
        setattr(table, name, value)
    return table


class GraphBuilder:
    """One subgraph; tensors and operators are added in order."""

    def __init__(self, model: ModelBuilder) -> None:
        self._model = model
        self.table = schema.SubGraphT()
        self.table.tensors, self.table.operators = [], []
        self.table.inputs, self.table.outputs = [], []

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "int8",
        scale: float | Sequence[float] | None = None,
        zero: int = 0,
        data: NDArray[Any] | None = None,
        axis: int = 0,
        name: str | None = None,
        variable: bool = False,
        signature: Sequence[int] | None = None,
    ) -> int:
        """Add a tensor; with `data` it is a constant. Returns its number."""
        t = schema.TensorT()
        t.shape, t.type = list(shape), TYPES[dtype]
        t.name = (f"t{len(self.table.tensors)}" if name is None else name).encode()
        t.isVariable, t.hasRank = variable, True
        t.shapeSignature = None if signature is None else list(signature)
        t.buffer = 0 if data is None else self._model.buffer(np.asarray(data))
        if scale is not None:
            q = schema.QuantizationParametersT()
            q.scale = [float(s) for s in np.ravel(scale)]
            q.zeroPoint = [zero] * len(q.scale)
            q.quantizedDimension = axis
            t.quantization = q
        self.table.tensors.append(t)
        return len(self.table.tensors) - 1

    def op(
        self, builtin: str, inputs: Sequence[int], outputs: Sequence[int], opts: Any = None, version: int = 1
    ) -> None:
        """Add an operator."""
        o = schema.OperatorT()
        o.opcodeIndex = self._model.opcode(builtin, version)
        o.inputs, o.outputs = list(inputs), list(outputs)
        if opts is not None:
            o.builtinOptions = opts
            o.builtinOptionsType = getattr(schema.BuiltinOptions, type(opts).__name__.removesuffix("T"))
        self.table.operators.append(o)

    def ports(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Set the inputs and outputs."""
        self.table.inputs, self.table.outputs = list(inputs), list(outputs)


class ModelBuilder:
    """A model; `main` is its first subgraph."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version, self._model.description = 3, b"test"
        empty = schema.BufferT()
        empty.data = []
        self._model.buffers, self._model.operatorCodes, self._model.subgraphs = [empty], [], []
        self._codes: dict[tuple[str, int], int] = {}
        self.main = self.subgraph()

    def subgraph(self) -> GraphBuilder:
        """Add a subgraph."""
        graph = GraphBuilder(self)
        self._model.subgraphs.append(graph.table)
        return graph

    def buffer(self, data: NDArray[Any]) -> int:
        """Add a buffer."""
        b = schema.BufferT()
        b.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self._model.buffers.append(b)
        return len(self._model.buffers) - 1

    def opcode(self, builtin: str, version: int) -> int:
        """The number of an operator code."""
        key = (builtin, version)
        if key not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, builtin)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            self._codes[key] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        return self._codes[key]

    def bytes(self) -> bytes:
        """The file."""
        b = flatbuffers.Builder(1024)
        b.Finish(self._model.Pack(b), file_identifier=b"TFL3")
        return bytes(b.Output())
