"""Concat: tensors one after the other along an axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops.base import Context, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.movement import Array, MoveOperator, Moves, Pairs
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class ConcatAttrs(Attrs):
    """axis: along which the inputs are joined."""

    axis: int


@register
class Concat(MoveOperator[ConcatAttrs]):
    """Inputs: tensors that differ only in the size of one axis. Output: all of them along it."""

    name = "Concat"
    attrs = ConcatAttrs

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        axis, shapes = node.attrs.axis, [list(t.shape) for t in inputs if t is not None]
        rests = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
        if not shapes or not 0 <= axis < len(shapes[0]) or len(rests) != 1:
            raise UnsupportedError(str(node), f"shapes {shapes} do not join along axis {axis}", "re-export the model")
        shape = list(shapes[0])
        shape[axis] = sum(s[axis] for s in shapes)
        return (tuple(shape),)

    def pairs(self, attrs: Any, sources: Sequence[Array], targets: Sequence[Array]) -> Pairs:
        at, result = 0, []
        for i, source in enumerate(sources):
            end = at + source.shape[attrs.axis]
            part = targets[0][(slice(None),) * attrs.axis + (slice(at, end),)]
            result.append((part, 0, source, i))
            at = end
        return result

    @limit
    def same_type(self, ctx: Context) -> bool:
        """Inputs and output have one type, scale and zero point; uint8 inputs in contract tflite may have scales of
        their own."""
        if self._is_scaled(ctx):
            return all(t is not None and t.dtype is DType.UINT8 and t.qparams is not None for t in ctx.inputs)
        return super().same_type(ctx)

    def _is_scaled(self, ctx: Context) -> bool:
        return ctx.contract is Contract.TFLITE and ctx.output.dtype is DType.UINT8 and ctx.output.qparams is not None

    def _tables(self, ctx: Context) -> tuple[Ints | None, ...]:
        """What each input's values become: LiteRT computes in binary32 (`ConcatenationWithScaling`)."""
        if not self._is_scaled(ctx):
            return ()
        out = ctx.output
        tables: list[Ints | None] = []
        for kind in ctx.inputs:
            assert kind is not None
            if kind.qparams == out.qparams:
                tables.append(None)
                continue
            scale = np.float32(kind.scale) * (np.float32(1) / np.float32(out.scale))
            real = np.arange(256, dtype=np.float32) * scale + np.float32(-kind.zero_point) * scale
            # Halves away from zero; the sum with 1/2 is exact in binary64.
            rounded = np.copysign(np.floor(np.abs(real.astype(np.float64)) + 0.5), real)
            tables.append(np.clip(rounded.astype(np.int64) + out.zero_point, 0, 255))
        return tuple(tables)

    def lower(self, ctx: Context) -> Moves:
        return replace(super().lower(ctx), tables=self._tables(ctx))

    def evaluate(self, ctx: Context, params: Moves, inputs: Sequence[Ints | None]) -> list[Ints]:
        given = [x if (t := params.table(i)) is None or x is None else t[x] for i, x in enumerate(inputs)]
        return super().evaluate(ctx, params, given)

    def output_ranges(self, ctx: Context, params: Moves) -> tuple[Interval, ...]:
        if any(t is not None for t in params.tables):
            return ((0, 255),)
        return super().output_ranges(ctx, params)

    def examples(self) -> Iterator[Graph]:
        for axis, shapes in (
            (3, ((1, 2, 3, 2), (1, 2, 3, 5))),
            (1, ((1, 2, 3), (1, 4, 3), (1, 1, 3))),
            (0, ((2, 3), (1, 3))),
        ):
            for dtype in ("int8", "int16", "uint8"):
                kinds = [quantised(dtype, s, 0.1) for s in shapes]
                yield single(self.name, ConcatAttrs(axis), kinds, [(dtype, 0.1, 0)])
            scaled = [quantised("uint8", s, 0.03 * (i + 1), 20 * i) for i, s in enumerate(shapes)]
            yield single(self.name, ConcatAttrs(axis), scaled, [("uint8", 0.06, 20)], Contract.TFLITE)
