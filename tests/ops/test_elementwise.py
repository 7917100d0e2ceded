"""Elementwise operators: what lowering proves, tables against exact arithmetic, distances to the real functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from intaglio.quantizer import ops, realmath
from intaglio.quantizer.errors import ProofError, UnsupportedError
from intaglio.quantizer.ir import Contract, DType, Graph
from intaglio.quantizer.ops import lines, sums
from intaglio.quantizer.ops.accumulate import NO_CLAMP, RELU, Clamp
from intaglio.quantizer.ops.base import Context, Kernel, context
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.elementwise import loops
from intaglio.quantizer.ops.log_softmax import LogSoftmaxAttrs
from intaglio.quantizer.ops.lookup import ChannelTables, PiecewiseOperator, Table, UnaryOperator, stored_values
from intaglio.quantizer.ops.softmax import SoftmaxAttrs
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode

Ints = NDArray[np.int64]

EXACT = st.sampled_from([Contract.EXACT, Contract.ONNX])
ANY = st.sampled_from(list(Contract))
SCALES = st.floats(0.001, 0.2).map(lambda s: float(np.float32(s)))
BYTES = st.sampled_from([DType.INT8, DType.UINT8])
CLAMPS = st.sampled_from([NO_CLAMP, RELU, Clamp(0.0, 6.0), Clamp(-1.0, 1.0)])

UNARY = {n: op for n, op in ops.registry().items() if isinstance(op, UnaryOperator)}
SMOOTH = sorted(n for n, op in UNARY.items() if op.smooth and not isinstance(op, PiecewiseOperator))


def zero(draw: st.DrawFn, dtype: DType) -> int:
    return draw(st.integers(dtype.low, dtype.high))


def only(graph: Graph) -> tuple[Any, Context]:
    """The operator and the context of a graph of one node."""
    return ops.operator(graph.nodes[0].op), context(graph, graph.nodes[0])


@st.composite
def pairs(draw: st.DrawFn, op: str, contracts: st.SearchStrategy[Contract] = ANY) -> Graph:
    """Two computed 8-bit inputs of any scales and zero points."""
    dtype = draw(BYTES)
    x, y = (quantised(dtype, (1,), draw(SCALES), zero(draw, dtype)) for _ in range(2))
    attrs: Any = ops.operator(op).attrs
    unit = x.scale * y.scale * 127 if op == "Mul" else (x.scale + y.scale) / 2
    out = (dtype, unit * draw(st.floats(0.3, 3.0)), zero(draw, dtype))
    return single(op, attrs(draw(CLAMPS)), [x, y], [out], draw(contracts))


def every_pair(ctx: Context) -> tuple[Ints, Ints]:
    values = stored_values(ctx.input(0))
    return values[:, None], values[None, :]


@pytest.mark.parametrize("name", ["Add", "Sub", "Mul"])
def test_what_is_lowered_equals_the_definition_on_every_pair(name: str) -> None:
    @settings(max_examples=30, deadline=None)
    @given(pairs(name))
    def check(graph: Graph) -> None:
        op, ctx = only(graph)
        x, y = every_pair(ctx)
        try:
            params = op.lower(ctx)
        except ProofError:
            assume(False)
        assert np.array_equal(params.apply(x, y), op.meaning(ctx, x, y))

    check()


@pytest.mark.parametrize("name", ["Add", "Sub", "Mul"])
def test_the_definition_is_the_rounded_rational(name: str) -> None:
    @settings(max_examples=20, deadline=None)
    @given(pairs(name, EXACT), st.integers(0, 2**32 - 1))
    def check(graph: Graph, seed: int) -> None:
        op, ctx = only(graph)
        kinds = (ctx.input(0), ctx.input(1))
        x, y = np.random.default_rng(seed).integers(kinds[0].dtype.low, kinds[0].dtype.high + 1, (2, 40))
        low, high = ctx.node.attrs.clamp.integers(ctx.output, ctx.contract)
        for got, a, b in zip(op.meaning(ctx, x, y), x, y, strict=True):
            p, q = (Fraction(k.scale) * int(v - k.zero_point) for k, v in zip(kinds, (a, b), strict=True))
            real = {"Add": p + q, "Sub": p - q, "Mul": p * q}[name] / Fraction(ctx.output.scale)
            rounded = round(real) if ctx.contract is Contract.ONNX else (real + Fraction(1, 2)).__floor__()
            assert got == min(max(rounded + ctx.output.zero_point, low), high)

    check()


def test_a_tie_that_no_line_decides_is_refused_or_exact() -> None:
    # 41 x + 67 y over 60 is nearly a tie for every sixtieth pair; the sums must be exact all the same.
    x, y = quantised("int8", (1,), 0.041, -5), quantised("int8", (1,), 0.067, 9)
    graph = single("Add", ops.operator("Add").attrs(), [x, y], [("int8", 0.06, 3)], Contract.ONNX)
    op, ctx = only(graph)
    params = op.lower(ctx)
    assert np.array_equal(params.apply(*every_pair(ctx)), op.meaning(ctx, *every_pair(ctx)))


@pytest.mark.parametrize("name", ["Add", "Sub"])
@pytest.mark.parametrize("powers", [(0, 0, 0), (0, 0, 1), (0, -1, 1), (-2, 0, 3), (1, 0, 0), (0, 0, -3)])
def test_scales_that_are_powers_of_two(name: str, powers: tuple[int, int, int]) -> None:
    for contract in (Contract.EXACT, Contract.ONNX):
        x, y = (quantised("int8", (1,), 2.0**p, z) for p, z in zip(powers[:2], (3, -8), strict=True))
        graph = single(name, ops.operator(name).attrs(), [x, y], [("int8", 2.0 ** powers[2], 5)], contract)
        op, ctx = only(graph)
        assert op.lower(ctx).form.bits == 32
        assert np.array_equal(op.lower(ctx).apply(*every_pair(ctx)), op.meaning(ctx, *every_pair(ctx)))


def test_planes_stay_within_their_words() -> None:
    plane = sums.Plane(a=2**23, b=2**23, c=0, shift=20, bits=32)
    assert plane.fits((-128, 127), (-128, 127))
    assert not replace(plane, c=-1).fits((-128, 127), (-128, 127))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=4),
    st.floats(-200, 200),
    st.sampled_from([(-128, 127), (0, 255), (-128, -1), (5, 5)]),
)
def test_lines_equal_their_tables_in_32_bits(slopes: list[float], offset: float, clip: tuple[int, int]) -> None:
    x = np.arange(-128, 128)
    tables = np.stack([np.clip(np.floor(s * x + offset + 0.5), *clip).astype(np.int64) for s in slopes])
    found = lines.fit(tables, -128, *clip, slopes)
    assume(found is not None)
    assert found is not None
    assert np.array_equal(found.apply(x[:, None]).T, tables)
    for word, table in zip(found.words, tables, strict=True):
        if found.split:
            high, low, c_low, c_high = word
            small = x * low + c_low
            steps = [small, x * high, x * high + (small >> 10), x * high + (small >> 10) + c_high]
        else:
            steps = [x * word[0], x * word[0] + word[1]]
        assert all(np.array_equal(s, s.astype(np.int32)) for s in steps)
        assert np.array_equal(np.clip(steps[-1] >> found.rest, *clip), table)


def test_no_line_bends() -> None:
    assert lines.fit(np.abs(np.arange(-128, 128))[None, :], -128, 0, 255, [1.0]) is None


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_constant_operand_folds(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["Add", "Sub", "Mul", "Div"]))
    contract, dtype = data.draw(EXACT), data.draw(BYTES)
    channels = data.draw(st.integers(1, 4))
    x = quantised(dtype, (1, 256, channels), data.draw(SCALES), zero(data.draw, dtype))
    c = quantised(dtype, (channels,), data.draw(SCALES), zero(data.draw, dtype))
    values = np.array(data.draw(st.lists(st.integers(dtype.low, dtype.high), min_size=channels, max_size=channels)))
    assume(name != "Div" or np.all(values != c.zero_point))
    first = name == "Div" or data.draw(st.booleans())
    operands: list[Any] = [x, (c, values)] if first else [(c, values), x]
    out = (dtype, data.draw(SCALES), zero(data.draw, dtype))
    graph = single(name, ops.operator(name).attrs(data.draw(CLAMPS)), operands, [out], contract)
    try:
        lowered = lower(graph)
    except ProofError:
        assume(False)
    assert channels > 1 or isinstance(lowered.nodes[0].params, Table)
    assert not (name == "Div" and channels > 1) or isinstance(lowered.nodes[0].params, lines.Lines | ChannelTables)
    sample = np.repeat(stored_values(x)[:, None], channels, 1)
    integer = Evaluator(lowered, Mode.INTEGER).run([sample])["y0"]
    assert np.array_equal(integer, Evaluator(graph, Mode.DEFINED).run([sample])["y0"])


@pytest.mark.parametrize("name", sorted(UNARY))
def test_tables_are_the_rounded_function(name: str) -> None:
    op = UNARY[name]

    @settings(max_examples=6, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        dtype = data.draw(BYTES)
        x = quantised(dtype, (1,), data.draw(SCALES), zero(data.draw, dtype))
        out = (dtype, data.draw(SCALES), zero(data.draw, dtype))
        attrs = data.draw(st.sampled_from(op.example_attrs()))
        graph = single(name, attrs, [x], [out], data.draw(EXACT))
        _, ctx = only(graph)
        params = op.lower(ctx)
        assert isinstance(params, Table)
        values = stored_values(x)
        (real,) = op.reference(ctx, [x.scale * (values - x.zero_point).astype(np.float64)])
        exact = np.clip(real / ctx.output.scale + ctx.output.zero_point, dtype.low, dtype.high)
        assert np.all(np.abs(params.apply(values) - exact) <= 0.5 + 1e-6)

    check()


@pytest.mark.parametrize(("contract", "expected"), [(Contract.EXACT, [1, 3]), (Contract.ONNX, [0, 2])])
def test_exact_ties_round_by_the_contract(contract: Contract, expected: list[int]) -> None:
    # sigmoid(0) = 1/2 and 0.5 * 5 = 5/2 on a scale of one.
    sigmoid = single(
        "Sigmoid", ops.operator("Sigmoid").attrs(), [quantised("int8", (1,), 0.1)], [("int8", 1.0, 0)], contract
    )
    product = single("Abs", ops.operator("Abs").attrs(), [quantised("int8", (1,), 0.5)], [("int8", 1.0, 0)], contract)
    found = [op.lower(ctx).apply(np.array([v]))[0] for (op, ctx), v in ((only(sigmoid), 0), (only(product), 5))]
    assert found == expected


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("reach", [1.0, 8.0])
def test_interpolated_tables_are_near_the_function(name: str, reach: float) -> None:
    """Within one step for the two roundings, plus what lines 128 integers long lack, h**2 / 8 * max |f''|, plus by how
    much the last node, one beyond the largest input, leaves the output's range."""
    op, q = UNARY[name], np.arange(-32768, 32768)
    scale = float(np.float32(reach / 32768))
    real = np.asarray(op.function(op.example_attrs()[0], q * scale, realmath.DOUBLE), np.float64)
    out_scale = float(np.float32(np.abs(real).max() / 32767))
    graph = single(name, op.example_attrs()[0], [quantised("int16", (1,), scale)], [("int16", out_scale, 0)])
    _, ctx = only(graph)
    bend = np.abs(np.diff(real[::128], 2)).max() / out_scale / 8
    (last,) = op.function(op.example_attrs()[0], np.array([32768 * scale]), realmath.DOUBLE)
    beyond = max(abs(float(last)) / out_scale - 32767, 0)
    assert np.abs(op.lower(ctx).apply(q) - real / out_scale).max() <= 1.05 + bend + beyond


@pytest.mark.parametrize(("name", "reach", "steps"), [("Sqrt", 8.0, 1.6), ("Log", 20.0, 1.3), ("Rsqrt", 500.0, 2.6)])
@pytest.mark.parametrize("contract", [Contract.EXACT, Contract.ONNX])
def test_octaves_follow_functions_to_zero(contract: Contract, name: str, reach: float, steps: float) -> None:
    op, q = UNARY[name], np.arange(-32768, 32768)
    scale = float(np.float32(reach / 32768))
    # Rsqrt leaves the output's range near 0.
    points = np.maximum(q, 100 if name == "Rsqrt" else 1) * scale
    real = np.asarray(op.function(op.attrs(), points, realmath.DOUBLE), np.float64)
    out_scale = float(np.float32(np.abs(real).max() / 32767))
    graph = single(name, op.attrs(), [quantised("int16", (1,), scale)], [("int16", out_scale, 0)], contract)
    _, ctx = only(graph)
    got = op.lower(ctx).apply(q)
    inside = q >= (100 if name == "Rsqrt" else 1)
    assert np.abs(got - real / out_scale)[inside].max() <= steps
    assert set(got[q <= 0]) == {{"Sqrt": 0, "Log": -32768, "Rsqrt": 32767}[name]}


@pytest.mark.parametrize(("zero_in", "zero_out"), [(0, 0), (-1234, 777)])
def test_reciprocal_follows_both_branches_of_the_hyperbola(zero_in: int, zero_out: int) -> None:
    op, q = UNARY["Reciprocal"], np.arange(-32768, 32768)
    x = quantised("int16", (1,), float(np.float32(20 / 32768)), zero_in)
    # At 100 steps from the pole the output's range ends.
    out_scale = float(np.float32(1 / (100 * x.scale * 31000)))
    _, ctx = only(single("Reciprocal", op.attrs(), [x], [("int16", out_scale, zero_out)]))
    got, v = op.lower(ctx).apply(q), q - zero_in
    far = np.abs(v) >= 100
    assert np.abs(got[far] - zero_out - 1 / (v[far] * x.scale) / out_scale).max() <= 5.0
    assert np.all(got[(v >= 0) & (v < 90)] == 32767)
    assert np.all(got[(v < 0) & (v > -90)] <= -32768 + max(zero_out, 0) * 2 + 1)


@pytest.mark.parametrize(("name", "whole"), [("Ceil", math.ceil), ("Floor", math.floor), ("Round", round)])
def test_steps_in_int16_are_exact_everywhere(name: str, whole: Callable[[Fraction], int]) -> None:
    q = np.arange(-32768, 32768)
    for scale, out_scale in ((0.001, 0.001), (1 / 256, 1 / 128), (1e-5, 0.25)):
        x = quantised("int16", (1,), scale, 5)
        _, ctx = only(single(name, UNARY[name].attrs(), [x], [("int16", out_scale, -3)]))
        unit = Fraction(ctx.output.scale)
        wanted = [(Fraction(whole(Fraction(x.scale) * (int(v) - 5))) / unit + Fraction(1, 2)) // 1 - 3 for v in q]
        assert np.array_equal(UNARY[name].lower(ctx).apply(q), np.clip(np.array(wanted, np.int64), -32768, 32767))


def test_too_many_steps_are_refused() -> None:
    graph = single("Floor", UNARY["Floor"].attrs(), [quantised("int16", (1,), 0.5)], [("int16", 0.5, 0)])
    with pytest.raises(ProofError, match="its 32767 steps are too many for a table in int16"):
        lower(graph)


@pytest.mark.parametrize("reach", [1.0, 10.0, 3000.0])
def test_softmax_of_int16_is_near_the_real_one(reach: float) -> None:
    rng = np.random.default_rng(4)
    for n in (2, 10, 100, 4000):
        x = quantised("int16", (24, n), float(np.float32(reach / 32767)))
        graph = single("Softmax", SoftmaxAttrs(1), [x], [("int16", 1 / 32768, 0)])
        op, ctx = only(graph)
        rows = rng.integers(-32767, 32768, (24, n))
        rows[8:16, 1:] = -32767
        rows[16:] //= 1000
        (got,) = op.evaluate(ctx, op.lower(ctx), [rows])
        (real,) = op.reference(ctx, [rows * x.scale])
        assert np.abs(got - np.minimum(real * 32768, 32767)).max() <= 0.54


def test_litert_has_no_kernel_for_every_type() -> None:
    kinds = [quantised("uint8", (1,), 0.1)], [("uint8", 0.1, 0)]
    with pytest.raises(UnsupportedError, match="what LiteRT's integer kernel does"):
        lower(single("Elu", ops.operator("Elu").attrs(), *kinds, Contract.TFLITE))


@pytest.mark.parametrize(
    ("op", "attrs", "scale", "zero_point"),
    [("Softmax", SoftmaxAttrs(1), 1 / 256, -128), ("LogSoftmax", LogSoftmaxAttrs(1), 1 / 16, 127)],
)
def test_softmax_is_within_a_step_of_the_real_one(op: str, attrs: Any, scale: float, zero_point: int) -> None:
    rng = np.random.default_rng(1)
    for n, x_scale in ((1, 0.1), (2, 0.003), (10, 0.1), (10, 0.45), (100, 0.05)):
        graph = single(op, attrs, [quantised("int8", (60, n), x_scale)], [("int8", scale, zero_point)])
        x = rng.integers(-128, 128, (60, n))
        x[:30] = np.clip(rng.normal(0, 15, (30, n)), -128, 127)
        got = Evaluator(lower(graph), Mode.INTEGER).run([x])["y0"]
        real = Evaluator(graph, Mode.REAL).run([x * x_scale])["y0"]
        assert np.abs(got - np.clip(real / scale + zero_point, -128, 127)).max() <= 0.501


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_loops_walk_as_numpy_broadcasts(shape: list[int], data: st.DataObject) -> None:
    sides = []
    for _ in range(2):
        drop = data.draw(st.integers(0, len(shape)))
        sides.append(tuple(n if data.draw(st.booleans()) else 1 for n in shape[drop:]))
    out = np.broadcast_shapes(*sides)
    graph = single(
        "Maximum", ops.operator("Maximum").attrs(), [quantised("int8", s, 0.1) for s in sides], [("int8", 0.1, 0)]
    )
    ctx = context(graph, graph.nodes[0])
    walk = loops(Kernel(graph.nodes[0], ctx.inputs, ctx.outputs, {}))
    assert int(np.prod([loop.extent for loop in walk])) == int(np.prod(out))
    for side, position in zip(sides, range(2), strict=True):
        index = np.zeros([1] * len(walk), np.int64)
        for axis, loop in enumerate(walk):
            index = (
                index
                + np.arange(loop.extent).reshape([-1 if a == axis else 1 for a in range(len(walk))])
                * (loop.strides[position])
            )
        wanted = np.broadcast_to(np.arange(int(np.prod(side))).reshape(side), out)
        assert np.array_equal(index.ravel(), wanted.ravel())


def test_ranges_narrow_the_proof() -> None:
    # Only pairs that the inputs can make bind the sum.
    graph = next(iter(ops.operator("Add").examples()))
    op, ctx = only(graph)
    narrow = replace(ctx, ranges={0: (0, 3), 1: (0, 3)})
    x, y = np.arange(4)[:, None], np.arange(4)[None, :]
    assert np.array_equal(op.lower(narrow).apply(x, y), op.meaning(ctx, x, y))


@pytest.mark.parametrize("name", ["exp", "expm1", "tanh", "erfc", "sin", "cos"])
def test_decimals_agree_with_binary64(name: str) -> None:
    points = np.arange(-140, 141)
    decimals = realmath.precise(lambda x, m: getattr(m, name)(x), points, 0.05, 1.0).astype(np.float64)
    assert np.allclose(decimals, getattr(realmath.DOUBLE, name)(points * 0.05), rtol=4e-15, atol=4e-16)
