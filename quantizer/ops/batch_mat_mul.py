"""BatchMatMul: matrix products of two computed tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval, Method, Requant, exact_requant, product_scale, tflite_requant


@dataclass(frozen=True)
class BatchMatMulAttrs(Attrs):
    """adj_x, adj_y: the last two axes of x or of y are swapped first."""

    adj_x: bool = False
    adj_y: bool = False


@dataclass(frozen=True, eq=False)
class MatMulParams:
    """Integers of a product.

    Attributes:
        batches: (extent, stride of x, stride of y) in elements, of the axes before the last two; stride 0 repeats.
        rows, cols, terms: of one product; x_steps: strides of x along rows and terms, y_steps: along terms and cols.
        zeros: the zero points of x and y.
        interval: of the accumulator.
    """

    batches: tuple[tuple[int, int, int], ...]
    rows: int
    cols: int
    terms: int
    x_steps: tuple[int, int]
    y_steps: tuple[int, int]
    zeros: tuple[int, int]
    requant: Requant
    interval: Interval


def _turned(value: NDArray[Any], adjoint: bool) -> NDArray[Any]:
    return value.swapaxes(-1, -2) if adjoint else value


@register
class BatchMatMul(Operator[BatchMatMulAttrs, MatMulParams]):
    """Inputs: x (..., M, K), y (..., K, N), the axes before broadcast. Output (..., M, N)."""

    name = "BatchMatMul"
    attrs = BatchMatMulAttrs
    variants = (Variant("portable", "batch_mat_mul.c.j2"),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, y, a = inputs[0], inputs[1], node.attrs
        if x is None or y is None or min(len(x.shape), len(y.shape)) < 2:
            raise UnsupportedError(str(node), "two matrices are needed", "re-export the model")
        try:
            views = [np.broadcast_to(np.uint8(0), t.shape) for t in (x, y)]
            left, right = _turned(views[0], a.adj_x), _turned(views[1], a.adj_y)
            batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
            if left.shape[-1] != right.shape[-2]:
                raise ValueError
        except ValueError:
            shapes = f"{list(x.shape)} and {list(y.shape)}"
            raise UnsupportedError(str(node), f"{shapes} cannot be multiplied", "re-export the model") from None
        return ((*batch, left.shape[-2], right.shape[-1]),)

    @limit
    def types(self, ctx: Context) -> bool:
        """Inputs and output are all int8, all uint8 or all int16, quantised per tensor; uint8 not in contract
        tflite, whose kernel has none."""
        kinds = {ctx.input(0).dtype, ctx.input(1).dtype, ctx.output.dtype}
        allowed = [DType.INT8, DType.INT16] + ([] if ctx.contract is Contract.TFLITE else [DType.UINT8])
        one_scale = all(t.qparams is not None and len(t.qparams.scale) == 1 for t in (ctx.input(0), ctx.input(1)))
        return len(kinds) == 1 and kinds.pop() in allowed and one_scale

    def _product(self, ctx: Context, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        a: BatchMatMulAttrs = ctx.node.attrs
        return np.asarray(_turned(x, a.adj_x) @ _turned(y, a.adj_y))

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None and inputs[1] is not None
        return [self._product(ctx, inputs[0], inputs[1])]

    def _map(self, ctx: Context) -> AffineMap:
        x, y, out = ctx.input(0), ctx.input(1), ctx.output
        scale = product_scale((x.scale, y.scale), (out.scale,))
        return AffineMap(scale, out.zero_point, out.dtype.low, out.dtype.high, acc.rounding(ctx.contract))

    def lower(self, ctx: Context) -> MatMulParams:
        x, y, out, a = ctx.input(0), ctx.input(1), ctx.output, ctx.node.attrs
        # Only the strides of these views are looked at; one byte per element.
        left, right = _turned(np.empty(x.shape, np.int8), a.adj_x), _turned(np.empty(y.shape, np.int8), a.adj_y)
        rank = len(out.shape)
        batches = []
        for axis in range(rank - 2):
            steps = []
            for view in (left, right):
                at = axis - (rank - view.ndim)
                steps.append(view.strides[at] if at >= 0 and view.shape[at] > 1 else 0)
            if out.shape[axis] > 1:
                batches.append((out.shape[axis], steps[0], steps[1]))
        terms = left.shape[-1]
        ends = [(p - x.zero_point) * (q - y.zero_point) * terms for p in ctx.ranges[0] for q in ctx.ranges[1]]
        interval = (min(*ends, 0), max(*ends, 0))
        return MatMulParams(
            tuple(batches),
            left.shape[-2],
            right.shape[-1],
            terms,
            (left.strides[-2], left.strides[-1]),
            (right.strides[-2], right.strides[-1]),
            (x.zero_point, y.zero_point),
            self._requant(ctx, interval),
            interval,
        )

    def _requant(self, ctx: Context, interval: Interval) -> Requant:
        x, y, out = ctx.input(0), ctx.input(1), ctx.output
        if ctx.contract is not Contract.TFLITE:
            return exact_requant([self._map(ctx)], [interval], str(ctx.node))
        wide = interval[0] < fp.INT32_LOW or interval[1] > fp.INT32_HIGH
        scale = float(np.float32(x.scale) * np.float32(y.scale)) / out.scale
        method = Method.REDUCED if x.dtype is DType.INT16 else Method.DOUBLE
        return tflite_requant([scale], out.zero_point, out.dtype.low, out.dtype.high, method, wide=wide)

    def evaluate(self, ctx: Context, params: MatMulParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None and inputs[1] is not None
        return [params.requant.apply(self._product(ctx, inputs[0] - params.zeros[0], inputs[1] - params.zeros[1]))]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        if ctx.contract is Contract.TFLITE:
            return super().define(ctx, inputs)
        assert inputs[0] is not None and inputs[1] is not None
        x, y = inputs[0] - ctx.input(0).zero_point, inputs[1] - ctx.input(1).zero_point
        return [self._map(ctx).apply(self._product(ctx, x, y))]

    def output_ranges(self, ctx: Context, params: MatMulParams) -> tuple[Interval, ...]:
        return (params.requant.range([params.interval]),)

    def macs(self, ctx: Context) -> int:
        x, a = ctx.input(0), ctx.node.attrs
        return ctx.output.elements * x.shape[-2 if a.adj_x else -1]

    def examples(self) -> Iterator[Graph]:
        cases = [
            ((1, 3, 4), (1, 4, 5), BatchMatMulAttrs()),
            ((2, 1, 3, 4), (3, 5, 4), BatchMatMulAttrs(adj_y=True)),
            ((1, 2, 4, 3), (1, 2, 4, 2), BatchMatMulAttrs(adj_x=True)),
            ((4, 3), (5, 4), BatchMatMulAttrs(True, True)),
        ]
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for dtype, zeros in (("int8", (7, -3, 11)), ("int16", (0, 0, 0))):
                for left, right, attrs in cases[:: 1 if dtype == "int8" else 2]:
                    scale = 0.1 if dtype == "int8" else 0.0003
                    x, y = quantised(dtype, left, scale, zeros[0]), quantised(dtype, right, scale, zeros[1])
                    out = (dtype, scale * scale * (500 if dtype == "int8" else 100000), zeros[2])
                    yield single(self.name, attrs, [x, y], [out], contract)
