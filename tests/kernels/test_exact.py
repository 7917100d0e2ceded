"""Every kernel of convolution, depthwise and fully connected layers equals the integer reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layers import available, generate, inputs, random_chain, random_layer, side_by_side, tight, variants

from intaglio.boards.cores import CORES
from intaglio.host.hostrun import run_on_host
from intaglio.host.simcore import run_on_core
from intaglio.quantizer.ir import Contract
from intaglio.quantizer.reference import Evaluator, Mode

HOST_CORES = ("cortex-m0", "cortex-m3", "cortex-m4")
OPERATORS = ("Conv2D", "DepthwiseConv2D", "FullyConnected")


@pytest.mark.parametrize("contract", [Contract.TFLITE, Contract.EXACT, Contract.ONNX])
@pytest.mark.parametrize("core", HOST_CORES)
def test_random_layers_on_the_host_under_sanitizers(core: str, contract: Contract, tmp_path: Path) -> None:
    rng = np.random.default_rng(HOST_CORES.index(core))
    graph = side_by_side([random_layer(rng, contract) for _ in range(24)], contract)
    lowered, _ = generate(graph, CORES[core], tmp_path / "lib")
    samples = inputs(lowered, rng)
    result = run_on_host(tmp_path / "lib", samples, opt="-O1", sanitize=True, trace=False)
    reference = Evaluator(lowered, Mode.INTEGER)
    for sample, outputs in zip(samples, result.outputs, strict=True):
        expected = reference.run(sample)
        for node, output in zip(lowered.nodes, outputs, strict=True):
            assert np.array_equal(expected[node.outputs[0]], output), (core, node.op, node.attrs, output.shape)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55"])
def test_random_layers_on_the_core(core: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    graph = side_by_side([random_layer(rng, Contract.TFLITE) for _ in range(40)], Contract.TFLITE)
    lowered, library = generate(graph, CORES[core], tmp_path / "lib")
    samples = inputs(lowered, rng)
    result = run_on_core(tmp_path / "lib", CORES[core], samples, count=False)
    reference = Evaluator(lowered, Mode.INTEGER)
    for sample, outputs in zip(samples, result.outputs, strict=True):
        expected = reference.run(sample)
        for node, output in zip(lowered.nodes, outputs, strict=True):
            assert np.array_equal(expected[node.outputs[0]], output), (core, node.op, node.attrs, output.shape)
    if core == "cortex-m4":
        assert {f"{op}/dsp" for op in OPERATORS} <= variants(library)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("core", HOST_CORES)
def test_the_output_may_lie_as_close_to_the_input_as_the_kernel_says(
    core: str, backwards: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    graph = side_by_side([random_layer(rng, Contract.TFLITE) for _ in range(24)], Contract.TFLITE)
    monkeypatch.setattr("intaglio.codegen.schedule.make_plan", tight(backwards))
    lowered, library = generate(graph, CORES[core], tmp_path / "lib")
    overlapping = [
        node.op
        for node in lowered.nodes
        for x, y in [(library.plan.offsets[node.inputs[0]], library.plan.offsets[node.outputs[0]])]
        if x < y + lowered.types[node.outputs[0]].bytes and y < x + lowered.types[node.inputs[0]].bytes
    ]
    assert len(overlapping) >= 10
    samples = inputs(lowered, rng, 5)
    result = run_on_host(tmp_path / "lib", samples, opt="-O1", trace=False)
    reference = Evaluator(lowered, Mode.INTEGER)
    for sample, outputs in zip(samples, result.outputs, strict=True):
        expected = reference.run(sample)
        for node, output in zip(lowered.nodes, outputs, strict=True):
            assert np.array_equal(expected[node.outputs[0]], output), (core, node.op, node.attrs, output.shape)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("core", HOST_CORES)
def test_chains_share_the_arena(core: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    lowered, library = generate(random_chain(rng, 8), CORES[core], tmp_path / "lib")
    side_by_side_bytes = max(
        sum(b.bytes for b in library.buffers if b.first <= i <= b.last) for i in range(len(lowered.nodes))
    )
    assert library.plan.arena_bytes < side_by_side_bytes
    samples = inputs(lowered, rng, 4)
    result = run_on_host(tmp_path / "lib", samples, opt="-O1", sanitize=True, trace=False)
    reference = Evaluator(lowered, Mode.INTEGER)
    for sample, outputs in zip(samples, result.outputs, strict=True):
        assert np.array_equal(reference.run(sample)[lowered.outputs[0]], outputs[0])


def test_every_kernel_is_reached(tmp_path: Path) -> None:
    """The sweeps above use every variant on some core."""
    reached: set[str] = set()
    for core in HOST_CORES:
        rng = np.random.default_rng(11)
        graph = side_by_side([random_layer(rng, Contract.TFLITE) for _ in range(40)], Contract.TFLITE)
        _, library = generate(graph, CORES[core], tmp_path / core)
        reached |= variants(library)
    wanted = {f"{op}/{name}" for op in OPERATORS for name in available(op)}
    # Wide accumulators and grouped convolutions are in the operators' own examples.
    assert wanted - reached <= {"Conv2D/general", "FullyConnected/general"}
