"""What ArgMax and ArgMin share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, TypeVar

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, DType, Graph, Node, TensorType
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, limit
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.reduce import ordered_lead, row_starts
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class ArgAttrs(Attrs):
    """axis: searched; keep_dims: it stays with length 1; last: of equal values the last counts, not the first."""

    axis: int
    keep_dims: bool = False
    last: bool = False


@dataclass(frozen=True)
class Rows:
    """A tensor seen as (outer, length, inner): the rows along an axis."""

    outer: int
    length: int
    inner: int

    @classmethod
    def along(cls, shape: Sequence[int], axis: int) -> Rows:
        """The rows of a tensor along an axis."""
        return cls(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))


A = TypeVar("A", bound=ArgAttrs)


def arg_lead(kernel: Kernel) -> tuple[int | None, ...]:
    rows: Rows = kernel.params
    return ordered_lead(kernel, row_starts(((rows.outer, rows.length * rows.inner), (rows.inner, 1))))


class ArgOperator(Operator[A, Rows]):
    """The place of the largest or smallest value along an axis."""

    attrs: ClassVar[type[ArgAttrs]]
    variants = (Variant("portable", "arg_extremum.c.j2", lead=arg_lead),)
    sign: int

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, a = inputs[0], node.attrs
        if x is None or not 0 <= a.axis < len(x.shape):
            raise UnsupportedError(str(node), f"axis {a.axis} is not one of the input's", "re-export the model")
        return ((*x.shape[: a.axis], *((1,) if a.keep_dims else ()), *x.shape[a.axis + 1 :]),)

    @limit
    def types(self, ctx: Context) -> bool:
        """The input is int8, uint8, int16 or int32; the output int32 or int64."""
        kinds = (DType.INT8, DType.UINT8, DType.INT16, DType.INT32)
        return ctx.input(0).dtype in kinds and ctx.output.dtype in (DType.INT32, DType.INT64)

    def _search(self, ctx: Context, x: Reals | Ints) -> Ints:
        a: ArgAttrs = ctx.node.attrs
        signed = self.sign * x
        if a.last:
            found = x.shape[a.axis] - 1 - np.argmax(np.flip(signed, a.axis), axis=a.axis)
        else:
            found = np.argmax(signed, axis=a.axis)
        return np.asarray(found, np.int64).reshape(ctx.output.shape)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        return [self._search(ctx, inputs[0]).astype(np.float64)]

    def lower(self, ctx: Context) -> Rows:
        return Rows.along(ctx.input(0).shape, ctx.node.attrs.axis)

    def evaluate(self, ctx: Context, params: Rows, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [self._search(ctx, inputs[0])]

    def output_ranges(self, ctx: Context, params: Rows) -> tuple[Interval, ...]:
        return ((0, params.length - 1),)

    def examples(self) -> Iterator[Graph]:
        cases = [
            ("int8", (1, 10), self.attrs(1), "int32"),
            ("int8", (1, 3, 4, 5), self.attrs(3, True), "int64"),
            ("uint8", (2, 40, 3), self.attrs(1), "int32"),
            ("int16", (300,), self.attrs(0), "int64"),
            ("int8", (2, 400), self.attrs(1, False, True), "int64"),
        ]
        for dtype, shape, attrs, out in cases:
            yield single(self.name, attrs, [quantised(dtype, shape, 0.1)], [(out, None, 0)])
