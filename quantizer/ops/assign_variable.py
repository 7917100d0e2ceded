"""AssignVariable: a new value for a state variable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer import ops
from intaglio.quantizer.errors import GraphError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, Graph, Node, TensorType, Variable
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, limit, register
from intaglio.quantizer.ops.build import quantised
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class AssignVariableAttrs(Attrs):
    """variable: its name in the graph."""

    variable: str


@register
class AssignVariable(Operator[AssignVariableAttrs, tuple[()]]):
    """Input: x, of the variable's type. No output: what reads the variable after this node, or in the next invoke,
    gets x."""

    name = "AssignVariable"
    attrs = AssignVariableAttrs
    variants = (Variant("portable", "assign_variable.c.j2"),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return ()

    @limit
    def same_type(self, ctx: Context) -> bool:
        """The input has the variable's type, shape, scale and zero point."""
        return ctx.state is not None and ctx.input(0) == ctx.state.type

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        raise _kept_by_evaluator(ctx)

    def lower(self, ctx: Context) -> tuple[()]:
        return ()

    def evaluate(self, ctx: Context, params: tuple[()], inputs: Sequence[Ints | None]) -> list[Ints]:
        raise _kept_by_evaluator(ctx)

    def output_ranges(self, ctx: Context, params: tuple[()]) -> tuple[Interval, ...]:
        return ()

    def examples(self) -> Iterator[Graph]:
        yield counter("int8", -7)
        yield counter("int32", 5)


def _kept_by_evaluator(ctx: Context) -> GraphError:
    return GraphError(str(ctx.node), "variables are kept by the evaluator", "report this model: it is our mistake")


def counter(dtype: str, initial: int) -> Graph:
    """A graph with state: output the larger of x and the state, which becomes the new state."""
    kind = quantised(dtype, (1, 5), None if dtype == "int32" else 0.1)
    maximum = ops.operator("ReduceMax")
    stack = quantised(dtype, (2, 5), None if dtype == "int32" else 0.1)
    read = ops.operator("ReadVariable").attrs("memory")  # type: ignore[call-arg]
    return Graph(
        name="counter",
        nodes=(
            Node("ReadVariable", "read", (), ("old",), read),
            Node("Concat", "stack", ("x", "old"), ("both",), ops.operator("Concat").attrs(0)),  # type: ignore[call-arg]
            Node("ReduceMax", "largest", ("both",), ("new",), maximum.attrs((0,), True)),  # type: ignore[call-arg]
            Node("AssignVariable", "keep", ("new",), (), AssignVariableAttrs("memory")),
        ),
        types={"x": kind, "old": kind, "both": stack, "new": kind},
        constants={},
        inputs=("x",),
        outputs=("new",),
        variables={"memory": Variable(kind, np.full(kind.shape, initial, kind.dtype.numpy))},
        contract=Contract.EXACT,
    )
