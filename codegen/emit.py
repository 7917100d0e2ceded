"""A lowered graph to the text of its C library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from intaglio.boards.cores import Core
from intaglio.codegen import channels, cident, packing
from intaglio.codegen.memory import Step, alias_roots, variable_offsets
from intaglio.codegen.plan import Buffer, Plan
from intaglio.codegen.render import environment
from intaglio.codegen.schedule import make_schedule
from intaglio.quantizer import ops
from intaglio.quantizer.errors import CodegenError
from intaglio.quantizer.ir import Graph, Node, TensorType
from intaglio.quantizer.ops import elementwise
from intaglio.quantizer.ops.base import context

# Placeholder for a function's name while its text decides whether another layer has the same function.
_NAME = "@function@"


@dataclass(frozen=True)
class DataArray:
    """A constant array of the library."""

    name: str
    ctype: str
    count: int
    bytes: int
    body: str
    note: str


@dataclass(frozen=True)
class Layer:
    """One step as the reports show it."""

    index: int
    op: str
    name: str
    source: str
    variant: str
    function: str
    shape: tuple[int, ...]
    macs: int
    call: str
    outputs: tuple[tuple[int, int], ...]
    """(arena offset, bytes) of each output."""
    tensors: tuple[str, ...]
    """Names of the outputs' tensors."""
    arrays: tuple[str, ...]
    """Names of the constant arrays that it reads."""


@dataclass(frozen=True)
class Library:
    """The generated library.

    Attributes:
        name: the C identifier that every public name starts with.
        files: text by file name.
        layers: in order of execution.
        plan: of the arena; buffers: what was planned.
        state_bytes: of the variables, at the start of the arena.
        digest: SHA-256 of the integer graph, hexadecimal.
    """

    name: str
    files: dict[str, str]
    layers: tuple[Layer, ...]
    plan: Plan
    buffers: tuple[Buffer, ...]
    state_bytes: int
    digest: str
    graph: Graph = field(repr=False)


class Emitter:
    """Collects what the templates of one library ask for: arrays, helper functions, kernel functions."""

    def __init__(self, name: str, core: Core) -> None:
        self.name = name
        self.core = core
        self.arrays: dict[tuple[str, bytes], DataArray] = {}
        self.helpers: dict[str, str] = {}
        self.functions: dict[str, str] = {}
        self._names: set[str] = set()
        self._step: Step | None = None
        self._used: list[str] = []
        self.env = environment(
            {
                "data": self.data,
                "require": self.require,
                "core": core,
                "channels": channels,
                "packing": packing,
                "elementwise": elementwise,
                "np": np,
            }
        )

    def data(self, suffix: str, array: NDArray[Any], ctype: str = "int8_t") -> str:
        """Register a constant array, shared when another has the same bytes and type; return its C name."""
        stored = np.asarray(array, dtype=ctype.removesuffix("_t"), order="C")
        if not np.array_equal(stored, array):
            raise CodegenError(self._where(), f"{suffix} do not fit into {ctype}", "report this model")
        key = (ctype, stored.tobytes())
        if key not in self.arrays:
            layer = "" if self._step is None else cident.layer_identifier(self._step.node.name)
            name = self._unique(f"{self.name}_{layer}_{suffix}")
            self.arrays[key] = DataArray(
                name, ctype, stored.size, stored.nbytes, cident.initialiser(stored, ctype), self._where()
            )
        self._used.append(self.arrays[key].name)
        return self.arrays[key].name

    def require(self, name: str, text: str) -> str:
        """Register a helper function once; returns nothing, so that a template may print it."""
        if self.helpers.setdefault(name, text) != text:
            raise CodegenError(self._where(), f"two helpers are called {name}", "report this model")
        return ""

    @property
    def used(self) -> tuple[str, ...]:
        """The arrays of the layer rendered last."""
        return tuple(dict.fromkeys(self._used))

    def layer(self, step: Step, x: Sequence[str], y: Sequence[str], scratch: str) -> tuple[str, str]:
        """Render a step; return the name of its function and the statement that calls it."""
        self._step, self._used = step, []
        module: Any = self.env.get_template(step.variant.template).module
        text = str(module.function(step.kernel, _NAME)).strip("\n")
        if not text.strip():
            return "", str(module.call(step.kernel, "", x, y, scratch)).strip()
        if text not in self.functions:
            shape = "x".join(map(str, step.kernel.y.shape if step.kernel.outputs else step.kernel.x.shape))
            op = "_".join(cident.snake(node.op) for node in step.nodes)
            self.functions[text] = self._unique(f"{op}_{step.variant.name}_{shape}")
        fn = self.functions[text]
        return fn, str(module.call(step.kernel, fn, x, y, scratch)).strip()

    def _where(self) -> str:
        return str(self._step.node) if self._step else self.name

    def _unique(self, base: str) -> str:
        name, number = base, 2
        while name in self._names:
            name, number = f"{base}_{number}", number + 1
        self._names.add(name)
        return name


def emit(graph: Graph, name: str, core: Core) -> Library:
    """Generate the library of a lowered graph.

    Args:
        name: a C identifier.

    Raises:
        CodegenError: an output is a constant, or a kernel's data do not fit its types.
    """
    for tensor in graph.outputs:
        if alias_roots(graph)[tensor] in graph.constants:
            raise CodegenError(tensor, "output does not depend on the inputs", "remove it from the model")
    schedule = make_schedule(graph, core)
    plan = schedule.plan
    emitter = Emitter(name, core)
    pointers = Pointers(graph, plan, emitter)
    layers: list[Layer] = []
    for step in schedule.steps:
        x, y = pointers.inputs(step.node), pointers.outputs(step.nodes[-1])
        scratch = pointers.at(step.scratch_name, "void *") if step.scratch else "NULL"
        function, call = emitter.layer(step, x, y, scratch)
        layers.append(
            Layer(
                step.index,
                "+".join(node.op for node in step.nodes),
                " + ".join(node.name for node in step.nodes),
                " + ".join(node.source for node in step.nodes if node.source),
                step.variant.name,
                function,
                step.kernel.y.shape if step.outputs else (),
                sum(ops.operator(node.op).macs(context(graph, node)) for node in step.nodes),
                call,
                tuple((pointers.offset(o), graph.types[o].bytes) for o in step.outputs),
                step.outputs,
                emitter.used,
            )
        )
    digest = graph_digest(graph)
    offsets, state_bytes = variable_offsets(graph)
    view = {
        "name": name,
        "upper": name.upper(),
        "graph": graph,
        "core": core,
        "layers": layers,
        "plan": plan,
        "state_bytes": state_bytes,
        "digest": bytes.fromhex(digest),
        "helpers": list(emitter.helpers.values()),
        "functions": [
            (text.replace(_NAME, fn), [layer for layer in layers if layer.function == fn])
            for text, fn in emitter.functions.items()
        ],
        "arrays": list(emitter.arrays.values()),
        "inputs": [_port(graph, pointers, t) for t in graph.inputs],
        "outputs": [_port(graph, pointers, t) for t in graph.outputs],
        "variables": [
            (offsets[n], v, emitter.data(f"{cident.identifier(n)}_initial", v.initial, cident.CTYPES[v.type.dtype]))
            for n, v in graph.variables.items()
            if np.any(v.initial)
        ],
    }
    view["arrays"] = list(emitter.arrays.values())
    files = {
        f"{name}.h": emitter.env.get_template("library.h.j2").render(view),
        f"{name}.c": emitter.env.get_template("library.c.j2").render(view),
        f"{name}_data.c": emitter.env.get_template("data.c.j2").render(view),
    }
    return Library(name, files, tuple(layers), plan, tuple(schedule.buffers), state_bytes, digest, graph)


class Pointers:
    """C expressions for where tensors lie."""

    def __init__(self, graph: Graph, plan: Plan, emitter: Emitter) -> None:
        self.graph = graph
        self.plan = plan
        self.emitter = emitter
        self.roots = alias_roots(graph)
        self.variables, _ = variable_offsets(graph)

    def offset(self, tensor: str) -> int:
        """Bytes from the start of the arena."""
        return self.plan.offsets[self.roots[tensor]]

    def at(self, buffer: str, ctype: str) -> str:
        """A buffer as a pointer of a type such as "int8_t *"."""
        return self._cast(self.plan.offsets[buffer], ctype)

    def inputs(self, node: Node) -> Operands:
        """One expression per input, constants included; "NULL" where absent. Then the variable that the node keeps
        its state in, if it has one."""
        variable = getattr(node.attrs, "variable", None)
        if variable is not None and not node.inputs:
            return Operands([partial(self._variable, variable, "const ")])
        makers = [partial(self._operand, name) for name in node.inputs]
        kept = getattr(node.attrs, "state_variable", None)
        return Operands(makers if kept is None else [*makers, partial(self._variable, kept, "")])

    def outputs(self, node: Node) -> list[str]:
        """One expression per output."""
        variable = getattr(node.attrs, "variable", None)
        if variable is not None and not node.outputs:
            return [self._variable(variable, "")]
        return [self._cast(self.offset(o), f"{self._ctype(self.graph.types[o])} *") for o in node.outputs]

    def _operand(self, name: str) -> str:
        if not name:
            return "NULL"
        ctype, root = self._ctype(self.graph.types[name]), self.roots[name]
        if root in self.graph.constants:
            return self.emitter.data(cident.layer_identifier(name), self.graph.constants[root], ctype)
        return self._cast(self.offset(name), f"const {ctype} *")

    def _variable(self, variable: str, qualifier: str) -> str:
        ctype = self._ctype(self.graph.variables[variable].type)
        return self._cast(self.variables[variable], f"{qualifier}{ctype} *")

    @staticmethod
    def _ctype(kind: TensorType) -> str:
        return cident.CTYPES[kind.dtype]

    @staticmethod
    def _cast(offset: int, ctype: str) -> str:
        return f"({ctype})(a + {offset})" if offset else f"({ctype})a"


class Operands(Sequence[str]):
    """C expressions of a node's inputs, made when a template reads them: a constant operand that no template
    prints (folded weights) does not become part of the library."""

    def __init__(self, makers: Sequence[Callable[[], str]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [make() for make in self._makers[index]]
        return self._makers[index]()


def _port(graph: Graph, pointers: Pointers, tensor: str) -> dict[str, Any]:
    kind = graph.types[tensor]
    scale, zero = kind.qparams.per_tensor if kind.qparams else (0.0, 0)
    bits = int(np.float32(scale).view(np.uint32))
    return {
        "name": tensor,
        "type": kind,
        "ctype": cident.CTYPES[kind.dtype],
        "offset": pointers.offset(tensor),
        "scale": scale,
        "zero_point": zero,
        "scale_bits": bits,
    }


def graph_digest(graph: Graph) -> str:
    """SHA-256 over everything that determines the integers: operators, attributes, types, constants, state."""
    sha = hashlib.sha256()

    def add(*items: object) -> None:
        for item in items:
            blob = item if isinstance(item, bytes) else repr(item).encode()
            sha.update(len(blob).to_bytes(8, "little") + blob)

    order = {
        name: i
        for i, name in enumerate(
            dict.fromkeys(
                (*graph.inputs, *(t for n in graph.nodes for t in (*n.inputs, *n.outputs) if t), *graph.outputs)
            )
        )
    }
    add(str(graph.contract), [order[t] for t in graph.inputs], [order[t] for t in graph.outputs])
    for name in order:
        kind = graph.types[name]
        add(str(kind.dtype), kind.shape, kind.qparams)
        if name in graph.constants:
            add(np.ascontiguousarray(graph.constants[name]).tobytes())
    for node in graph.nodes:
        add(node.op, [order.get(t, -1) for t in node.inputs], [order[t] for t in node.outputs], node.attrs)
    for name, variable in graph.variables.items():
        add(name, variable.type, variable.initial.tobytes())
    return sha.hexdigest()
