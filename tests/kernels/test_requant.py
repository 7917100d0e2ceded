"""The C of every requantisation equals the integer reference on both sides of each step of its map."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from layers import generate

from intaglio.boards.cores import CORES
from intaglio.host.hostrun import run_on_host
from intaglio.host.simcore import run_on_core
from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedpoint import BinaryMap, Ints
from intaglio.quantizer.ir import Contract, DType, Graph, QParams, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.conv2d import Conv2DAttrs
from intaglio.quantizer.ops.fully_connected import FullyConnectedAttrs
from intaglio.quantizer.reference import Evaluator, Mode

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
