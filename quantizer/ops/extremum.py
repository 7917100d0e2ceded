"""What Maximum and Minimum share: inputs and output on one scale, so that integers compare as reals do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, Graph, Node, TensorType
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, elementwise_lead, limit
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval

A = TypeVar("A", bound=Attrs)


class ExtremumOperator(ew.BinaryLimits, Operator[A, str]):
    """choose(x, y), element by element; `params` is C's comparison."""

    same_scale = True
    choose: ClassVar[Callable[[Any, Any], Any]]
    variants = (Variant("portable", "extremum.c.j2", lead=elementwise_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return ew.broadcast(node, inputs)

    @limit
    def one_scale(self, ctx: Context) -> bool:
        """Inputs and output share scale and zero point."""
        return ctx.input(0).qparams == ctx.input(1).qparams == ctx.output.qparams

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        return [self.choose(inputs[0], inputs[1])]

    def lower(self, ctx: Context) -> str:
        return ">" if self.choose(0, 1) == 1 else "<"

    def evaluate(self, ctx: Context, params: str, inputs: Sequence[Ints | None]) -> list[Ints]:
        return [self.choose(inputs[0], inputs[1])]

    def output_ranges(self, ctx: Context, params: str) -> tuple[Interval, ...]:
        (a, b), (c, d) = ctx.ranges[0], ctx.ranges[1]
        return ((int(self.choose(a, c)), int(self.choose(b, d))),)

    def examples(self) -> Iterator[Graph]:
        for dtype in ("int8", "uint8", "int16"):
            for left, right in (((1, 4, 3, 5), (1, 4, 3, 5)), ((1, 4, 3), (3,)), ((1, 1, 3), (1, 4, 1))):
                kinds = [quantised(dtype, shape, 0.1) for shape in (left, right)]
                yield single(self.name, self.attrs(), kinds, [(dtype, 0.1, 0)], Contract.TFLITE)
