"""Operators that move, reduce or combine values against LiteRT's reference kernels, with ==."""

from __future__ import annotations

from typing import Any

import pytest
from exactness.litert.test_operators import QUICK, SLOW, check
from exactness.litert_structure import structure_cases as cases
from hypothesis import strategies as st

ALL = ("int8", "uint8", "int16")
CASES: dict[str, st.SearchStrategy[bytes]] = {}


def add(name: str, dtypes: tuple[str, ...], strategy: Any, *args: Any) -> None:
    """Add an operator for each type of activation."""
    for dtype in dtypes:
        CASES[f"{name}-{dtype}"] = strategy(dtype, *args)


for _op in ("MEAN", "REDUCE_MAX", "REDUCE_MIN"):
    add(_op, ALL, cases.reduction, _op)
# The reference kernel reads the bytes of int8 and int16 tensors as uint8; tests/ops/test_structure.py shows that our
# sums of int8 are those of uint8 shifted.
add("SUM", ("uint8",), cases.reduction, "SUM")
for _op in ("PAD", "PADV2", "MIRROR_PAD"):
    add(_op, ALL, cases.pad, _op)
add("CONCATENATION", ALL, cases.concatenation)
add("STRIDED_SLICE", ALL, cases.strided_slice)
add("SLICE", ALL, cases.part)
add("SPLIT_V", ALL, cases.split)
add("TRANSPOSE", ALL, cases.transpose)
add("GATHER", ALL, cases.gather)
add("RESIZE_BILINEAR", ALL, cases.resize, "RESIZE_BILINEAR")
add("RESIZE_NEAREST_NEIGHBOR", ALL, cases.resize, "RESIZE_NEAREST_NEIGHBOR")
for _op in ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE"):
    add(_op, ("int8", "uint8"), cases.blocks, _op)
for _op in ("ARG_MAX", "ARG_MIN"):
    add(_op, ("int8", "uint8"), cases.arg, _op)
add("TOPK_V2", ALL, cases.top_k)
add("BATCH_MATMUL", ("int8", "int16"), cases.batch_matmul)
add("VARIABLE", ALL, cases.variable)
add("SVDF", ("int8",), cases.svdf)


@pytest.mark.parametrize("name", CASES)
def test_operator_equals_litert(name: str) -> None:
    check(CASES[name], QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_operator_equals_litert_in_depth(name: str) -> None:
    check(CASES[name], SLOW)
