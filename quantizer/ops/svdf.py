"""Svdf: a layer whose weights are rank-1 filters over features and time; it remembers its last activations.

Source: Nakkiran et al., Compressing Deep Neural Networks using a Rank-Constrained Topology, 2015.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import AffineMap, Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType, Variable
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, limit, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.requant import Interval, Method, Requant, exact_requant, product_scale, tflite_requant


@dataclass(frozen=True)
class SvdfAttrs(Attrs):
    """Attributes.

    Attributes:
        rank: filters per unit.
        state_variable: the variable (1, filters * memory) that keeps the last `memory` activations of each filter.
        clamp: the fused activation; LiteRT's integer kernel knows none.
    """

    rank: int
    state_variable: str
    clamp: acc.Clamp = acc.NO_CLAMP


@dataclass(frozen=True, eq=False)
class SvdfParams:
    """Integers of both stages.

    Attributes:
        offsets: int64 (filters,), the input's zero point folded in; feature: to the state's newest column.
        wrapped: added to what `feature` gives, modulo 256: the zero point of an int8 state in contract tflite.
        bias: int64 (units,), the state's zero point folded in; time: to the output.
        intervals: of the outputs' accumulators.
    """

    offsets: Ints
    feature: Requant
    wrapped: int
    bias: Ints
    time: Requant
    intervals: tuple[Interval, ...]


@register
class Svdf(Operator[SvdfAttrs, SvdfParams]):
    """Inputs: x (1, I), weights_feature (filters, I), weights_time (filters, memory), optional bias (units,).
    Output (1, units), units = filters / rank."""

    name = "Svdf"
    attrs = SvdfAttrs
    variants = (Variant("portable", "svdf.c.j2"),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, feature, time = inputs[:3]
        rank = node.attrs.rank
        fits = (
            x is not None
            and feature is not None
            and time is not None
            and len(x.shape) == len(feature.shape) == len(time.shape) == 2
            and x.shape[1] == feature.shape[1]
            and feature.shape[0] == time.shape[0]
            and rank >= 1
            and feature.shape[0] % rank == 0
        )
        if not fits or feature is None:
            raise UnsupportedError(str(node), "input, weights and rank do not fit together", "re-export the model")
        return ((1, feature.shape[0] // rank),)

    @limit
    def batch(self, ctx: Context) -> bool:
        """The batch is 1."""
        return ctx.input(0).shape[0] == 1

    @limit
    def constant_weights(self, ctx: Context) -> bool:
        """Weights and bias are constant."""
        return {1, 2} <= set(ctx.constants) and (not ctx.has(3) or 3 in ctx.constants)

    @limit
    def types(self, ctx: Context) -> bool:
        """Input, output and feature weights are int8; state and time weights are both int16 or both int8; weights
        are symmetric and quantised per tensor."""
        state = ctx.state
        kinds = {ctx.input(0).dtype, ctx.input(1).dtype, ctx.output.dtype}
        if state is None or kinds != {DType.INT8} or state.type.dtype != ctx.input(2).dtype:
            return False
        qparams = [ctx.input(i).qparams for i in (1, 2)]
        plain = all(q is not None and len(q.scale) == 1 and q.zero_point == (0,) for q in qparams)
        return plain and state.type.dtype in (DType.INT8, DType.INT16)

    @limit
    def state_shape(self, ctx: Context) -> bool:
        """The state holds `memory` activations of each filter."""
        return ctx.state is not None and ctx.state.type.elements == ctx.input(2).elements

    def _push(self, newest: NDArray[Any], state: NDArray[Any], memory: int) -> NDArray[Any]:
        """The state with its oldest column dropped and the newest appended: (filters, memory)."""
        return np.concatenate([state.reshape(-1, memory)[:, 1:], newest.reshape(-1, 1)], axis=1)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        x, feature, time, state = inputs[0], inputs[1], inputs[2], inputs[-1]
        assert x is not None and feature is not None and time is not None and state is not None
        pushed = self._push(feature @ x.ravel(), state, time.shape[1])
        total = (pushed * time).sum(axis=1).reshape(-1, ctx.node.attrs.rank).sum(axis=1)
        bias = inputs[3] if ctx.has(3) else None
        total = total if bias is None else total + bias.ravel()
        return [ctx.node.attrs.clamp.apply(total)[None], pushed.reshape(state.shape)]

    def _maps(self, ctx: Context) -> tuple[AffineMap, AffineMap]:
        assert ctx.state is not None
        x, feature, time, out, kept = ctx.input(0), ctx.input(1), ctx.input(2), ctx.output, ctx.state.type
        low, high = ctx.node.attrs.clamp.integers(out, ctx.contract)
        mode = acc.rounding(ctx.contract)
        first = product_scale((x.scale, feature.scale), (kept.scale,))
        second = product_scale((kept.scale, time.scale), (out.scale,))
        return (
            AffineMap(first, kept.zero_point, kept.dtype.low, kept.dtype.high, mode),
            AffineMap(second, out.zero_point, low, high, mode),
        )

    def _requant(self, ctx: Context, stage: int, intervals: Sequence[Interval]) -> Requant:
        assert ctx.state is not None
        whole = (min(lo for lo, _ in intervals), max(hi for _, hi in intervals))
        if ctx.contract is not Contract.TFLITE:
            return exact_requant([self._maps(ctx)[stage]], [whole], str(ctx.node))
        kinds = (ctx.input(0), ctx.state.type, ctx.output)
        source, target = kinds[stage : stage + 2]
        scale = fp.binary32_scale((source.scale, ctx.input(stage + 1).scale), target.scale)
        # TensorFlow Lite Micro clips the newest column before it adds the zero point; LiteRT knows no state of int8.
        zero = target.zero_point if stage == 1 else 0
        return tflite_requant([scale], zero, target.dtype.low, target.dtype.high, Method.DOUBLE)

    def lower(self, ctx: Context) -> SvdfParams:
        assert ctx.state is not None
        x, kept, feature, time = ctx.input(0), ctx.state, ctx.integers(1), ctx.integers(2)
        offsets = -x.zero_point * feature.sum(axis=1)
        first = acc.mac_intervals(ctx, feature, offsets, *ctx.ranges[0], wide_allowed=False)
        to_state = self._requant(ctx, 0, first)
        wrapped = kept.type.zero_point if ctx.contract is Contract.TFLITE else 0
        low, high = (v + wrapped for v in to_state.range(first))
        if low < kept.type.dtype.low or high > kept.type.dtype.high:
            low, high = kept.type.dtype.low, kept.type.dtype.high
        low, high = min(low, int(kept.initial.min())), max(high, int(kept.initial.max()))
        units = time.reshape(ctx.output.shape[1], -1)
        bias = ctx.integers(3).ravel() if ctx.has(3) else np.zeros(len(units), np.int64)
        bias = bias - kept.type.zero_point * units.sum(axis=1)
        second = acc.mac_intervals(ctx, units, bias, low, high, wide_allowed=False)
        return SvdfParams(offsets, to_state, wrapped, bias, self._requant(ctx, 1, second), tuple(second))

    def evaluate(self, ctx: Context, params: SvdfParams, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, feature, time, state = inputs[0], inputs[1], inputs[2], inputs[-1]
        assert x is not None and feature is not None and time is not None and state is not None
        newest = params.feature.apply(feature @ x.ravel() + params.offsets)
        if params.wrapped:
            newest = (newest + params.wrapped + 128) % 256 - 128
        pushed = self._push(newest, state, time.shape[1])
        total = (pushed * time).reshape(len(params.bias), -1).sum(axis=1) + params.bias
        return [params.time.apply(total)[None], pushed.reshape(state.shape)]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        if ctx.contract is Contract.TFLITE:
            return super().define(ctx, inputs)
        x, feature, time, state = inputs[0], inputs[1], inputs[2], inputs[-1]
        assert x is not None and feature is not None and time is not None and state is not None
        assert ctx.state is not None
        to_state, to_output = self._maps(ctx)
        pushed = self._push(to_state.apply(feature @ (x.ravel() - ctx.input(0).zero_point)), state, time.shape[1])
        units = ((pushed - ctx.state.type.zero_point) * time).reshape(ctx.output.shape[1], -1)
        bias = inputs[3] if ctx.has(3) else None
        total = units.sum(axis=1) + (0 if bias is None else bias.ravel())
        return [to_output.apply(total)[None], pushed.reshape(state.shape)]

    def output_ranges(self, ctx: Context, params: SvdfParams) -> tuple[Interval, ...]:
        return (params.time.range(params.intervals),)

    def macs(self, ctx: Context) -> int:
        return ctx.input(1).elements + ctx.input(2).elements

    def examples(self) -> Iterator[Graph]:
        rng = np.random.default_rng(6)
        cases = ((5, 6, 3, 2, "int16"), (7, 4, 5, 1, "int16"), (4, 6, 2, 3, "int8"))
        for contract in (Contract.TFLITE, Contract.EXACT, Contract.ONNX):
            for size, filters, memory, rank, dtype in cases:
                zero = 0 if dtype == "int16" else -7
                limit_ = 3000 if dtype == "int16" else 128
                state = quantised(dtype, (1, filters * memory), 0.0003 if dtype == "int16" else 0.05, zero)
                weights = TensorType(DType.INT8, (filters, size), quantised("int8", (), 0.01).qparams)
                time = quantised(dtype, (filters, memory), 0.0002 if dtype == "int16" else 0.01)
                bias = quantised("int32", (filters // rank,), state.scale * time.scale)
                inputs: list[Any] = [
                    quantised("int8", (1, size), 0.05, -4),
                    (weights, rng.integers(-127, 128, weights.shape)),
                    (time, rng.integers(-limit_, limit_, time.shape)),
                    (bias, rng.integers(-3000, 3000, bias.shape)) if size != 7 else None,
                ]
                yield single(
                    self.name,
                    SvdfAttrs(rank, "memory"),
                    inputs,
                    [("int8", 0.02, 11)],
                    contract,
                    {"memory": Variable(state, np.full(state.shape, zero, state.dtype.numpy))},
                )
