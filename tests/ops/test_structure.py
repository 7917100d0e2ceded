"""Operators that move, reduce or combine values, over random shapes, types, scales and contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.structure_graphs import GRAPHS
from ops_harness import check_all_exact, samples

from intaglio.quantizer.ir import Contract, Graph
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.pad import PadAttrs
from intaglio.quantizer.ops.sum import SumAttrs
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode, dequantise

SEEDS = st.integers(0, 2**32 - 1)


def inputs_of(graph: Graph, rng: np.random.Generator, count: int = 4) -> list[list[np.ndarray[Any, Any]]]:
    drawn = [samples(graph.types[name], rng, count) for name in graph.inputs]
    return [list(sample) for sample in zip(*drawn, strict=True)]


@pytest.mark.parametrize("op", GRAPHS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(seed=SEEDS)
def test_integers_equal_definition(op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = lower(GRAPHS[op](rng, op))
    integer, defined = Evaluator(graph, Mode.INTEGER), Evaluator(graph, Mode.DEFINED)
    (node,) = graph.nodes
    for sample in inputs_of(graph, rng):
        ours, meaning = integer.run(sample), defined.run(sample)
        for name in node.outputs:
            assert np.array_equal(ours[name], meaning[name])
            kind = graph.types[name]
            assert kind.dtype.low <= ours[name].min() and ours[name].max() <= kind.dtype.high


# Svdf rounds its state on the way; a bias without a scale has no real value.
ONE_ROUNDING = [op for op in GRAPHS if op not in ("Svdf", "TransposeConv2D")]


@pytest.mark.parametrize("op", ONE_ROUNDING)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(seed=SEEDS)
def test_contract_exact_is_within_half_a_step_of_the_reals(op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = GRAPHS[op](rng, op)
    if graph.contract is not Contract.EXACT:
        return
    graph = lower(graph)
    integer, real = Evaluator(graph, Mode.INTEGER), Evaluator(graph, Mode.REAL)
    for sample in inputs_of(graph, rng):
        reals = [dequantise(x, graph.types[n]) for x, n in zip(sample, graph.inputs, strict=True)]
        ours, meaning = integer.run(sample), real.run(reals)
        for name in graph.outputs:
            kind = graph.types[name]
            wanted = meaning[name] if kind.qparams is None else meaning[name] / kind.scale + kind.zero_point
            inside = np.clip(wanted, kind.dtype.low, kind.dtype.high)
            # A fused activation's bound is rounded on its own, which adds nothing to the half step.
            assert np.abs(ours[name] - inside).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge"])
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(seed=SEEDS)
def test_pads_are_those_of_numpy(mode: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 4)))
    room = {"reflect": -1, "symmetric": 0, "edge": 3}[mode]
    pads = tuple((int(rng.integers(0, n + room + 1)), int(rng.integers(0, n + room + 1))) for n in shape)
    graph = lower(single("Pad", PadAttrs(pads, mode), [quantised("int8", shape, 0.1)], [("int8", 0.1, 0)]))
    x = rng.integers(-128, 128, shape)
    assert np.array_equal(Evaluator(graph, Mode.INTEGER).run([x])["y0"], np.pad(x, pads, mode=mode))  # type: ignore[call-overload]


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(seed=SEEDS)
def test_sums_of_int8_are_those_of_uint8(seed: int) -> None:
    """LiteRT's reference SUM reads int8 tensors as uint8, so that only uint8 can be compared with it; int8 is the
    same integers shifted by 128 on both sides."""
    rng = np.random.default_rng(seed)
    zeros = int(rng.integers(-128, 128)), int(rng.integers(-128, 128))
    x, attrs = rng.integers(-128, 128, (3, 4, 5)), SumAttrs((0, 2))
    results = []
    for dtype, shift in (("int8", 0), ("uint8", 128)):
        kind, out = quantised(dtype, x.shape, 0.05, zeros[0] + shift), (dtype, 0.13, zeros[1] + shift)
        graph = lower(single("Sum", attrs, [kind], [out], Contract.TFLITE))
        results.append(Evaluator(graph, Mode.INTEGER).run([x + shift])["y0"] - shift)
    assert np.array_equal(*results)


def random_graphs(op: str, seed: int, count: int) -> dict[str, Graph]:
    rng = np.random.default_rng(seed)
    return {f"random_{i}": GRAPHS[op](rng, op) for i in range(count)}


@pytest.mark.parametrize("op", GRAPHS)
def test_generated_c_equals_the_integers(op: str, tmp_path: Path) -> None:
    check_all_exact(random_graphs(op, 11, 6), tmp_path, count=4)


@pytest.mark.slow
@pytest.mark.parametrize("op", GRAPHS)
def test_generated_c_equals_the_integers_in_depth(op: str, tmp_path: Path) -> None:
    check_all_exact(random_graphs(op, 12, 80), tmp_path, count=4, builds=[("gcc", "-O2", True), ("clang", "-O2", True)])
