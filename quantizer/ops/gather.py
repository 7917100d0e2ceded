"""Gather: parts of a tensor picked along an axis by constant indices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, DType, Graph, Node, TensorType
from intaglio.quantizer.ops.arg_extremum import Rows
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, limit, register, streaming_lead
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class GatherAttrs(Attrs):
    """axis: of x, that the indices count along."""

    axis: int


@dataclass(frozen=True, eq=False)
class GatherParams:
    """rows: of x along the axis; indices: int64 (count,)."""

    rows: Rows
    indices: Ints


def gather_lead(kernel: Kernel) -> tuple[int | None, ...]:
    """Runs are moved one after the other."""
    rows, indices = kernel.params.rows, kernel.params.indices
    reads = ((np.arange(rows.outer)[:, None] * rows.length + indices) * rows.inner).ravel()
    ends = (np.arange(len(reads)) + 1) * rows.inner
    size = kernel.x.dtype.bytes
    return (streaming_lead(ends * size, reads * size), None)


@register
class Gather(Operator[GatherAttrs, GatherParams]):
    """Inputs: x, constant indices (any shape). Output: x with the axis replaced by the indices' shape."""

    name = "Gather"
    attrs = GatherAttrs
    same_scale = True
    variants = (Variant("portable", "gather.c.j2", lead=gather_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, indices, axis = inputs[0], inputs[1], node.attrs.axis
        if x is None or indices is None or not 0 <= axis < len(x.shape):
            raise UnsupportedError(str(node), f"axis {axis} is not one of the input's", "re-export the model")
        return ((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]),)

    @limit
    def constant_indices(self, ctx: Context) -> bool:
        """The indices are constant and within the axis; x is not."""
        if 1 not in ctx.constants or 0 in ctx.constants:
            return False
        indices = ctx.integers(1)
        return bool(indices.min() >= 0 and indices.max() < ctx.input(0).shape[ctx.node.attrs.axis])

    @limit
    def same_type(self, ctx: Context) -> bool:
        """Input and output have one type, scale and zero point."""
        return (ctx.input(0).dtype, ctx.input(0).qparams) == (ctx.output.dtype, ctx.output.qparams)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        return [np.take(inputs[0], ctx.integers(1), axis=ctx.node.attrs.axis)]

    def lower(self, ctx: Context) -> GatherParams:
        return GatherParams(Rows.along(ctx.input(0).shape, ctx.node.attrs.axis), ctx.integers(1).ravel())

    def evaluate(self, ctx: Context, params: GatherParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [np.take(inputs[0], ctx.integers(1), axis=ctx.node.attrs.axis)]

    def output_ranges(self, ctx: Context, params: GatherParams) -> tuple[Interval, ...]:
        return (ctx.ranges[0],)

    def examples(self) -> Iterator[Graph]:
        cases = [
            ((1, 6, 5), 1, [[0, 5], [2, 2]]),
            ((1, 6, 5), 2, [4, 0, 1]),
            ((7,), 0, [6, 5, 4, 3, 2, 1, 0, 0]),
            ((3, 4), 0, [1, 2]),
        ]
        for dtype in ("int8", "int16", "int32"):
            for shape, axis, indices in cases:
                scale = None if dtype == "int32" else 0.1
                picked = np.array(indices)
                kind = TensorType(DType.INT32, picked.shape)
                inputs: list[Any] = [quantised(dtype, shape, scale), (kind, picked)]
                yield single(self.name, GatherAttrs(axis), inputs, [(dtype, scale, 0)])
