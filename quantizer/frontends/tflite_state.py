"""Translators of TFLite's state: resource variables, and the state of SVDF."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intaglio.quantizer.frontends.tflite_folds import fold
from intaglio.quantizer.frontends.tflite_options import CallOnceOptions, SVDFOptions, VarHandleOptions
from intaglio.quantizer.frontends.tflite_values import Array, Builder, Handle, Translator, attributes, dtype, qparams
from intaglio.quantizer.ir import DType, Node, TensorType, Variable


def _var_handle(b: Builder) -> None:
    o = b.options(VarHandleOptions)
    b.handles[b.output()] = Handle("/".join(part for part in (o.container, o.shared_name) if part) or "variable")


def _handle(b: Builder) -> str:
    handle = b.handles.get(b.input(0))
    if handle is None:
        raise b.fail("its first input is not a variable's handle")
    return handle.variable


def _call_once(b: Builder) -> None:
    """Run the subgraph that gives variables their initial values: it may only assign what is known."""
    number = b.options(CallOnceOptions).subgraph
    if not 1 <= number < len(b.others):
        raise b.fail(f"calls subgraph {number} of {len(b.others)}")
    init = Builder(f"{b.file}, subgraph {number}", b.others[number])
    for operator in init.subgraph.operators:
        init.operator = operator
        if operator.builtin == "VAR_HANDLE":
            _var_handle(init)
        elif operator.builtin == "ASSIGN_VARIABLE":
            value = init.constant(init.input(1))
            if value is None:
                raise init.unsupported("the value is computed at run time", "initialise variables with constants")
            b.initial[_handle(init)] = (value, init.type(init.input(1)))
        elif not fold(init):
            raise init.unsupported("cannot be evaluated", "initialise variables with constants")


def _read_variable(b: Builder) -> None:
    variable, number = _handle(b), b.output()
    tensor = b.subgraph.tensors[number]
    kind, q = dtype(tensor, b.where), qparams(tensor, b.where)
    if variable not in b.initial:
        raise b.unsupported(f"variable '{variable}' is read before it has a value", "initialise it (CALL_ONCE)")
    value, given = b.initial[variable]
    if given.dtype is not kind:
        raise b.fail(f"reads {kind} from variable '{variable}' of {given.dtype}")
    name = b.names[number]
    declare(b, variable, TensorType(kind, value.shape, q), value)
    b.types[name] = b.variables[variable].type
    attrs = attributes("ReadVariable", b.where, variable=variable)
    b.nodes.append(Node("ReadVariable", f"read {name}", (), (name,), attrs, source=b.source))


def _assign_variable(b: Builder) -> None:
    variable = _handle(b)
    name, kind = b.name(b.input(1)), b.type(b.input(1))
    zero = kind.qparams.zero_point[0] if kind.qparams else 0
    value, _ = b.initial.get(variable, (np.full(kind.shape, zero, kind.dtype.numpy), kind))
    declare(b, variable, replace(kind, shape=value.shape), value)
    if b.variables[variable].type != kind:
        raise b.fail(f"assigns {kind.dtype}{list(kind.shape)} to variable '{variable}' of another type or scale")
    attrs = attributes("AssignVariable", b.where, variable=variable)
    b.nodes.append(Node("AssignVariable", f"assign {variable} #{len(b.nodes)}", (name,), (), attrs, source=b.source))


def declare(b: Builder, variable: str, kind: TensorType, value: Array) -> None:
    """Make a variable known; the first type that it is read or assigned with is its type."""
    b.variables.setdefault(variable, Variable(kind, value))


def _svdf(b: Builder) -> None:
    """Inputs: x, weights_feature, weights_time, an optional bias, and the state, a tensor that keeps its values."""
    o = b.options(SVDFOptions)
    number = b.input(4)
    tensor = b.subgraph.tensors[number]
    filters, x = b.type(b.input(1)).shape, b.type(b.input(0)).shape
    if not tensor.is_variable:
        raise b.fail(f"its state '{tensor.name}' is not a variable")
    if o.rank < 1 or len(filters) != 2 or filters[0] % o.rank or len(x) != 2 or x[0] != 1:
        raise b.fail(f"rank {o.rank}, input {list(x)}, {list(filters)} weights")
    kind = dtype(tensor, b.where)
    # LiteRT starts int8 variables at the real zero, all others with zero bytes.
    q = qparams(tensor, b.where)
    zero = q.zero_point[0] if q is not None and kind is DType.INT8 else 0
    shape = (1, filters[0] * b.type(b.input(2)).shape[-1])
    if tensor.shape != shape:
        raise b.fail(f"its state has shape {list(tensor.shape)}, not {list(shape)}")
    reads = b.real if b.type(b.input(0)).dtype.is_float else b.name
    bias, variable = b.optional(3), b.names[number]
    declare(b, variable, TensorType(kind, shape, q), np.full(shape, zero, kind.numpy))
    b.emit(
        "Svdf",
        (b.name(b.input(0)), *(reads(n) for n in (b.input(1), b.input(2))), "" if bias is None else reads(bias)),
        (b.output(),),
        rank=o.rank,
        clamp=b.clamp(o.activation),
        state_variable=variable,
    )


STATE: dict[str, Translator] = {
    "VAR_HANDLE": _var_handle,
    "CALL_ONCE": _call_once,
    "READ_VARIABLE": _read_variable,
    "ASSIGN_VARIABLE": _assign_variable,
    "SVDF": _svdf,
}
