"""ReadVariable: the value of a state variable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intaglio.quantizer.errors import GraphError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Graph, Node, TensorType
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, register
from intaglio.quantizer.ops.state import counter, kept_by_evaluator


@dataclass(frozen=True)
class ReadVariableAttrs(Attrs):
    """variable: its name in the graph."""

    variable: str


@register
class ReadVariable(Operator[ReadVariableAttrs, tuple[()]]):
    """No input. Output: a copy of the variable, so that a later assignment does not change it."""

    name = "ReadVariable"
    attrs = ReadVariableAttrs
    variants = (Variant("portable", "read_variable.c.j2"),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        raise GraphError(str(node), "its type is that of the variable", "report this model: it is our mistake")

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        raise kept_by_evaluator(ctx)

    def lower(self, ctx: Context) -> tuple[()]:
        return ()

    def evaluate(self, ctx: Context, params: tuple[()], inputs: Sequence[Ints | None]) -> list[Ints]:
        raise kept_by_evaluator(ctx)

    def examples(self) -> Iterator[Graph]:
        yield counter("int8", 3)
        yield counter("int16", 0)
