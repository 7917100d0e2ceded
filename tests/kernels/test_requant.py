"""The C of every requantisation equals the integer reference on both sides of each step of its map."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from layers import generate

from intaglio.boards.cores import CORES
from intaglio.codegen import channels
from intaglio.host.hostrun import run_on_host
from intaglio.host.simcore import run_on_core
from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedpoint import AffineMap, BinaryMap, Ints
from intaglio.quantizer.ir import Contract, DType, Graph, QParams, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.conv2d import Conv2DAttrs
from intaglio.quantizer.ops.fully_connected import FullyConnectedAttrs
from intaglio.quantizer.reference import Evaluator, Mode
from intaglio.quantizer.requant import Method

# From shifts of none to shifts that leave one bit, multipliers near both ends of [2**30, 2**31) included.
SCALES = (0.9999999, 0.5000001, 0.5, 0.3, 0.24999999, 0.0625, 0.011, 0.0039062502, 0.00097, 0.0000123)


def steps(scale: float, double: bool) -> Ints:
    """For every multiple of the output's unit in reach, the accumulators on both sides of the step to it."""
    multiplier, shift = fp.quantize_multiplier(scale)
    binary64 = BinaryMap(Fraction(scale), 0, -(2**30), 2**30)
    goal = np.arange(-256, 257)
    low, high = np.full(goal.shape, -(2**28)), np.full(goal.shape, 2**28)
    while (high - low).max() > 1:
        middle = (low + high) // 2
        value = fp.multiply_double_rounding(middle, multiplier, shift) if double else binary64.apply(middle)
        reached = value >= goal
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.unique(np.concatenate([low, high, [-(2**27), 2**27]]))


def stepping(op: str, scales: tuple[float, ...], zero: int, clamp: acc.Clamp) -> Graph:
    """A layer of one term whose channel c has accumulator bias[c] + x, and a scale of its own (convolution)."""
    bias = np.concatenate([steps(s, op == "Conv2D") for s in scales])
    owner = np.concatenate([np.full(len(steps(s, op == "Conv2D")), i) for i, s in enumerate(scales)])
    per_channel = tuple(float(np.float32(scales[i])) for i in owner) if op == "Conv2D" else (scales[0],)
    x = quantised("int8", (1, 1, 1, 1), 1.0, 0)
    axis = 0 if op == "Conv2D" else None
    wshape = (len(bias), 1, 1, 1) if op == "Conv2D" else (len(bias), 1)
    weights = TensorType(DType.INT8, wshape, QParams(per_channel, (0,) * len(per_channel), axis))
    kind = TensorType(DType.INT32, (len(bias),), QParams(per_channel, (0,) * len(per_channel), axis))
    attrs = Conv2DAttrs(clamp=clamp) if op == "Conv2D" else FullyConnectedAttrs(clamp=clamp)
    inputs = [x, (weights, np.ones(wshape)), (kind, bias)]
    return single(op, attrs, inputs, [("int8", 1.0, zero)], Contract.TFLITE)


CASES = [
    *(pytest.param("Conv2D", scales, id=f"double-{i}") for i, scales in enumerate((SCALES[:3], SCALES[3:]))),
    *(pytest.param("FullyConnected", (scale,), id=f"binary64-{scale}") for scale in (0.5, 0.24999999, 0.011)),
]


@pytest.mark.parametrize("zero, clamp", [(-128, acc.RELU), (7, acc.NO_CLAMP), (-20, acc.RELU)])
@pytest.mark.parametrize("op, scales", CASES)
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
def test_both_sides_of_each_step(
    core: str, op: str, scales: tuple[float, ...], zero: int, clamp: acc.Clamp, tmp_path: Path
) -> None:
    lowered, _ = generate(stepping(op, scales, zero, clamp), CORES[core], tmp_path / "lib")
    samples = [[np.full((1, 1, 1, 1), v, np.int8)] for v in (0, -1, 1, -2, 2, -128, 127)]
    reference = Evaluator(lowered, Mode.INTEGER)
    result = run_on_host(tmp_path / "lib", samples, opt="-O1", sanitize=True, trace=False)
    for sample, outputs in zip(samples, result.outputs, strict=True):
        assert np.array_equal(reference.run(sample)["y0"], outputs[0].reshape(lowered.types["y0"].shape))


@pytest.mark.parametrize("zero, clamp", [(-128, acc.RELU), (7, acc.NO_CLAMP)])
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m4"])
def test_both_sides_of_each_step_on_the_core(core: str, zero: int, clamp: acc.Clamp, tmp_path: Path) -> None:
    lowered, _ = generate(stepping("Conv2D", SCALES[3:], zero, clamp), CORES[core], tmp_path / "lib")
    samples = [[np.full((1, 1, 1, 1), v, np.int8)] for v in (0, -1, 1, -128, 127)]
    reference = Evaluator(lowered, Mode.INTEGER)
    result = run_on_core(tmp_path / "lib", CORES[core], samples, count=False)
    for sample, outputs in zip(samples, result.outputs, strict=True):
        assert np.array_equal(reference.run(sample)["y0"], outputs[0].reshape(lowered.types["y0"].shape))


@dataclass(frozen=True)
class Proven:
    """A layer of one term per channel under a contract with a proof; channel c has the accumulator bias[c] + x.

    Attributes:
        scales: of the input and of the output; that of the weights is 1.
        reach: the accumulators lie within +- this.
        method, bounded, high: what must be chosen: the arithmetic, whether accumulators are clipped before, whether the
            kernel works on the high word of the product.
    """

    name: str
    contract: Contract
    dtype: str
    scales: tuple[float, float]
    reach: int
    method: Method
    bounded: bool = False
    high: bool = False
    zero: int = 7
    clamp: acc.Clamp = acc.NO_CLAMP

    def graph(self, op: str) -> Graph:
        """Biases: the accumulators next to each step (int16: to every 61st), and the ends."""
        x = quantised(self.dtype, (1, 1, 1, 1), self.scales[0], 0)
        out = quantised(self.dtype, (1, 1, 1, 1), self.scales[1], self.zero)
        definition = AffineMap(
            Fraction(x.scale) / Fraction(out.scale), self.zero, x.dtype.low, x.dtype.high, acc.rounding(self.contract)
        )
        found = definition.thresholds()[:: 61 if self.dtype == "int16" else 1]
        beside = np.concatenate([found + d for d in range(-3, 4)])
        bias = np.unique(np.append(beside[np.abs(beside) <= self.reach], [-self.reach, self.reach]))
        wide = self.dtype == "int16"
        wshape = (len(bias), 1, 1, 1) if op == "Conv2D" else (len(bias), 1)
        weights = TensorType(DType.INT8, wshape, QParams((1.0,), (0,)))
        kind = TensorType(DType.INT64 if wide else DType.INT32, (len(bias),), QParams((x.scale,), (0,)))
        attrs = Conv2DAttrs(clamp=self.clamp) if op == "Conv2D" else FullyConnectedAttrs(clamp=self.clamp)
        inputs = [x, (weights, np.ones(wshape)), (kind, bias)]
        return single(op, attrs, inputs, [(self.dtype, self.scales[1], self.zero)], self.contract)


EXACT, ONNX = Contract.EXACT, Contract.ONNX
PROVEN = [
    Proven("shift", EXACT, "int8", (1.0, 64.0), 10000, Method.MUL32),
    Proven("clipped-shift", EXACT, "int8", (300.0, 1.0), 2**28, Method.MUL32, bounded=True),
    *(
        Proven(
            f"high-word-{scale}-from{zero}",
            contract,
            "int8",
            (scale, 1.0),
            2**28,
            Method.MUL64,
            False,
            True,
            zero,
            clamp,
        )
        for zero, clamp in ((7, acc.NO_CLAMP), (-128, acc.RELU), (-20, acc.RELU))
        for contract, scale in ((EXACT, 0.1234567), (ONNX, 0.0123456), (EXACT, 0.0012345), (ONNX, 0.00002345))
    ),
    Proven("product-64", EXACT, "int8", (0.7071, 1.0), 2**20, Method.MUL64),
    Proven("clipped-64-bit", EXACT, "int16", (0.0012345, 0.7), 2**44, Method.MUL96, bounded=True),
    Proven("two-words", EXACT, "int16", (0.0000223, 0.7), 2**31 - 2**17, Method.MUL96),
    Proven("two-words-of-33-bits", ONNX, "int16", (0.0000091, 0.7), 2**31 + 2**30, Method.MUL96),
    Proven("four-words", EXACT, "int16", (3.1e-9, 0.7), 2**46, Method.MUL128),
    Proven("clipped-four-words", ONNX, "int16", (3.1e-9, 0.7), 2**61, Method.MUL128, bounded=True),
    Proven("halves-to-even", ONNX, "int8", (1.0, 64.0), 2**16, Method.TIES),
    Proven("halves-to-even-int16", ONNX, "int16", (1.0, 1024.0), 2**40, Method.TIES, bounded=True),
    Proven("sixths-up", EXACT, "int8", (1.0, 6.0), 2**12, Method.TIES),
    Proven("sixths-to-even", ONNX, "int8", (5.0, 6.0), 2**12, Method.TIES),
]


@pytest.mark.parametrize("op", ["Conv2D", pytest.param("FullyConnected", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", PROVEN, ids=lambda case: case.name)
def test_every_proven_method_on_both_sides_of_each_step(case: Proven, op: str, tmp_path: Path) -> None:
    graph = case.graph(op)
    for core in ("cortex-m0", "cortex-m4"):
        lowered, _ = generate(graph, CORES[core], tmp_path / core)
        params = lowered.nodes[0].params
        assert params.requant.method is case.method
        assert (params.requant.bounds is not None) == case.bounded
        assert channels.is_high(params) == case.high
        samples = [[np.full((1, 1, 1, 1), v, graph.types["x0"].dtype.numpy)] for v in (0, -1, 1, -128, 127)]
        reference, defined = Evaluator(lowered, Mode.INTEGER), Evaluator(lowered, Mode.DEFINED)
        runs = [run_on_host(tmp_path / core, samples, opt="-O1", sanitize=True, trace=False)]
        if len(params.bias) < 4096:
            runs.append(run_on_core(tmp_path / core, CORES[core], samples, count=False))
        for i, sample in enumerate(samples):
            expected = reference.run(sample)["y0"]
            assert np.array_equal(expected, defined.run(sample)["y0"])
            for run in runs:
                assert np.array_equal(expected, run.outputs[i][0].reshape(expected.shape))
