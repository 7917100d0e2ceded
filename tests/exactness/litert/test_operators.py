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
