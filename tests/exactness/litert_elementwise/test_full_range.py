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
