"""Convolutions that end in a sum equal the integer reference, wherever the sum's other operand lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layers import generate, inputs, random_layer, side_by_side, variants, with_sum
from numpy.typing import NDArray

from intaglio.boards.cores import CORES, Core
from intaglio.codegen.plan import Buffer, Overlap, Plan, align, check, inputs_of, rules
from intaglio.codegen.schedule import Schedule, find_tails, schedule_with
from intaglio.host.hostrun import run_on_host
from intaglio.host.simcore import run_on_core
from intaglio.quantizer.ir import Contract, Graph
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Kernel, tail_overlap
from intaglio.quantizer.ops.build import quantised
from intaglio.quantizer.ops.conv2d import Conv2DAttrs, mac_example
from intaglio.quantizer.ops.depthwise_conv2d import DepthwiseConv2DAttrs
from intaglio.quantizer.reference import Evaluator, Mode

HOST_CORES = ("cortex-m0", "cortex-m3", "cortex-m4")
WAYS = ("in place", "forwards", "backwards", "over the input", "behind the input", "before both", "behind both")
"""Where the output lies: relative to the other operand, to the convolution's input, to both."""


def fuse_all(graph: Graph, core: Core) -> Schedule:
    """A schedule in which every tail is fused, whatever that costs."""
    return schedule_with(graph, core, find_tails(graph, core))


def fused(rng: np.random.Generator, contract: Contract, dtype: str = "int8", op: str = "Add") -> Graph:
    """A convolution of a random kind that is added to, or subtracted from, a second input."""
    return with_sum(rng, random_layer(rng, contract, dense=False, dtype=dtype), op=op)


def own_input(rng: np.random.Generator, contract: Contract) -> Graph:
    """A convolution that keeps the shape, added to its own input."""
    channels, k = int(rng.choice([1, 3, 4, 8])), int(rng.choice([1, 3]))
    shape, pads = (1, int(rng.integers(3, 8)), int(rng.integers(3, 8)), channels), (k // 2,) * 4
    if rng.integers(2):
        attrs: Any = DepthwiseConv2DAttrs(pads=pads)
        layer = mac_example("DepthwiseConv2D", attrs, shape, (1, k, k, channels), 3, "int8", contract, rng)
    else:
        attrs = Conv2DAttrs(pads=pads)
        layer = mac_example("Conv2D", attrs, shape, (channels, k, k, channels), 0, "int8", contract, rng)
    return with_sum(rng, layer, residual="x0")


def assert_exact(
    lowered: Graph, samples: Sequence[Sequence[NDArray[Any]]], outputs: Sequence[Sequence[NDArray[Any]]]
) -> None:
    """Assert that definition, integer reference and C agree."""
    reference, definition = Evaluator(lowered, Mode.INTEGER), Evaluator(lowered, Mode.DEFINED)
    for sample, got in zip(samples, outputs, strict=True):
        expected, meaning = reference.run(sample), definition.run(sample)
        for tensor, output in zip(lowered.outputs, got, strict=True):
            layer = next(n for n in lowered.nodes if n.outputs[0] == f"{tensor[:-1]}y0")
            assert np.array_equal(expected[tensor], meaning[tensor]), (layer.op, layer.attrs)
            assert np.array_equal(expected[tensor], output), (layer.op, layer.attrs, output.shape)


@pytest.mark.parametrize(
    "core, contract",
    [
        pytest.param(
            core, contract, marks=() if core == "cortex-m4" or contract is Contract.TFLITE else pytest.mark.slow
        )
        for core in HOST_CORES
        for contract in Contract
    ],
)
def test_random_layers_on_the_host_under_sanitizers(
    core: str, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(20 + HOST_CORES.index(core))
    graphs = [fused(rng, contract, op="Sub" if n % 6 == 5 else "Add") for n in range(12)]
    monkeypatch.setattr("intaglio.codegen.emit.make_schedule", fuse_all)
    lowered, library = generate(side_by_side(graphs, contract), CORES[core], tmp_path / "lib")
    assert len(library.layers) == len(graphs)
    samples = inputs(lowered, rng)
    compiler: Any = "clang" if core == "cortex-m3" else "gcc"
    result = run_on_host(tmp_path / "lib", samples, compiler, opt="-O1", sanitize=True, trace=False)
    assert_exact(lowered, samples, result.outputs)


@pytest.mark.parametrize(
    "dtype, contract", [("uint8", Contract.TFLITE), *(("int16", contract) for contract in Contract)]
)
def test_other_types(dtype: str, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    graphs = [fused(rng, contract, dtype) for _ in range(8)]
    monkeypatch.setattr("intaglio.codegen.emit.make_schedule", fuse_all)
    lowered, library = generate(side_by_side(graphs, contract), CORES["cortex-m0"], tmp_path / "lib")
    assert {name.partition("/")[2] for name in variants(library)} == {"general"}
    samples = inputs(lowered, rng)
    result = run_on_host(tmp_path / "lib", samples, opt="-O1", sanitize=True, trace=False)
    assert_exact(lowered, samples, result.outputs)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55"])
def test_random_layers_on_the_core(core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(31)
    graphs = [fused(rng, Contract.TFLITE) for _ in range(12)]
    monkeypatch.setattr("intaglio.codegen.emit.make_schedule", fuse_all)
    lowered, _ = generate(side_by_side(graphs, Contract.TFLITE), CORES[core], tmp_path / "lib")
    samples = inputs(lowered, rng)
    result = run_on_core(tmp_path / "lib", CORES[core], samples, count=False)
    assert_exact(lowered, samples, result.outputs)


def lay(way: str, at: int, sizes: dict[str, int], x: Overlap | None, r: Overlap) -> dict[str, int]:
    """Offsets from `at` on of an output, of the other operand and of the convolution's input, as close as allowed.

    Args:
        x, r: how the output may lie over the convolution's input, and over the other operand; no `x` where both are
            one tensor.
    """
    out, other = r.output, r.input
    if x is None:
        if way in ("backwards", "behind the input", "behind both") and r.lag is not None:
            return {other: at + max(-r.lag, 0), out: at + max(r.lag, 0)}
        return {out: at + max(-r.lead, 0), other: at + max(r.lead, 0)}
    inp = x.input
    x_size, r_size = align(sizes[inp]), align(sizes[other])
    if way == "in place":
        return {out: at, other: at, inp: at + r_size}
    if way == "backwards" and r.lag is not None:
        return {other: at, out: at + r.lag, inp: at + r.lag + r_size}
    if way == "over the input":
        start = at + max(-x.lead, 0)
        end = max(at + max(x.lead, 0) + x_size, start + r_size)
        return {out: start, inp: at + max(x.lead, 0), other: end}
    if way == "behind the input" and x.lag is not None:
        start = at + max(x.lag, 0)
        end = max(at + max(-x.lag, 0) + x_size, start + r_size)
        return {inp: at + max(-x.lag, 0), out: start, other: end}
    if way == "before both":
        first = at + max(x.lead, 0)
        return {out: at, inp: first, other: max(first + x_size, at + r.lead)}
    if way == "behind both" and x.lag is not None and r.lag is not None:
        second = at + r_size
        return {other: at, inp: second, out: max(at + r.lag, second + x.lag)}
    return {out: at, other: at + r.lead, inp: at + r.lead + r_size}


def lay_all(buffers: Sequence[Buffer], overlaps: Sequence[Overlap]) -> Plan:
    """A planner that lays each layer by itself, one after the other in each of the `WAYS`."""
    sizes = {b.name: b.bytes for b in buffers}
    offsets: dict[str, int] = {}
    at = 0
    for n, shared in enumerate(inputs_of(rules(overlaps)).values()):
        r = next((o for o in shared if o.in_place), shared[-1])
        x = next((o for o in shared if o is not r), None)
        offsets |= lay(WAYS[n % len(WAYS)], at, sizes, x, r)
        at = align(max(offsets[b.name] + b.bytes for b in buffers if b.name in offsets), 8)
    for b in buffers:
        if b.name not in offsets:
            offsets[b.name] = at
            at = align(at + b.bytes, 8)
    plan = Plan(offsets, at, "greedy", 0)
    assert check(buffers, overlaps, plan) == []
    return plan


@pytest.mark.parametrize("core", HOST_CORES)
def test_the_output_may_lie_as_close_as_the_kernel_says(
    core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    graphs = [fused(rng, Contract.TFLITE) for _ in range(21)] + [own_input(rng, Contract.TFLITE) for _ in range(9)]
    monkeypatch.setattr("intaglio.codegen.emit.make_schedule", fuse_all)
    monkeypatch.setattr("intaglio.codegen.schedule.make_plan", lay_all)
    lowered, library = generate(side_by_side(graphs, Contract.TFLITE), CORES[core], tmp_path / "lib")
    at = library.plan.offsets
    over = {
        (node.inputs[0] if node.inputs[0].endswith(("r", "x0")) else node.inputs[1])[-1]
        for node in lowered.nodes
        if node.op == "Add"
        for out in node.outputs
        if any(
            at[n] < at[out] + lowered.types[out].bytes and at[out] < at[n] + lowered.types[n].bytes
            for n in node.inputs
            if n in at
        )
    }
    assert over == {"r", "0"}
    samples = inputs(lowered, rng, 4)
    result = run_on_host(tmp_path / "lib", samples, opt="-O1", trace=False)
    assert_exact(lowered, samples, result.outputs)


def kernel(pixels: int, channels: int, *, backwards: bool) -> Kernel:
    """What `tail_overlap` looks at: the output's shape."""
    layer = mac_example(
        "Conv2D",
        Conv2DAttrs(clamp=acc.NO_CLAMP),
        (1, 1, pixels, 1),
        (channels, 1, 1, 1),
        0,
        "int8",
        Contract.EXACT,
        np.random.default_rng(0),
    )
    kinds = quantised("int8", (1, 1, pixels, channels), 0.1)
    made = Kernel(layer.nodes[0], (kinds,), (kinds,), {})
    return replace(made, backwards=backwards)


def survives(k: Kernel, together: int, distance: int) -> bool:
    """Whether every element of the other operand is read before a store destroys it.

    Plays a kernel's stores on bytes that carry their own index: blocks of neighbouring pixels from the first or from
    the last, channel by channel, each channel's elements read before they are stored; the last block's spare pixels
    are its last one once more.

    Args:
        distance: from the start of the output to that of the other operand.
    """
    pixels, channels = k.y.shape[2:]
    together = min(together, pixels)
    start = max(distance, 0)
    memory = [-1] * (pixels * channels + 2 * abs(distance) + 1)
    for n in range(pixels * channels):
        memory[start + n] = n
    out = start - distance
    order = list(range(pixels))[:: -1 if k.backwards else 1]
    for first in range(0, pixels, together):
        block = order[first : first + together]
        block += [block[-1]] * (together - len(block))
        for channel in range(channels):
            places = [pixel * channels + channel for pixel in block]
            if any(memory[start + n] != n for n in places):
                return False
            for n in places:
                memory[out + n] = -1
    return True


@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_the_lead_over_the_other_operand_is_the_least(
    pixels: int, channels: int, together: int, backwards: bool
) -> None:
    k = kernel(pixels, channels, backwards=backwards)
    least = tail_overlap(k, together)[backwards]
    sign = -1 if backwards else 1
    assert survives(k, together, 0)
    assert all(survives(k, together, sign * distance) for distance in range(least, least + 3 * channels + 3))
    if least > 0:
        assert not survives(k, together, sign * (least - 1))
