"""Concat: tensors one after the other along an axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.movement import Array, MoveOperator, Moves, Pairs
from intaglio.quantizer.realmath import round_away
from intaglio.quantizer.requant import Interval, product_scale


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
        """Inputs and output have one type, and one scale and zero point; those of 8 bits may have scales of their own
        (in contract tflite only uint8, as LiteRT's int8 kernel does not rescale)."""
        if super().same_type(ctx):
            return True
        kinds = [t for t in (*ctx.inputs, *ctx.outputs) if t is not None]
        free = (DType.UINT8,) if ctx.contract is Contract.TFLITE else (DType.UINT8, DType.INT8)
        quantised_once = all(t.qparams is not None and len(t.qparams.scale) == 1 for t in kinds)
        return quantised_once and len({t.dtype for t in kinds}) == 1 and kinds[0].dtype in free

    def _table(self, kind: TensorType, out: TensorType, contract: Contract) -> Ints | None:
        """What the values of an input become, by their bits; None where they stay what they are."""
        if kind.qparams == out.qparams:
            return None
        values = np.arange(256, dtype=np.uint8).view(kind.dtype.numpy).astype(np.int64)
        if contract is not Contract.TFLITE:
            ratio = product_scale((kind.scale,), (out.scale,))
            definition = AffineMap(ratio, out.zero_point, out.dtype.low, out.dtype.high, acc.rounding(contract))
            return definition.apply(values - kind.zero_point)
        # LiteRT computes in binary32 (`concatenation.h`, ConcatenationWithScaling), halves away from zero.
        scale = np.float32(kind.scale) * (np.float32(1) / np.float32(out.scale))
        real = values.astype(np.float32) * scale + np.float32(-kind.zero_point) * scale
        return fp.saturate(round_away(real).astype(np.int64) + out.zero_point, 0, 255)

    def _tables(self, ctx: Context) -> tuple[Ints | None, ...]:
        return tuple(None if t is None else self._table(t, ctx.output, ctx.contract) for t in ctx.inputs)

    def lower(self, ctx: Context) -> Moves:
        return replace(super().lower(ctx), tables=self._tables(ctx))

    def evaluate(self, ctx: Context, params: Moves, inputs: Sequence[Ints | None]) -> list[Ints]:
        given = [x if (t := params.tables[i]) is None or x is None else t[x % 256] for i, x in enumerate(inputs)]
        return super().evaluate(ctx, params, given)

    def output_ranges(self, ctx: Context, params: Moves) -> tuple[Interval, ...]:
        if any(t is not None for t in params.tables):
            return ((ctx.output.dtype.low, ctx.output.dtype.high),)
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
            for dtype, contract in (("uint8", Contract.TFLITE), ("int8", Contract.EXACT), ("uint8", Contract.ONNX)):
                scaled = [quantised(dtype, s, 0.03 * (i + 1), 20 * i) for i, s in enumerate(shapes)]
                yield single(self.name, ConcatAttrs(axis), scaled, [(dtype, 0.06, 20)], contract)
