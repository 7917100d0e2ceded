"""Operators on single elements: tables for 8-bit types, what `lookup16` has for int16.

docs/numerics.md, "Functions of one element", has every formula.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer import realmath
from intaglio.quantizer.errors import ProofError, UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, elementwise_lead, limit
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.lookup16 import STEP, Halves, Interpolated, Logistic16, Octaves, Steps, litert_nodes
from intaglio.quantizer.realmath import Arithmetic, round_away
from intaglio.quantizer.requant import TABLE_BYTES, Interval, Method, exact_requant, product_scale, tflite_requant

A = TypeVar("A", bound=Attrs)
Floats = NDArray[np.float32]

EIGHT_BITS = frozenset({DType.INT8, DType.UINT8})
SIGNED = frozenset({DType.INT8, DType.INT16})
ANY_TYPE = EIGHT_BITS | SIGNED


@dataclass(frozen=True, eq=False)
class Table:
    """8-bit inputs: outputs by the input's bits (int64 (256,), index = input modulo 256).

    Attributes:
        operand: which input of the node is looked up, where another one is constant and part of the table.
    """

    values: Ints
    operand: int = 0

    def apply(self, x: Ints) -> Ints:
        """Evaluate."""
        return np.asarray(self.values[x & 255], np.int64)


@dataclass(frozen=True, eq=False)
class ChannelTables:
    """8-bit inputs: a table per channel (int64 (channels, 256)), each as that of `Table`."""

    values: Ints
    operand: int = 0

    def apply(self, x: Ints) -> Ints:
        """Evaluate; the last axis of x runs over the channels."""
        return np.asarray(self.values[np.arange(len(self.values)), x & 255], np.int64)


Params = Table | Interpolated | Octaves | Steps | Logistic16 | Halves


def stored_values(kind: TensorType) -> Ints:
    """Every integer of an 8-bit type, ordered by its bits: int64 (256,)."""
    bits = np.arange(256, dtype=np.int64)
    return np.where(bits > kind.dtype.high, bits - 256, bits)


def is_table(kernel: Kernel) -> bool:
    """Whether the node is a table of 256 entries."""
    return isinstance(kernel.params, Table)


def litert_unit(ctx: Context, steps: int) -> bool:
    """Whether an output has the scale that LiteRT's kernel assumes: 1/steps; int16: 1/32768, zero points 0."""
    x, out = ctx.input(0), ctx.output
    if out.dtype is DType.INT16:
        return out.scale == 1 / 32768 and x.zero_point == out.zero_point == 0
    return out.scale == 1 / steps


class UnaryOperator(Operator[A, Params]):
    """x -> f(x), element by element."""

    variants: ClassVar[tuple[Variant, ...]] = (
        Variant("table", "lookup.c.j2", accepts=is_table, lead=elementwise_lead),
        Variant(
            "interpolated",
            "interpolate.c.j2",
            accepts=lambda k: isinstance(k.params, Interpolated),
            lead=elementwise_lead,
        ),
        Variant("octaves", "octaves.c.j2", accepts=lambda k: isinstance(k.params, Octaves), lead=elementwise_lead),
        Variant("steps", "steps.c.j2", accepts=lambda k: isinstance(k.params, Steps), lead=elementwise_lead),
        Variant(
            "logistic16", "logistic16.c.j2", accepts=lambda k: isinstance(k.params, Logistic16), lead=elementwise_lead
        ),
        Variant("halves", "halves.c.j2", lead=elementwise_lead),
    )
    litert: ClassVar[frozenset[DType]] = frozenset()
    """The types for which LiteRT has an integer kernel."""
    smooth: ClassVar[bool] = True
    """Lines between points 128 integers apart follow f."""
    octaves: ClassVar[bool] = False
    """f has a pole or a root at 0 and is smooth above: lines between 32 points per octave follow it."""
    odd: ClassVar[bool] = False
    """f(-x) = -f(x): what follows f above 0 is turned for what lies below (`octaves` alone)."""
    example_scales: ClassVar[tuple[float, float, int]] = (0.047, 0.031, 12)
    """Scale of the input, scale and zero point of the output in the int8 examples."""

    @abstractmethod
    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        """f over an array, in an arithmetic of `quantizer.realmath`."""

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        if inputs[0] is None:
            raise UnsupportedError(str(node), "has no input", "re-export the model")
        return (inputs[0].shape,)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output have the same type, int8, uint8 or int16."""
        return ctx.input(0).dtype in ANY_TYPE and ctx.output.dtype == ctx.input(0).dtype

    @limit
    def quantised(self, ctx: Context) -> bool:
        """Input and output are quantised per tensor."""
        return all(t.qparams is not None and len(t.qparams.scale) == 1 for t in (ctx.input(0), ctx.output))

    @limit
    def litert_kernel(self, ctx: Context) -> bool:
        """In contract tflite, this is a type for which we compute what LiteRT's integer kernel does."""
        return ctx.contract is not Contract.TFLITE or ctx.input(0).dtype in self.litert

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        return [np.asarray(self.function(ctx.node.attrs, inputs[0], realmath.DOUBLE), np.float64)]

    def lower(self, ctx: Context) -> Params:
        wide = ctx.input(0).dtype is DType.INT16
        if ctx.contract is Contract.TFLITE:
            return self.litert_nodes(ctx) if wide else Table(self.litert_table(ctx))
        if not wide:
            return Table(self.outputs(ctx, stored_values(ctx.input(0))))
        if self.octaves:
            return self.octave_table(ctx)
        return Interpolated(self.nodes(ctx)) if self.smooth else self.steps(ctx)

    def steps(self, ctx: Context) -> Steps:
        """The steps of contracts `exact` and `onnx` for int16.

        Raises:
            ProofError: they are too many for a table.
        """
        kind = ctx.input(0).dtype
        found = Steps.of(self.outputs(ctx, np.arange(kind.low, kind.high + 1)))
        if 4 * len(found.thresholds) > TABLE_BYTES:
            raise ProofError(
                str(ctx.node),
                f"its {len(found.thresholds)} steps are too many for a table in int16",
                "quantise to int8, or scale its input down",
            )
        return found

    def outputs(self, ctx: Context, stored: Ints) -> Ints:
        """The outputs of contracts `exact` and `onnx` for integers of the input."""
        x, out = ctx.input(0), ctx.output
        values = realmath.precise(
            lambda v, m: self.function(ctx.node.attrs, v, m), stored - x.zero_point, x.scale, out.scale
        )
        rounded = realmath.round_precise(values, half_even=ctx.contract is Contract.ONNX)
        return fp.saturate(rounded + out.zero_point, out.dtype.low, out.dtype.high)

    def nodes(self, ctx: Context) -> Ints:
        """The 513 outputs of contracts `exact` and `onnx` for int16."""
        x, out = ctx.input(0), ctx.output
        points = np.arange(1025) * (STEP // 2) + x.dtype.low - x.zero_point
        values = realmath.precise(lambda v, m: self.function(ctx.node.attrs, v, m), points, x.scale, out.scale)
        return (
            realmath.interpolation_nodes(
                values, out.dtype.low - out.zero_point, out.dtype.high - out.zero_point, ctx.contract is Contract.ONNX
            )
            + out.zero_point
        )

    def octave_table(self, ctx: Context) -> Octaves:
        """The table of contracts `exact` and `onnx` for int16 and a function with a pole or a root at 0."""
        x, out = ctx.input(0), ctx.output
        low, high = out.dtype.low - out.zero_point, out.dtype.high - out.zero_point
        half_even = ctx.contract is Contract.ONNX

        def function(v: Any, m: Arithmetic) -> Any:
            return self.function(ctx.node.attrs, v, m)

        values = realmath.precise(function, Octaves.points(), x.scale, out.scale)
        nodes = realmath.interpolation_nodes(values, low, high, half_even)
        (below,) = realmath.round_precise(realmath.precise(function, np.zeros(1), x.scale, out.scale), half_even)
        return Octaves(
            x.zero_point,
            nodes + out.zero_point,
            min(max(int(below), low), high) + out.zero_point,
            2 * out.zero_point if self.odd else None,
        )

    def litert_function(self, ctx: Context, x: Floats) -> Floats:
        """f as LiteRT computes it, in binary32."""
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(self.function(ctx.node.attrs, x, realmath.SINGLE), np.float32)

    def litert_table(self, ctx: Context) -> Ints:
        """LiteRT's 256 outputs, ordered by the input's bits (TFLite's `LUTPopulate` for 8 bits)."""
        x, out = ctx.input(0), ctx.output
        real = np.float32(x.scale) * (stored_values(x) - x.zero_point).astype(np.float32)
        with np.errstate(over="ignore"):
            scaled = self.litert_function(ctx, real) * (np.float32(1) / np.float32(out.scale))
        # Beyond int32 LiteRT's conversion is undefined; this saturates, as Arm's instructions do.
        rounded = np.clip(round_away(scaled), -(2.0**30), 2.0**30) + out.zero_point
        return np.clip(rounded, out.dtype.low, out.dtype.high).astype(np.int64)

    def litert_nodes(self, ctx: Context) -> Params:
        """LiteRT's parameters for int16."""
        x, out = ctx.input(0), ctx.output
        return Interpolated(
            litert_nodes(lambda v: self.litert_function(ctx, v), (x.scale, x.zero_point), (out.scale, out.zero_point))
        )

    def evaluate(self, ctx: Context, params: Params, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [params.apply(inputs[0])]

    def output_ranges(self, ctx: Context, params: Params) -> tuple[Interval, ...]:
        if isinstance(params, Table):
            low, high = ctx.ranges[0]
            reached = params.values[np.arange(low, high + 1) & 255]
            return ((int(reached.min()), int(reached.max())),)
        if isinstance(params, Interpolated):
            return ((int(params.values.min()), int(params.values.max())),)
        if isinstance(params, Halves):
            return ((params.positive.low, params.positive.high),)
        return ((ctx.output.dtype.low, ctx.output.dtype.high),)

    def example_attrs(self) -> list[Any]:
        """Attributes for the examples."""
        return [self.attrs()]

    def examples(self) -> Iterator[Graph]:
        scale, out_scale, out_zero = self.example_scales
        for attrs in self.example_attrs():
            for contract, dtype in (
                (Contract.TFLITE, DType.INT8),
                (Contract.TFLITE, DType.UINT8),
                (Contract.TFLITE, DType.INT16),
                (Contract.EXACT, DType.INT8),
                (Contract.ONNX, DType.UINT8),
                (Contract.EXACT, DType.INT16),
            ):
                litert = contract is Contract.TFLITE
                if litert and dtype not in self.litert:
                    continue
                shift = 128 if dtype is DType.UINT8 else 0
                x, out = quantised(dtype, (1, 5, 3), scale, shift - 7), (dtype, out_scale, shift + out_zero)
                if dtype is DType.INT16:
                    x = quantised(dtype, (1, 5, 3), scale / 200)
                    out = (dtype, out_scale / (128 if out_zero == -128 else 256), 0)
                yield single(self.name, attrs, [x], [out], contract)


class PiecewiseOperator(UnaryOperator[A]):
    """f is linear on either side of zero: f(x) = x * slopes(attrs)[0] for x >= 0, x * slopes(attrs)[1] below."""

    @abstractmethod
    def slopes(self, attrs: Any) -> tuple[float, float]:
        """The slopes at and above zero, and below."""

    def clip(self, ctx: Context) -> Interval:
        """The clip of the output's integers."""
        return ctx.output.dtype.low, ctx.output.dtype.high

    def lower(self, ctx: Context) -> Params:
        if ctx.input(0).dtype is DType.INT16:
            return self.halves(ctx)
        q = stored_values(ctx.input(0))
        if ctx.contract is Contract.TFLITE:
            return Table(self.litert_table(ctx))
        return Table(self.define(ctx, [q])[0])

    def litert_table(self, ctx: Context) -> Ints:
        return self.halves(ctx).apply(stored_values(ctx.input(0)))

    def halves(self, ctx: Context) -> Halves:
        """The two requantisations.

        Raises:
            ProofError: the arithmetic cannot be proven.
        """
        x, out = ctx.input(0), ctx.output
        low, high = self.clip(ctx)
        slopes, signs = self.slopes(ctx.node.attrs), self._signs(ctx)
        if ctx.contract is Contract.TFLITE:
            # LiteRT multiplies and divides the scales in binary32.
            scales = [float(np.float32(x.scale) * np.float32(abs(s)) / np.float32(out.scale)) for s in slopes]
            rqs = [tflite_requant([s], out.zero_point, low, high, Method.DOUBLE) for s in scales]
        else:
            first, last = x.dtype.low - x.zero_point, x.dtype.high - x.zero_point
            ends = [sorted((0, sign * end)) for sign, end in zip(signs, (max(last, 0), min(first, 0)), strict=True)]
            maps = self._maps(ctx)
            rqs = [exact_requant([m], [(low, high)], str(ctx.node)) for m, (low, high) in zip(maps, ends, strict=True)]
        return Halves(x.zero_point, rqs[0], rqs[1], signs)

    def _signs(self, ctx: Context) -> tuple[int, int]:
        first, second = self.slopes(ctx.node.attrs)
        return -1 if first < 0 else 1, -1 if second < 0 else 1

    def _maps(self, ctx: Context) -> list[AffineMap]:
        x, out = ctx.input(0), ctx.output
        low, high = self.clip(ctx)
        ratio = product_scale((x.scale,), (out.scale,))
        slopes = [abs(product_scale((s,), ())) for s in self.slopes(ctx.node.attrs)]
        return [AffineMap(ratio * s, out.zero_point, low, high, acc.rounding(ctx.contract)) for s in slopes]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        if ctx.contract is Contract.TFLITE:
            return super().define(ctx, inputs)
        assert inputs[0] is not None
        value = inputs[0] - ctx.input(0).zero_point
        above, below = (m.apply(value * sign) for m, sign in zip(self._maps(ctx), self._signs(ctx), strict=True))
        return [np.where(value >= 0, above, below)]
