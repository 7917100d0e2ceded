"""Every operator against LiteRT's reference kernels, with ==, over drawn models."""

from __future__ import annotations

from typing import Any

import pytest
from exactness.litert import cases
from exactness.litert.oracle import Pair, random_inputs
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

QUICK, SLOW = 12, 400

ALL = ("int8", "uint8", "int16")
CASES: dict[str, st.SearchStrategy[bytes]] = {}


def add(name: str, dtypes: tuple[str, ...], strategy: Any, *args: Any, **kwargs: Any) -> None:
    """Add an operator for each type of activation."""
    for dtype in dtypes:
        CASES[f"{name}-{dtype}"] = strategy(dtype, *args, **kwargs)


add("CONV_2D", ALL, cases.conv)
add("DEPTHWISE_CONV_2D", ALL, cases.depthwise)
add("FULLY_CONNECTED", ALL, cases.fully_connected)
for _op in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
    add(_op, ALL, cases.pool, _op)
for _op in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
    add(_op, ALL, cases.binary, _op)
for _op in ("RELU", "RELU6", "RELU_N1_TO_1"):
    add(_op, ("int8", "uint8", "int16") if _op != "RELU_N1_TO_1" else ("int8", "uint8"), cases.unary, _op)
for _op in ("RESHAPE", "PACK", "UNPACK", "SPLIT"):
    add(_op, ALL if _op != "UNPACK" else ("int8", "uint8"), getattr(cases, _op.lower()))
add("TRANSPOSE_CONV", ALL, cases.transpose_conv)
add("PRELU", ("int8", "uint8"), cases.prelu)
add("SOFTMAX", ALL, cases.softmax)
add("SOFTMAX_TO_INT16", ("int8",), cases.softmax, True)
_INTEGERS = ("int8", "uint8", "int16", "int32")
# LiteRT has no kernels for these.
_NOT_REQUANTISED = (
    *(("int8", "int32"), ("uint8", "int16"), ("uint8", "int32")),
    *(("int16", "uint8"), ("int32", "uint8"), ("int32", "int32")),
)
for _from in _INTEGERS:
    for _to in _INTEGERS:
        CASES[f"CAST-{_from}-{_to}"] = cases.cast(_from, _to)
        if (_from, _to) not in _NOT_REQUANTISED:
            CASES[f"QUANTIZE-{_from}-{_to}"] = cases.requantise(_from, _to)


def check(strategy: st.SearchStrategy[bytes], examples: int) -> None:
    """Run drawn models in both engines."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(model: bytes) -> None:
        try:
            pair = Pair(model)
        except RuntimeError:
            # LiteRT refuses some combinations of scales that no converter writes.
            assume(False)
        for sample in random_inputs(pair.graph, 4):
            pair.run(sample)

    run()


@pytest.mark.parametrize("name", CASES)
def test_operator_equals_litert(name: str) -> None:
    check(CASES[name], QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_operator_equals_litert_in_depth(name: str) -> None:
    check(CASES[name], SLOW)
