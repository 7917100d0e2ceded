"""Div: a tensor over constants, one or one per channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval, Requant, exact_requant, product_scale


@dataclass(frozen=True)
class DivAttrs(ew.ClampAttrs):
    """clamp: the fused activation."""


@dataclass(frozen=True, eq=False)
class DivParams:
    """zero_point: of x; signs: of the divisors, int64 (channels,); requant: of (x - zero_point) * sign, per channel."""

    zero_point: int
    signs: Ints
    requant: Requant


@register
class Div(ew.BinaryLimits, Operator[DivAttrs, DivParams]):
    """Inputs: x (..., C), constant divisors of C elements or one. Output: of x's shape."""

    name = "Div"
    attrs = DivAttrs
    variants = (Variant("portable", "div.c.j2", lead=elementwise_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        return ew.broadcast(node, inputs)

    @limit
    def divisors(self, ctx: Context) -> bool:
        """The divisors are constant, not zero, and one in all or one per channel of the last axis."""
        x, y = ctx.input(0), ctx.input(1)
        if 1 not in ctx.constants or ctx.output.shape != x.shape:
            return False
        per_channel = bool(x.shape) and y.elements == x.shape[-1] == (y.shape or (1,))[-1]
        return (y.elements == 1 or per_channel) and bool(np.all(ctx.integers(1) != y.zero_point))

    @limit
    def not_tflite(self, ctx: Context) -> bool:
        """The contract is onnx or exact (LiteRT has no int8 division)."""
        return ctx.contract is not Contract.TFLITE

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, y = inputs
        assert x is not None and y is not None
        return [ctx.node.attrs.clamp.apply(x / y)]

    def _maps(self, ctx: Context) -> tuple[list[AffineMap], Ints]:
        x, y, out = ctx.input(0), ctx.input(1), ctx.output
        low, high = ctx.node.attrs.clamp.integers(out, ctx.contract)
        divisors = ctx.integers(1).ravel() - y.zero_point
        ratio = product_scale((x.scale,), (y.scale, out.scale))
        maps = [
            AffineMap(ratio * Fraction(1, abs(int(d))), out.zero_point, low, high, acc.rounding(ctx.contract))
            for d in divisors
        ]
        return maps, np.sign(divisors)

    def lower(self, ctx: Context) -> DivParams:
        maps, signs = self._maps(ctx)
        zero = ctx.input(0).zero_point
        size = max(abs(v - zero) for v in ctx.ranges[0])
        return DivParams(zero, signs, exact_requant(maps, [(-size, size)] * len(maps), str(ctx.node)))

    def evaluate(self, ctx: Context, params: DivParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [params.requant.apply((inputs[0] - params.zero_point) * params.signs)]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        maps, signs = self._maps(ctx)
        assert inputs[0] is not None
        value = (inputs[0] - ctx.input(0).zero_point) * signs
        if len(maps) == 1:
            return [maps[0].apply(value)]
        return [np.stack([m.apply(value[..., c]) for c, m in enumerate(maps)], axis=-1)]

    def output_ranges(self, ctx: Context, params: DivParams) -> tuple[Interval, ...]:
        return ((params.requant.low, params.requant.high),)

    def examples(self) -> Iterator[Graph]:
        for contract in (Contract.EXACT, Contract.ONNX):
            for dtype, scale, zero in ((DType.INT8, 0.05, 7), (DType.INT16, 0.0004, 0)):
                for values in ([40, -90, 3], [55]):
                    divisor = (quantised(dtype, (len(values),), 0.02, 0), np.array(values))
                    x = quantised(dtype, (1, 4, 3), scale, zero)
                    yield single(self.name, DivAttrs(), [x, divisor], [(dtype, scale * 2, zero)], contract)
