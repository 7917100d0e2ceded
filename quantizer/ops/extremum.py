"""What Maximum and Minimum share: inputs and output on one scale, so that integers compare as reals do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, Graph
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops.base import Context, Reals, Variant, elementwise_lead, limit
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval

A = TypeVar("A", bound=Attrs)


@dataclass(frozen=True)
class Choice:
    """sign: C's comparison between the value that is kept and the other one, ">" or "<"."""

    sign: str

    def apply(self, x: Ints, y: Ints) -> Ints:
        """Evaluate over int64 arrays that broadcast."""
        return np.asarray(np.maximum(x, y) if self.sign == ">" else np.minimum(x, y), np.int64)


class ExtremumOperator(ew.BinaryOperator[A]):
    """The larger or the smaller value, element by element."""

    same_scale = True
    choice: Choice
    variants = (*ew.BinaryOperator.variants, Variant("portable", "extremum.c.j2", lead=elementwise_lead))

    @limit
    def one_scale(self, ctx: Context) -> bool:
        """Inputs and output share scale and zero point."""
        return ctx.input(0).qparams == ctx.input(1).qparams == ctx.output.qparams

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, y = inputs
        assert x is not None and y is not None
        return [np.maximum(x, y) if self.choice.sign == ">" else np.minimum(x, y)]

    def meaning(self, ctx: Context, x: Ints, y: Ints) -> Ints:
        return self.choice.apply(x, y)

    def slopes(self, ctx: Context, operand: int, constants: Ints) -> list[float] | None:
        return None

    def lower_pair(self, ctx: Context) -> Choice:
        return self.choice

    def output_ranges(self, ctx: Context, params: object) -> tuple[Interval, ...]:
        ends = [self.choice.apply(np.array(a), np.array(b)) for a, b in zip(ctx.ranges[0], ctx.ranges[1], strict=True)]
        return ((int(ends[0]), int(ends[1])),)

    def examples(self) -> Iterator[Graph]:
        for dtype in ("int8", "uint8", "int16"):
            for left, right in (((1, 4, 3, 5), (1, 4, 3, 5)), ((1, 4, 3), (3,)), ((1, 1, 3), (1, 4, 1))):
                kinds = [quantised(dtype, shape, 0.1) for shape in (left, right)]
                yield single(self.name, self.attrs(), kinds, [(dtype, 0.1, 0)], Contract.TFLITE)
        constant = (quantised("int8", (1,), 0.1), np.array([17]))
        yield single(self.name, self.attrs(), [quantised("int8", (1, 7), 0.1), constant], [("int8", 0.1, 0)])
