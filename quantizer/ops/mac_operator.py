"""What the operators with one accumulator per output share, beside the arithmetic of `accumulate`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Operator, Reals, limit
from intaglio.quantizer.requant import Interval

A = TypeVar("A", bound=Attrs)


class MacOperator(Operator[A, acc.MacParams]):
    """Inputs x, weights, optional bias; `params` are `MacParams`."""

    @limit
    def weights_constant(self, ctx: Context) -> bool:
        """Weights and bias are constants."""
        return 1 in ctx.constants and (2 in ctx.constants or not ctx.has(2))

    @limit
    def types(self, ctx: Context) -> bool:
        """Activations are int8, uint8 or int16, weights int8 or uint8."""
        return ctx.input(0).dtype in (DType.INT8, DType.UINT8, DType.INT16) and ctx.input(1).dtype in (
            DType.INT8,
            DType.UINT8,
        )

    def output_ranges(self, ctx: Context, params: acc.MacParams) -> tuple[Interval, ...]:
        return (params.requant.range(params.intervals),)


class WindowOperator(MacOperator[A]):
    """A filter over the windows of an NHWC image: all but the sum over a window is the same for every kind."""

    channel_axis: int
    """Of the weights, over the output channels."""

    @limit
    def batch(self, ctx: Context) -> bool:
        """The batch is 1."""
        return ctx.input(0).shape[0] == 1

    @abstractmethod
    def sums(self, ctx: Context, x: Reals | Ints, w: Reals | Ints, fill: float) -> Reals | Ints:
        """The sum over each window: (1, Ho, Wo, O); padding counts as `fill`."""

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, w, b = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        assert x is not None and w is not None
        y = self.sums(ctx, x, w, 0.0).astype(np.float64)
        return [ctx.node.attrs.clamp.apply(y if b is None else y + b)]

    def lower(self, ctx: Context) -> acc.MacParams:
        return acc.lower_mac(ctx, self.channel_axis, padded=any(ctx.node.attrs.pads))

    def evaluate(self, ctx: Context, params: acc.MacParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        x = inputs[0]
        assert x is not None
        w = params.weights.astype(np.int64) + params.weight_offset
        total = self.sums(ctx, x, w, params.pad).astype(np.int64) + params.bias
        return [params.requant.apply(total)]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, w, b = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        assert x is not None and w is not None
        total = self.sums(ctx, x - ctx.input(0).zero_point, w - acc.weight_zero(ctx.input(1)), 0).astype(np.int64)
        # The device's parameters, whose proof takes a while, belong to the definition only where LiteRT's steps are it.
        params = self.lower(ctx) if ctx.contract is Contract.TFLITE else ctx.node.params
        return [acc.define_mac(ctx, total if b is None else total + b.ravel(), params)]
