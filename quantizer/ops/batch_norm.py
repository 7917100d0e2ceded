"""BatchNorm: a scale and an offset per channel, where no layer could take them in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import ProofError, UnsupportedError
from intaglio.quantizer.fixedpoint import Ints, Rounding
from intaglio.quantizer.ir import Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops import elementwise as ew
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.lines import Lines
from intaglio.quantizer.ops.lookup import EIGHT_BITS, ChannelTables
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class BatchNormAttrs(ew.ClampAttrs):
    """clamp: the fused activation."""


@dataclass(frozen=True, eq=False)
class WideLines:
    """int16: (x * a + c) >> shift per channel, in 64 bits; a has 32.

    Attributes:
        a, c: int64 (channels,).
        shift: to the right.
        low, high: the clip.
    """

    a: Ints
    c: Ints
    shift: int
    low: int
    high: int

    def apply(self, x: Ints) -> Ints:
        """Evaluate; the last axis of x runs over the channels."""
        return fp.saturate((x * self.a + self.c) >> self.shift, self.low, self.high)


Params = Lines | ChannelTables | WideLines


@register
class BatchNorm(Operator[BatchNormAttrs, Params]):
    """Inputs: x (..., C), constant scales (C,) and offsets (C,). Output: x * scale + offset, of x's shape."""

    name = "BatchNorm"
    attrs = BatchNormAttrs
    variants = (
        *ew.CHANNEL_VARIANTS,
        Variant("portable", "batch_norm.c.j2", lead=elementwise_lead),
    )

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x = inputs[0]
        if x is None or not x.shape or any(t is None or t.elements != x.shape[-1] for t in inputs[1:3]):
            raise UnsupportedError(str(node), "scale and offset are not one per channel", "re-export the model")
        return (x.shape,)

    @limit
    def constants(self, ctx: Context) -> bool:
        """Scales and offsets are constant."""
        return {1, 2} <= set(ctx.constants)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output are both int8, both uint8 or both int16, and all are quantised per tensor."""
        kinds = (ctx.input(0), ctx.input(1), ctx.input(2), ctx.output)
        known = all(t.qparams is not None and len(t.qparams.scale) == 1 for t in kinds)
        return known and kinds[0].dtype is ctx.output.dtype and kinds[0].dtype in (*EIGHT_BITS, DType.INT16)

    @limit
    def not_tflite(self, ctx: Context) -> bool:
        """The contract is onnx or exact: TFLite has no such operator."""
        return ctx.contract is not Contract.TFLITE

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, scale, offset = inputs
        assert x is not None and scale is not None and offset is not None
        return [ctx.node.attrs.clamp.apply(x * scale.reshape(-1) + offset.reshape(-1))]

    def _clip(self, ctx: Context) -> Interval:
        clamp: acc.Clamp = ctx.node.attrs.clamp
        return clamp.integers(ctx.output, ctx.contract)

    def _rationals(self, ctx: Context) -> list[tuple[Fraction, Fraction]]:
        """Per channel, (a, c) of a * (x - zero point) + c in output steps, exactly."""
        x, scale, offset = ctx.input(0), ctx.input(1), ctx.input(2)
        out = fp.rational(ctx.output.scale)
        first, second = fp.rational(x.scale) * fp.rational(scale.scale) / out, fp.rational(offset.scale) / out
        return [
            (first * (int(s) - scale.zero_point), second * (int(o) - offset.zero_point))
            for s, o in zip(ctx.integers(1).ravel(), ctx.integers(2).ravel(), strict=True)
        ]

    def lower(self, ctx: Context) -> Params:
        if ctx.input(0).dtype is DType.INT16:
            return self._wide(ctx)
        tables = self._tables(ctx)
        slopes = [float(a) for a, _ in self._rationals(ctx)]
        return ew.channel_params(tables, ctx.input(0), self._clip(ctx), slopes)

    def _tables(self, ctx: Context) -> Ints:
        """The definition for every 8-bit input: int64 (channels, 256)."""
        values, (low, high) = ew.every_value(ctx.input(0)) - ctx.input(0).zero_point, self._clip(ctx)
        half_even = acc.rounding(ctx.contract) is Rounding.HALF_EVEN
        rows = []
        for a, c in self._rationals(ctx):
            unit = 2 * a.denominator * c.denominator
            slope, start = 2 * a.numerator * c.denominator, 2 * c.numerator * a.denominator
            row = values.astype(object) * slope + (start + unit // 2)
            rounded = row // unit
            if half_even:
                rounded = rounded - ((row % unit == 0) & (rounded % 2 != 0))
            rows.append(np.clip(rounded + ctx.output.zero_point, low, high).astype(np.int64))
        return np.stack(rows)

    def _wide(self, ctx: Context) -> WideLines:
        x, out, rationals = ctx.input(0), ctx.output, self._rationals(ctx)
        for shift in range(30, 0, -1):
            a = [round(a * 2**shift) for a, _ in rationals]
            c = [round((c + out.zero_point - s * x.zero_point) * 2**shift) + (1 << shift >> 1) for s, c in rationals]
            if max(map(abs, a)) < 2**31 and max(map(abs, c)) < 2**62:
                return WideLines(np.array(a, np.int64), np.array(c, np.int64), shift, *self._clip(ctx))
        raise ProofError(str(ctx.node), "a scale is 2**30 times the output's", "calibrate it anew")

    def evaluate(self, ctx: Context, params: Params, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [params.apply(inputs[0])]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        x = inputs[0]
        assert x is not None
        if ctx.input(0).dtype is DType.INT16:
            return super().define(ctx, inputs)
        tables = self._tables(ctx)
        return [tables[np.arange(len(tables)), x - ctx.input(0).dtype.low]]

    def output_ranges(self, ctx: Context, params: Params) -> tuple[Interval, ...]:
        return (self._clip(ctx),)

    def examples(self) -> Iterator[Graph]:
        rng = np.random.default_rng(3)
        for contract, dtype, scale, zero in (
            (Contract.EXACT, DType.INT8, 0.05, -7),
            (Contract.ONNX, DType.UINT8, 0.05, 120),
            (Contract.EXACT, DType.INT16, 0.0004, 0),
        ):
            for clamp in (acc.NO_CLAMP, acc.RELU):
                kinds = [quantised("int8", (5,), s, z) for s, z in ((0.02, 3), (0.03137, -9))]
                constants = [(kind, rng.integers(-128, 128, 5)) for kind in kinds]
                x = quantised(dtype, (1, 2, 3, 5), scale, zero)
                yield single(self.name, BatchNormAttrs(clamp), [x, *constants], [(dtype, scale * 1.7, zero)], contract)
