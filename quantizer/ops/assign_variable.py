"""AssignVariable: a new value for a state variable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Graph, Node, TensorType
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, limit, register
from intaglio.quantizer.ops.state import counter, kept_by_evaluator
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
        raise kept_by_evaluator(ctx)

    def lower(self, ctx: Context) -> tuple[()]:
        return ()

    def evaluate(self, ctx: Context, params: tuple[()], inputs: Sequence[Ints | None]) -> list[Ints]:
        raise kept_by_evaluator(ctx)

    def output_ranges(self, ctx: Context, params: tuple[()]) -> tuple[Interval, ...]:
        return ()

    def examples(self) -> Iterator[Graph]:
        yield counter("int8", -7)
        yield counter("int16", -700)
        yield counter("int32", 5)
