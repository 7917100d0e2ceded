"""Operators on single elements: a table of 256 entries for 8-bit types, two scales around zero for int16.

The table is the definition: each entry is the function of one stored integer, computed in binary64 and rounded by
the contract (contract `tflite`: in binary32 steps as LiteRT's PopulateLookupTable does).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import ProofError, UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Reals, Variant, elementwise_lead, limit
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval, Method, Requant, exact_requant, product_scale, tflite_requant

A = TypeVar("A", bound=Attrs)

EIGHT_BITS = (DType.INT8, DType.UINT8)


@dataclass(frozen=True, eq=False)
class Table:
    """8-bit types: outputs by the input's bits (int64 (256,), index = input modulo 256)."""

    values: Ints


@dataclass(frozen=True, eq=False)
class Halves:
    """int16: one requantisation of x - zero_point for values >= 0, one for values below."""

    zero_point: int
    positive: Requant
    negative: Requant
    negate: bool
    """The negative half is mirrored before it is scaled (a slope below zero)."""


Params = Table | Halves


def stored_values(kind: TensorType) -> Ints:
    """Every integer of an 8-bit type, ordered by its bits: int64 (256,)."""
    bits = np.arange(256, dtype=np.int64)
    return np.where(bits > kind.dtype.high, bits - 256, bits)


def _is_8_bit(kernel: Kernel) -> bool:
    return isinstance(kernel.params, Table)


class UnaryOperator(Operator[A, Params]):
    """x -> f(x), element by element."""

    variants = (
        Variant("table", "lookup.c.j2", accepts=_is_8_bit, lead=elementwise_lead),
        Variant("halves", "halves.c.j2", lead=elementwise_lead),
    )

    @abstractmethod
    def function(self, attrs: Any, x: Reals) -> Reals:
        """f, over float64 (or float32) arrays."""

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        if inputs[0] is None:
            raise UnsupportedError(str(node), "has no input", "re-export the model")
        return (inputs[0].shape,)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output have the same 8-bit type, quantised per tensor."""
        return ctx.input(0).dtype in EIGHT_BITS and ctx.output.dtype == ctx.input(0).dtype

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        return [np.asarray(self.function(ctx.node.attrs, inputs[0]), np.float64)]

    def lower(self, ctx: Context) -> Params:
        return Table(self.table(ctx))

    def table(self, ctx: Context) -> Ints:
        """The 256 outputs, ordered by the input's bits."""
        x, out = ctx.input(0), ctx.output
        q = stored_values(x)
        if ctx.contract is Contract.TFLITE:
            real = np.float32(x.scale) * (q - x.zero_point).astype(np.float32)
            scaled = self.function(ctx.node.attrs, real).astype(np.float32) * (np.float32(1) / np.float32(out.scale))
            rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
        else:
            scaled = self.function(ctx.node.attrs, x.scale * (q - x.zero_point).astype(np.float64)) / out.scale
            rounded = np.rint(scaled) if ctx.contract is Contract.ONNX else np.floor(scaled + 0.5)
        if np.any(np.isnan(rounded)):
            first = int(q[np.isnan(rounded)][0])
            raise ProofError(str(ctx.node), f"is undefined for the input {first}", "calibrate it to its domain")
        return np.clip(rounded + out.zero_point, out.dtype.low, out.dtype.high).astype(np.int64)

    def evaluate(self, ctx: Context, params: Params, inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        if isinstance(params, Table):
            return [params.values[inputs[0] & 255]]
        value = inputs[0] - params.zero_point
        below = params.negative.apply(-value if params.negate else value)
        return [np.where(value >= 0, params.positive.apply(value), below)]

    def output_ranges(self, ctx: Context, params: Params) -> tuple[Interval, ...]:
        if isinstance(params, Table):
            low, high = ctx.ranges[0]
            reached = params.values[np.arange(low, high + 1) & 255]
            return ((int(reached.min()), int(reached.max())),)
        return ((params.positive.low, params.positive.high),)

    def example_attrs(self) -> list[Any]:
        """Attributes for the examples."""
        return [self.attrs()]

    def examples(self) -> Iterator[Graph]:
        for attrs in self.example_attrs():
            for dtype, zero, out_zero in (("int8", -7, 12), ("uint8", 120, 130)):
                for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
                    x = quantised(dtype, (1, 5, 3), 0.047, zero)
                    yield single(self.name, attrs, [x], [(dtype, 0.031, out_zero)], contract)


class PiecewiseOperator(UnaryOperator[A]):
    """f is linear on either side of zero: f(x) = x * slope(attrs)[0] for x >= 0, x * slope(attrs)[1] below."""

    @abstractmethod
    def slopes(self, attrs: Any) -> tuple[float, float]:
        """The slopes at and above zero, and below."""

    def clip(self, ctx: Context) -> Interval:
        """The clip of the output's integers."""
        return ctx.output.dtype.low, ctx.output.dtype.high

    @limit
    def types(self, ctx: Context) -> bool:
        """Input and output have the same type, int8, uint8 or int16, quantised per tensor."""
        return ctx.input(0).dtype in (*EIGHT_BITS, DType.INT16) and ctx.output.dtype == ctx.input(0).dtype

    def lower(self, ctx: Context) -> Params:
        return Table(self.table(ctx)) if ctx.input(0).dtype in EIGHT_BITS else self.halves(ctx)

    def table(self, ctx: Context) -> Ints:
        q = stored_values(ctx.input(0))
        return self.evaluate(ctx, self.halves(ctx), [q])[0]

    def halves(self, ctx: Context) -> Halves:
        """The two requantisations.

        Raises:
            ProofError: the arithmetic cannot be proven.
        """
        x, out = ctx.input(0), ctx.output
        low, high = self.clip(ctx)
        slopes = self.slopes(ctx.node.attrs)
        reach = (x.dtype.low - x.zero_point, x.dtype.high - x.zero_point)
        rqs = []
        for slope, (first, last) in zip(slopes, ((0, max(reach[1], 0)), (min(reach[0], 0), 0)), strict=True):
            if ctx.contract is Contract.TFLITE:
                # LiteRT multiplies and divides the scales in binary32.
                scale = float(np.float32(x.scale) * np.float32(abs(slope)) / np.float32(out.scale))
                rqs.append(tflite_requant([scale], out.zero_point, low, high, Method.DOUBLE))
                continue
            ratio = product_scale((x.scale,), (out.scale,)) * abs(fp.rational(slope))
            if slope < 0:
                first, last = -last, -first
            affine = AffineMap(ratio, out.zero_point, low, high, acc.rounding(ctx.contract))
            rqs.append(exact_requant([affine], [(first, last)], str(ctx.node)))
        return Halves(x.zero_point, rqs[0], rqs[1], slopes[1] < 0)

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        if ctx.contract is Contract.TFLITE:
            return super().define(ctx, inputs)
        assert inputs[0] is not None
        x, out = ctx.input(0), ctx.output
        low, high = self.clip(ctx)
        value = inputs[0] - x.zero_point
        results = []
        for slope in self.slopes(ctx.node.attrs):
            ratio = product_scale((x.scale,), (out.scale,)) * abs(fp.rational(slope))
            affine = AffineMap(ratio, out.zero_point, low, high, acc.rounding(ctx.contract))
            results.append(affine.apply(-value if slope < 0 else value))
        return [np.where(value >= 0, results[0], results[1])]

    def examples(self) -> Iterator[Graph]:
        yield from super().examples()
        for attrs in self.example_attrs():
            for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
                x = quantised("int16", (1, 5, 3), 0.0007, 0)
                yield single(self.name, attrs, [x], [("int16", 0.0009, 0)], contract)
