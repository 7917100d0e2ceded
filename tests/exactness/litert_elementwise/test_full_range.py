"""Elementwise operators against LiteRT's reference kernels, with ==, over every input value (8 bits: every pair)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from exactness.litert.oracle import assert_equal
from frontends.tflite.builder import ModelBuilder, options
from numpy.typing import NDArray

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.frontends.tflite import read
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode

Array = NDArray[Any]

SEEDS = range(6)
SLOW_SEEDS = range(6, 150)

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


@dataclass(frozen=True)
class Unary:
    """An operator of one input.

    Attributes:
        version: of the operator.
        types: what LiteRT has integer kernels for.
        fixed: the output's scale that the kernel demands of 8-bit types, None where it is free.
        zero: its zero point: "low", "high" or "free".
        positive: the input must not be below its zero point.
        options: a function from a generator to the operator's options.
    """

    version: int
    types: tuple[str, ...]
    fixed: float | None = None
    zero: str = "free"
    positive: bool = False
    options: Any = None


BOTH, ALL, SIGNED = ("int8", "uint8"), ("int8", "uint8", "int16"), ("int8", "int16")

UNARY = {
    "LOGISTIC": Unary(3, ALL, 1 / 256, "low"),
    "TANH": Unary(3, ALL),
    "ELU": Unary(1, ("int8",)),
    "EXP": Unary(2, SIGNED),
    "LOG": Unary(2, SIGNED),
    "SQRT": Unary(2, ("int8",), positive=True),
    "RSQRT": Unary(3, SIGNED, positive=True),
    "ABS": Unary(3, SIGNED),
    "GELU": Unary(2, BOTH, options=lambda r: options("GeluOptions", approximate=bool(r.integers(2)))),
    "HARD_SWISH": Unary(1, BOTH),
    "LEAKY_RELU": Unary(2, ALL, options=lambda r: options("LeakyReluOptions", alpha=float(r.uniform(-1.5, 1.5)))),
    "RELU": Unary(3, ALL),
    "RELU6": Unary(3, ALL),
    "RELU_N1_TO_1": Unary(1, BOTH),
    "RELU_0_TO_1": Unary(1, BOTH),
}


def unary_model(name: str, dtype: str, seed: int) -> tuple[bytes, Array]:
    """A model of random scales, and every input that LiteRT accepts."""
    case, r = UNARY[name], np.random.default_rng([seed, len(name)])
    low, high = LIMITS[dtype]
    wide = dtype == "int16"
    x_scale = float(np.float32(10 ** r.uniform(-3, -0.7) / (256 if wide else 1)))
    y_scale = float(np.float32(10 ** r.uniform(-3, -0.7) / (256 if wide else 1)))
    x_zero = 0 if wide else int(r.integers(low, high + 1))
    y_zero = 0 if wide else {"low": low, "high": high, "free": int(r.integers(low, high + 1))}[case.zero]
    if case.fixed is not None:
        y_scale = 1 / 32768 if wide else case.fixed
    if name == "TANH" and wide:
        y_scale = 1 / 32768
    if name in ("LOGISTIC", "TANH") and wide and seed % 3 == 0:
        x_scale = 2.0**-12 if name == "LOGISTIC" else 2.0 ** -int(r.integers(11, 13))
    if name == "HARD_SWISH":
        y_scale = max(y_scale, float(np.float32(x_scale / 120)))
    if name == "EXP":
        x_scale = min(x_scale, 0.05)
    values = np.arange(low, high + 1)
    if case.positive:
        values = np.maximum(values, x_zero)
    # A model holds a part of the int16 range, so that it is of a size that we accept.
    values = values.reshape(-1, 1, len(values) // 256 or 1, 256)
    model = ModelBuilder()
    x = model.main.tensor(values.shape[1:], dtype, x_scale, x_zero)
    y = model.main.tensor(values.shape[1:], dtype, y_scale, y_zero)
    opts = case.options(r) if case.options else None
    model.main.op(name, [x], [y], opts, case.version)
    model.main.ports([x], [y])
    return model.bytes(), values.astype(dtype)


def check(model: bytes, samples: Sequence[Sequence[Array]], *, reference: bool = True) -> None:
    """Assert that our integers are LiteRT's.

    Args:
        samples: inputs of the model.
        reference: LiteRT's BUILTIN_REF kernels; otherwise its only ones.
    """
    kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    theirs = Interpreter(model_content=model, experimental_op_resolver_type=kind)
    theirs.allocate_tensors()
    graph = lower(read(model, "model.tflite", "model"))
    ours = Evaluator(graph, Mode.INTEGER)
    for sample in samples:
        for port, value in zip(theirs.get_input_details(), sample, strict=True):
            theirs.set_tensor(port["index"], value)
        theirs.invoke()
        expected = theirs.get_tensor(theirs.get_output_details()[0]["index"])
        assert_equal(ours.run(sample)[graph.outputs[0]], expected, str(graph.nodes[0]))


def check_unary(name: str, dtype: str, seeds: range) -> None:
    for seed in seeds:
        model, values = unary_model(name, dtype, seed)
        # The reference resolver has no ELU.
        check(model, [[part] for part in values], reference=name != "ELU")


ALL_UNARY = [(name, dtype) for name, case in UNARY.items() for dtype in case.types]


@pytest.mark.parametrize(("name", "dtype"), ALL_UNARY)
def test_every_value(name: str, dtype: str) -> None:
    check_unary(name, dtype, SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), ALL_UNARY)
def test_every_value_of_many_scales(name: str, dtype: str) -> None:
    check_unary(name, dtype, SLOW_SEEDS)


BINARY = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}


def binary_model(name: str, dtype: str, seed: int, constant: str) -> tuple[bytes, list[Array]]:
    """A model of random scales whose inputs make every pair (int16: many pairs).

    Args:
        constant: "no"; "one" value or one per "channel" of the second operand.
    """
    r = np.random.default_rng([seed, len(constant), ord(name[0])])
    low, high = LIMITS[dtype]
    wide = dtype == "int16"
    unit = 1 / 256 if wide else 1.0
    scales = [float(np.float32(s * unit)) for s in 10 ** r.uniform(-2, -1, 2)]
    real = {"MUL": scales[0] * scales[1] * 127 / unit, "DIV": scales[0] / scales[1] / 300}.get(name, sum(scales) / 2)
    out = float(np.float32(real * r.uniform(0.5, 2.0)))
    zeros = [0, 0, 0] if wide else [int(v) for v in r.integers(low, high + 1, 3)]
    if name in ("MAXIMUM", "MINIMUM"):
        scales, out, zeros = [scales[0]] * 2, scales[0], [zeros[0]] * 3
    every = np.arange(low, high + 1)
    if constant == "no":
        grid = np.meshgrid(every, every, indexing="ij") if not wide else r.integers(low, high + 1, (2, 128, 128))
        values = [np.asarray(v).reshape(1, len(v), -1) for v in grid]
    elif constant == "one":
        values = [every.reshape(1, 1, -1), r.integers(low, high + 1, (1,))]
    else:
        values = [np.repeat(every[:, None], 7, 1).reshape(1, 256, 7), r.integers(low, high + 1, (7,))]
    values = [v.astype(dtype) for v in values]
    if name == "DIV":
        values[1] = np.where(values[1] == zeros[1], values[1] ^ 1, values[1])
    model = ModelBuilder()
    fixed = constant != "no"
    x = model.main.tensor(values[0].shape, dtype, scales[0], zeros[0])
    y = model.main.tensor(values[1].shape, dtype, scales[1], zeros[1], data=values[1] if fixed else None)
    z = model.main.tensor(values[0].shape, dtype, out, zeros[2])
    opts = options(BINARY.get(name, "MaximumMinimumOptions"))
    if name in BINARY:
        opts.fusedActivationFunction = int(r.integers(0, 4))
    if name in ("ADD", "SUB"):
        opts.potScaleInt16 = False
    order = [y, x] if fixed and name != "DIV" and r.integers(2) else [x, y]
    model.main.op(name, order, [z], opts, 2)
    model.main.ports([x] if fixed else [x, y], [z])
    return model.bytes(), values[:1] if fixed else values


def check_binary(name: str, dtype: str, constant: str, seeds: range) -> None:
    for seed in seeds:
        model, values = binary_model(name, dtype, seed, constant)
        check(model, [values])


ALL_BINARY = [
    (name, dtype, constant)
    for name in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM")
    for dtype in ALL
    for constant in ("no", "one", "channel")
    if not (name == "DIV" and (constant == "no" or dtype == "int16")) and not (dtype == "int16" and constant != "no")
]


@pytest.mark.parametrize(("name", "dtype", "constant"), ALL_BINARY)
def test_every_pair(name: str, dtype: str, constant: str) -> None:
    check_binary(name, dtype, constant, SEEDS)


@pytest.mark.parametrize(("dtype", "zero"), [("int8", 0), ("int8", -7), ("int16", 0)])
def test_negation(dtype: str, zero: int) -> None:
    values = np.arange(LIMITS[dtype][0], LIMITS[dtype][1] + 1).astype(dtype).reshape(-1, 256)
    model = ModelBuilder()
    x, y = (model.main.tensor(values.shape, dtype, 0.03, zero) for _ in range(2))
    model.main.op("NEG", [x], [y], options("NegOptions"), 1)
    model.main.ports([x], [y])
    check(model.bytes(), [[values]])


@pytest.mark.parametrize("name", ["ADD", "SUB"])
@pytest.mark.parametrize("exponents", [(10, 10, 10), (13, 10, 10), (9, 24, 9), (4, 4, 5), (6, 7, 8)])
def test_sums_by_shifts(name: str, exponents: tuple[int, int, int]) -> None:
    """int16 of scales that are powers of two, to a thousandth of the exponent, with LiteRT's flag."""
    r = np.random.default_rng(exponents)
    near = 2.0 ** r.uniform(-0.0009, 0.0009, 3)
    model = ModelBuilder()
    x, y, z = (
        model.main.tensor((1, 128, 128), "int16", float(np.float32(2.0**-e * f)), 0)
        for e, f in zip(exponents, near, strict=True)
    )
    opts = options(BINARY[name], potScaleInt16=True, fusedActivationFunction=int(r.integers(0, 4)))
    model.main.op(name, [x, y], [z], opts, 2)
    model.main.ports([x, y], [z])
    values = r.integers(-32768, 32768, (2, 1, 128, 128)).astype(np.int16)
    values[:, :, 0] = np.array([-32768, 32767])[r.integers(0, 2, (2, 1, 128))]
    if min(exponents[:2]) != exponents[2]:
        with pytest.raises(UnsupportedError, match="input has the output's scale"):
            lower(read(model.bytes(), "model.tflite", "model"))
        with pytest.raises(RuntimeError, match="shift"):
            check(model.bytes(), [])
        return
    check(model.bytes(), [list(values)])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "constant"), ALL_BINARY)
def test_every_pair_of_many_scales(name: str, dtype: str, constant: str) -> None:
    check_binary(name, dtype, constant, SLOW_SEEDS)


def prelu_model(dtype: str, seed: int) -> tuple[bytes, list[Array]]:
    """PRELU with a slope per channel (every third: one), on every input."""
    r = np.random.default_rng(seed)
    low, high = LIMITS[dtype]
    wide = dtype == "int16"
    scales = [float(np.float32(s)) for s in 10 ** r.uniform(-2.5, -1, 3)]
    zeros = [0, 0] if wide else [int(v) for v in r.integers(low, high + 1, 2)]
    slope_type = "uint8" if dtype == "uint8" else "int8"
    slope_low, slope_high = LIMITS[slope_type]
    slopes = r.integers(slope_low, slope_high + 1, 1 if seed % 3 == 0 else 4).astype(slope_type)
    values = np.repeat(np.arange(low, high + 1)[:, None], 4, 1).reshape(-1, 1, 256, 4).astype(dtype)
    model = ModelBuilder()
    unit = 256 if wide else 1
    x = model.main.tensor(values.shape[1:], dtype, scales[0] / unit, zeros[0])
    w = model.main.tensor(slopes.shape, slope_type, scales[2] / 2, int(r.integers(slope_low, slope_high)), data=slopes)
    y = model.main.tensor(values.shape[1:], dtype, scales[1] / unit, zeros[1])
    model.main.op("PRELU", [x, w], [y], None, 1)
    model.main.ports([x], [y])
    return model.bytes(), list(values)


def check_prelu(dtype: str, seeds: range) -> None:
    for seed in seeds:
        model, values = prelu_model(dtype, seed)
        check(model, [[part] for part in values])


@pytest.mark.parametrize("dtype", ALL)
def test_prelu(dtype: str) -> None:
    check_prelu(dtype, SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ALL)
def test_prelu_of_many_scales(dtype: str) -> None:
    check_prelu(dtype, range(6, 40))


CONVERSIONS = [
    (source, target)
    for source, targets in (("int8", ALL), ("uint8", ALL), ("int16", ("int8", "int16", "int32")), ("int32", SIGNED))
    for target in targets
]


def check_quantize(source: str, target: str, seeds: range) -> None:
    for seed in seeds:
        r = np.random.default_rng([seed, len(source), len(target)])
        unit = {"int8": 1, "uint8": 1, "int16": 256, "int32": 2**20}
        scales = [float(np.float32(10 ** r.uniform(-2, -1) / unit[d])) for d in (source, target)]
        limits = [LIMITS.get(d, (-(2**31), 2**31 - 1)) for d in (source, target)]
        zeros = [
            0 if d in ("int16", "int32") else int(r.integers(*lim))
            for d, lim in zip((source, target), limits, strict=True)
        ]
        if source == "int32":
            values = r.integers(-(2**24), 2**24, (1, 1, 256, 16))
        else:
            values = np.arange(limits[0][0], limits[0][1] + 1).reshape(-1, 1, 1, 256)
        values = values.astype(source)
        model = ModelBuilder()
        x = model.main.tensor(values.shape[1:], source, scales[0], zeros[0])
        y = model.main.tensor(values.shape[1:], target, scales[1], zeros[1])
        model.main.op("QUANTIZE", [x], [y], None, 2)
        model.main.ports([x], [y])
        check(model.bytes(), [[part] for part in values])


@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_quantize(source: str, target: str) -> None:
    check_quantize(source, target, range(2))


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_quantize_of_many_scales(source: str, target: str) -> None:
    check_quantize(source, target, range(2, 12))


def softmax_rows(dtype: str, columns: int, r: np.random.Generator) -> Array:
    """Rows of extremes, of everything, and of values close to each other."""
    low, high = LIMITS[dtype]
    rows = r.integers(low, high + 1, (24, columns))
    rows[0], rows[1] = low, high
    rows[2, 1:] = low
    rows[2, 0] = high
    rows[3:12] = np.clip(r.normal((low + high) / 2, (high - low) / 30, (9, columns)), low, high)
    return rows[None].astype(dtype)


def check_softmax(name: str, source: str, target: str, seeds: range) -> None:
    for seed in seeds:
        r = np.random.default_rng([seed, len(name), len(source), len(target)])
        # From 512 on LiteRT's softmax of 8 bits can abort: a shift of its exceeds 31.
        columns = int(r.choice([1, 2, 5, 12, 100, 511 if name == "SOFTMAX" else 700]))
        unit = 256 if source == "int16" else 1
        scale = float(np.float32(10 ** r.uniform(-3, 0.4) / unit))
        low, high = LIMITS[target]
        out = (1 / 16, high) if name == "LOG_SOFTMAX" else (1 / 256, low)
        if target == "int16":
            out = (1 / 32768, 0) if source == "int16" else (1 / 65536, low)
        values = softmax_rows(source, columns, r)
        opts = options("LogSoftmaxOptions")
        if name == "SOFTMAX":
            opts = options("SoftmaxOptions", beta=float(np.float32(r.choice([1.0, 0.5, 1.7]))))
        model = ModelBuilder()
        x = model.main.tensor(values.shape, source, scale, 0 if source == "int16" else 3)
        y = model.main.tensor(values.shape, target, *out)
        model.main.op(name, [x], [y], opts, 2 if name == "LOG_SOFTMAX" else 3)
        model.main.ports([x], [y])
        check(model.bytes(), [[values]])


SOFTMAX = [
    ("SOFTMAX", "int8", "int8"),
    ("SOFTMAX", "uint8", "uint8"),
    ("SOFTMAX", "int8", "int16"),
    ("SOFTMAX", "int16", "int16"),
    ("LOG_SOFTMAX", "int8", "int8"),
    ("LOG_SOFTMAX", "uint8", "uint8"),
]


@pytest.mark.parametrize(("name", "source", "target"), SOFTMAX)
def test_softmax(name: str, source: str, target: str) -> None:
    check_softmax(name, source, target, SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source", "target"), SOFTMAX)
def test_softmax_of_many_scales(name: str, source: str, target: str) -> None:
    check_softmax(name, source, target, SLOW_SEEDS)
