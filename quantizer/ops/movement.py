"""Operators that move values without changing them, as copies between strided views.

An operator says once, in numpy views, which parts of its inputs go to which parts of its outputs. On arrays of
values that is its meaning; the views' strides and offsets are the loops of its C kernel.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, limit, streaming_lead
from intaglio.quantizer.requant import Interval

A = TypeVar("A", bound=Attrs)
Array = NDArray[Any]
Pairs = list[tuple[Array, int, Array, int]]
"""(view of an output, its index, view of an input, its index), views of one shape."""
OUTPUT = -1
"""In place of an input's index: the view is of output 0, of what earlier copies wrote."""


@dataclass(frozen=True)
class Copy:
    """One strided copy, in elements.

    Attributes:
        source, target: index of the input (or OUTPUT) and of the output.
        source_offset, target_offset: of the first element.
        loops: (extent, source stride, target stride), outermost first; adjacent ones are merged.
        run: elements of the innermost contiguous run.
    """

    source: int
    target: int
    source_offset: int
    target_offset: int
    loops: tuple[tuple[int, int, int], ...]
    run: int


@dataclass(frozen=True)
class Moves:
    """The copies of one node, and the value that fills each output before them (None: they cover it)."""

    copies: tuple[Copy, ...]
    fill: int | None
    tables: tuple[Ints | None, ...] = ()
    """Per input: what its 256 values become, by their bits; None or absent where they stay what they are."""

    @property
    def may_overlap(self) -> bool:
        """Whether `move_lead` can let the output overlap the input."""
        return self.fill is None and len(self.copies) == 1

    def table(self, source: int) -> Ints | None:
        """The table of an input."""
        return self.tables[source] if 0 <= source < len(self.tables) else None


def _loops(target: Array, source: Array) -> tuple[tuple[tuple[int, int, int], ...], int]:
    """Merge the axes of two views of one shape into the fewest loops."""
    item, other = source.itemsize, target.itemsize
    merged: list[tuple[int, int, int]] = []
    for n, s, t in zip(source.shape, source.strides, target.strides, strict=True):
        step = (n, s // item, t // other)
        if n == 1:
            continue
        if merged and merged[-1][1] == step[1] * n and merged[-1][2] == step[2] * n:
            merged[-1] = (merged[-1][0] * n, step[1], step[2])
        else:
            merged.append(step)
    run = 1
    if merged and merged[-1][1:] == (1, 1):
        run = merged.pop()[0]
    return tuple(merged), run


def _offset(view: Array, base: Array) -> int:
    """Elements from the start of an array to the first of a view of it."""
    distance = view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return int(distance) // base.itemsize


def move_lead(kernel: Kernel) -> tuple[int | None, ...]:
    """Runs are copied one after the other; a target that is filled or not written in order allows no overlap."""
    moves: Moves = kernel.params
    result: list[int | None] = [None] * len(kernel.inputs)
    if not moves.may_overlap:
        return tuple(result)
    (copy,) = moves.copies
    reads = np.array([copy.source_offset], np.int64)
    writes = np.array([copy.target_offset], np.int64)
    for extent, source, target in copy.loops:
        reads = (reads[:, None] + np.arange(extent) * source).ravel()
        writes = (writes[:, None] + np.arange(extent) * target).ravel()
    if np.any(np.diff(writes) < 0):
        return tuple(result)
    size = kernel.y.dtype.bytes
    result[copy.source] = streaming_lead((writes + copy.run) * size, reads * size)
    return tuple(result)


class MoveOperator(Operator[A, Moves]):
    """Values of the inputs, unchanged, in another order."""

    same_scale = True
    variants = (Variant("portable", "move.c.j2", lead=move_lead),)

    @abstractmethod
    def pairs(self, attrs: Any, sources: Sequence[Array], targets: Sequence[Array]) -> Pairs:
        """Which views of the sources go to which views of the targets; contiguous arrays of the node's shapes."""

    def fill(self, ctx: Context) -> float | None:
        """The real value of what no copy writes; None when all is written."""
        return None

    @limit
    def same_type(self, ctx: Context) -> bool:
        """Inputs and outputs have one type, scale and zero point."""
        first = ctx.input(0)
        others = [t for t in (*ctx.inputs[: self.moved(ctx)], *ctx.outputs) if t is not None]
        return all(t.dtype == first.dtype and t.qparams == first.qparams for t in others)

    def moved(self, ctx: Context) -> int:
        """How many of the inputs are moved (the others are indices)."""
        return len(ctx.inputs)

    def _run(self, ctx: Context, inputs: Sequence[Array | None], value: float) -> list[Array]:
        sources = [np.ascontiguousarray(x) for x in inputs[: self.moved(ctx)] if x is not None]
        targets = [np.full(t.shape, value, sources[0].dtype) for t in ctx.outputs]
        for target, _, source, _ in self.pairs(ctx.node.attrs, sources, targets):
            target[...] = source
        return targets

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        return self._run(ctx, inputs, self.fill(ctx) or 0.0)

    def _stored_fill(self, ctx: Context) -> int | None:
        """The fill as a stored integer: the nearest to the real value, ties as the contract rounds."""
        value = self.fill(ctx)
        if value is None:
            return None
        kind = ctx.output
        if kind.qparams is None:
            return round(value)
        nearest = fp.round_rational(fp.rational(value) / fp.rational(kind.scale), acc.rounding(ctx.contract))
        return min(max(nearest + kind.zero_point, kind.dtype.low), kind.dtype.high)

    def lower(self, ctx: Context) -> Moves:
        # Byte-sized elements keep the arrays small; only addresses are looked at.
        sources = [np.empty(t.shape, np.uint8) for t in ctx.inputs[: self.moved(ctx)] if t is not None]
        targets = [np.empty(t.shape, np.uint8) for t in ctx.outputs]
        copies = []
        for target, j, source, i in self.pairs(ctx.node.attrs, sources, targets):
            loops, run = _loops(target, source)
            base = targets[0] if i == OUTPUT else sources[i]
            copies.append(Copy(i, j, _offset(source, base), _offset(target, targets[j]), loops, run))
        return Moves(tuple(copies), self._stored_fill(ctx))

    def evaluate(self, ctx: Context, params: Moves, inputs: Sequence[Ints | None]) -> list[Ints]:
        return self._run(ctx, inputs, 0 if params.fill is None else params.fill)

    def output_ranges(self, ctx: Context, params: Moves) -> tuple[Interval, ...]:
        moved = [ctx.ranges[i] for i in range(self.moved(ctx)) if i in ctx.ranges]
        low, high = min(lo for lo, _ in moved), max(hi for _, hi in moved)
        if params.fill is not None:
            low, high = min(low, params.fill), max(high, params.fill)
        return ((low, high),) * len(ctx.outputs)
