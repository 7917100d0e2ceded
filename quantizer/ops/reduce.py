"""What reductions share: shapes, loops, and sums that are requantised."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, TypeVar

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import ProofError, UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, limit, streaming_lead
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval, Requant, exact_requant, lifted


@dataclass(frozen=True)
class ReduceAttrs(Attrs):
    """axes: reduced, ascending; keep_dims: they stay with length 1."""

    axes: tuple[int, ...]
    keep_dims: bool = False


A = TypeVar("A", bound=ReduceAttrs)
Loops = tuple[tuple[int, int], ...]
"""(extent, stride in elements), outermost first."""


@dataclass(frozen=True)
class ReduceLoops:
    """kept: the loops over the outputs, in their order; reduced: the loops over one output's terms."""

    kept: Loops
    reduced: Loops


@dataclass(frozen=True, eq=False)
class SumParams:
    """Integers of a sum: requant(offset + sum of the stored integers)."""

    loops: ReduceLoops
    offset: int
    requant: Requant


def reduced_shape(node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
    """The shape rule of reductions.

    Raises:
        UnsupportedError: an axis is not one of the input's, or named twice.
    """
    x, a = inputs[0], node.attrs
    if (
        x is None
        or not a.axes
        or sorted(set(a.axes)) != list(a.axes)
        or not 0 <= a.axes[0] <= a.axes[-1] < len(x.shape)
    ):
        raise UnsupportedError(str(node), f"axes {list(a.axes)} do not fit the input", "re-export the model")
    return (tuple(1 if i in a.axes else n for i, n in enumerate(x.shape) if a.keep_dims or i not in a.axes),)


def make_loops(shape: Sequence[int], axes: Sequence[int]) -> ReduceLoops:
    """Merge the axes of a contiguous tensor into the fewest loops."""
    kept: list[tuple[int, int]] = []
    reduced: list[tuple[int, int]] = []
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        stride = prod(shape[axis + 1 :])
        loops = reduced if axis in axes else kept
        if loops and loops[-1][1] == stride * n:
            loops[-1] = (loops[-1][0] * n, stride)
        else:
            loops.append((n, stride))
    return ReduceLoops(tuple(kept), tuple(reduced))


def row_starts(loops: Loops) -> Ints:
    """The first element of each output's terms: int64 (outputs,)."""
    starts = np.zeros(1, np.int64)
    for extent, stride in loops:
        starts = (starts[:, None] + np.arange(extent) * stride).ravel()
    return starts


def ordered_lead(kernel: Kernel, starts: Ints) -> tuple[int | None, ...]:
    """The lead over input 0 of a kernel that reads all terms of an output before it writes it."""
    ends = (np.arange(len(starts)) + 1) * kernel.y.dtype.bytes
    lead = streaming_lead(ends, starts * kernel.x.dtype.bytes)
    return (lead,) + (None,) * (len(kernel.inputs) - 1)


def reduce_lead(kernel: Kernel) -> tuple[int | None, ...]:
    return ordered_lead(kernel, row_starts(make_loops(kernel.x.shape, kernel.attrs.axes).kept))


class SumOperator(Operator[A, SumParams]):
    """A sum along axes, times a constant."""

    attrs: ClassVar[type[ReduceAttrs]]
    variants = (Variant("portable", "reduce.c.j2", lead=reduce_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return reduced_shape(node, inputs)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output are both int8, both uint8 or both int16, quantised per tensor."""
        x, out = ctx.input(0), ctx.output
        return x.dtype == out.dtype and x.dtype in (DType.INT8, DType.UINT8, DType.INT16) and x.qparams is not None

    @abstractmethod
    def divisor(self, terms: int) -> int:
        """What the sum of so many terms is divided by."""

    @abstractmethod
    def tflite(self, ctx: Context, terms: int) -> Requant:
        """LiteRT's arithmetic."""

    def terms(self, ctx: Context) -> int:
        """How many integers make one output."""
        return ctx.input(0).elements // ctx.output.elements

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        total = inputs[0].sum(axis=ctx.node.attrs.axes).reshape(ctx.output.shape)
        return [total / self.divisor(self.terms(ctx))]

    def _map(self, ctx: Context) -> AffineMap:
        x, out = ctx.input(0), ctx.output
        scale = fp.rational(x.scale) / (fp.rational(out.scale) * self.divisor(self.terms(ctx)))
        return AffineMap(scale, out.zero_point, out.dtype.low, out.dtype.high, acc.rounding(ctx.contract))

    def lower(self, ctx: Context) -> SumParams:
        x, n = ctx.input(0), self.terms(ctx)
        low, high = ctx.ranges[0]
        interval = (n * (low - x.zero_point), n * (high - x.zero_point))
        # Twice: a division may be lifted above zero.
        parts = 2 * max(abs(n * v) + abs(n * x.zero_point) for v in (low, high))
        if parts > fp.INT32_HIGH:
            raise ProofError(str(ctx.node), f"the sum of {n} integers may exceed int32", "reduce fewer at a time")
        lift = 0
        if ctx.contract is Contract.TFLITE:
            requant = self.tflite(ctx, n)
        else:
            raised, lift = lifted(self._map(ctx), interval)
            requant = exact_requant([raised], [(interval[0] + lift, interval[1] + lift)], str(ctx.node))
        return SumParams(make_loops(x.shape, ctx.node.attrs.axes), lift - n * x.zero_point, requant)

    def evaluate(self, ctx: Context, params: SumParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        total = inputs[0].sum(axis=ctx.node.attrs.axes).ravel()
        return [params.requant.apply(total + params.offset).reshape(ctx.output.shape)]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        if ctx.contract is Contract.TFLITE:
            return super().define(ctx, inputs)
        assert inputs[0] is not None
        real = inputs[0] - ctx.input(0).zero_point
        return [self._map(ctx).apply(real.sum(axis=ctx.node.attrs.axes).ravel()).reshape(ctx.output.shape)]

    def output_ranges(self, ctx: Context, params: SumParams) -> tuple[Interval, ...]:
        n, (low, high) = self.terms(ctx), ctx.ranges[0]
        return (params.requant.range([(n * low + params.offset, n * high + params.offset)]),)

    def examples(self) -> Iterator[Graph]:
        cases = [
            ((1, 5, 4, 3), (1, 2), True),
            ((1, 5, 4, 3), (3,), False),
            ((2, 3, 4, 5), (0, 2), False),
            ((1, 7), (0, 1), False),
        ]
        for dtype, zero in (("int8", -11), ("int16", 0), ("uint8", 120)):
            for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
                for shape, axes, keep in cases[:: 1 if dtype == "int8" else 2]:
                    n = prod(shape[a] for a in axes)
                    out = (dtype, 0.043 * (n // self.divisor(n)) ** 0.5, zero // 2)
                    x = quantised(dtype, shape, 0.05, zero)
                    yield single(self.name, self.attrs(axes, keep), [x], [out], contract)


class ExtremumOperator(Operator[A, ReduceLoops]):
    """The largest or smallest value along axes."""

    attrs: ClassVar[type[ReduceAttrs]]
    variants = (Variant("portable", "reduce_extremum.c.j2", lead=reduce_lead),)
    same_scale = True

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return reduced_shape(node, inputs)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output have one type (int8, uint8, int16 or int32), scale and zero point."""
        kinds = (DType.INT8, DType.UINT8, DType.INT16, DType.INT32)
        x, out = ctx.input(0), ctx.output
        return x.dtype in kinds and (x.dtype, x.qparams) == (out.dtype, out.qparams)

    def lower(self, ctx: Context) -> ReduceLoops:
        return make_loops(ctx.input(0).shape, ctx.node.attrs.axes)

    def output_ranges(self, ctx: Context, params: ReduceLoops) -> tuple[Interval, ...]:
        return (ctx.ranges[0],)

    def examples(self) -> Iterator[Graph]:
        cases = [
            ((1, 5, 4, 3), (1, 2), True),
            ((1, 5, 4, 3), (3,), False),
            ((2, 3, 4), (0, 2), False),
            ((7,), (0,), False),
        ]
        for dtype in ("int8", "int16", "uint8", "int32"):
            for shape, axes, keep in cases[:: 1 if dtype == "int8" else 3]:
                scale = None if dtype == "int32" else 0.1
                x = quantised(dtype, shape, scale)
                yield single(self.name, self.attrs(axes, keep), [x], [(dtype, scale, 0)])
