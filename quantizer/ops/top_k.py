"""TopK: the k largest or smallest values along an axis, in order, and their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, DType, Graph, Node, TensorType
from intaglio.quantizer.ops.arg_extremum import Rows
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class TopKAttrs(Attrs):
    """k: how many; axis: searched; largest: descending, else the smallest ascending. Of equal values the first in
    the input comes first."""

    k: int
    axis: int
    largest: bool = True


@register
class TopK(Operator[TopKAttrs, Rows]):
    """Input: x. Outputs: values, of x's type with k along the axis; their indices, int32."""

    name = "TopK"
    attrs = TopKAttrs
    same_scale = True
    variants = (Variant("portable", "top_k.c.j2"),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, a = inputs[0], node.attrs
        if x is None or not 0 <= a.axis < len(x.shape) or not 1 <= a.k <= x.shape[a.axis]:
            raise UnsupportedError(str(node), f"k {a.k} does not fit axis {a.axis}", "re-export the model")
        shape = (*x.shape[: a.axis], a.k, *x.shape[a.axis + 1 :])
        return (shape, shape)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and values have one type (int8, uint8, int16 or int32), scale and zero point; indices are int32."""
        x, values, indices = ctx.input(0), ctx.outputs[0], ctx.outputs[1]
        kinds = (DType.INT8, DType.UINT8, DType.INT16, DType.INT32)
        same = (x.dtype, x.qparams) == (values.dtype, values.qparams)
        return x.dtype in kinds and same and indices.dtype is DType.INT32

    def _select(self, ctx: Context, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        a: TopKAttrs = ctx.node.attrs
        order = np.argsort(-x if a.largest else x, axis=a.axis, kind="stable")
        indices = np.take(order, range(a.k), axis=a.axis)
        return np.take_along_axis(x, indices, axis=a.axis), indices

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        values, indices = self._select(ctx, inputs[0])
        return [values, indices.astype(np.float64)]

    def lower(self, ctx: Context) -> Rows:
        return Rows.along(ctx.input(0).shape, ctx.node.attrs.axis)

    def evaluate(self, ctx: Context, params: Rows, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        values, indices = self._select(ctx, inputs[0])
        return [values, indices.astype(np.int64)]

    def output_ranges(self, ctx: Context, params: Rows) -> tuple[Interval, ...]:
        return (ctx.ranges[0], (0, params.length - 1))

    def examples(self) -> Iterator[Graph]:
        cases = [
            ("int8", (1, 300), TopKAttrs(5, 1)),
            ("uint8", (2, 7, 3), TopKAttrs(2, 1, False)),
            ("int16", (2, 6), TopKAttrs(6, 1)),
            ("int8", (9,), TopKAttrs(1, 0)),
        ]
        for dtype, shape, attrs in cases:
            yield single(self.name, attrs, [quantised(dtype, shape, 0.1)], [(dtype, 0.1, 0), ("int32", None, 0)])
