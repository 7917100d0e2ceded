"""Translators of TFLite's state: resource variables, and the state of SVDF."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intaglio.quantizer import ops
from intaglio.quantizer.frontends.tflite_folds import fold
from intaglio.quantizer.frontends.tflite_options import CallOnceOptions, VarHandleOptions
from intaglio.quantizer.frontends.tflite_values import Array, Builder, Handle, Translator, dtype, qparams
from intaglio.quantizer.ir import Node, TensorType, Variable


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
    attrs = ops.operator("ReadVariable", b.where).attrs(variable=variable)
    b.nodes.append(Node("ReadVariable", f"read {name}", (), (name,), attrs, source=b.source))


def _assign_variable(b: Builder) -> None:
    variable = _handle(b)
    name, kind = b.name(b.input(1)), b.type(b.input(1))
    zero = kind.qparams.zero_point[0] if kind.qparams else 0
    value, _ = b.initial.get(variable, (np.full(kind.shape, zero, kind.dtype.numpy), kind))
    declare(b, variable, replace(kind, shape=value.shape), value)
    if b.variables[variable].type != kind:
        raise b.fail(f"assigns {kind.dtype}{list(kind.shape)} to variable '{variable}' of another type or scale")
    attrs = ops.operator("AssignVariable", b.where).attrs(variable=variable)
    b.nodes.append(Node("AssignVariable", f"assign {variable} #{len(b.nodes)}", (name,), (), attrs, source=b.source))


def declare(b: Builder, variable: str, kind: TensorType, value: Array) -> None:
    """Make a variable known; the first type that it is read or assigned with is its type."""
    b.variables.setdefault(variable, Variable(kind, value))


def _svdf(b: Builder) -> None:
    raise b.unsupported("SVDF", "soon")


STATE: dict[str, Translator] = {
    "VAR_HANDLE": _var_handle,
    "CALL_ONCE": _call_once,
    "READ_VARIABLE": _read_variable,
    "ASSIGN_VARIABLE": _assign_variable,
    "SVDF": _svdf,
}
