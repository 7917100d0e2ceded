"""The operators that move, reduce and look up against LiteRT's reference kernels, with ==, over drawn models."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from exactness.litert import cases, moves
from exactness.litert.test_operators import QUICK, SLOW, check
from frontends.tflite.builder import options
from hypothesis import strategies as st

ALL = ("int8", "uint8", "int16")
CASES: dict[str, st.SearchStrategy[bytes]] = {}


def add(name: str, dtypes: tuple[str, ...], strategy: Any, *args: Any, **kwargs: Any) -> None:
    """Add an operator for each type of activation."""
    for dtype in dtypes:
        CASES[f"{name}-{dtype}"] = strategy(dtype, *args, **kwargs)


add("RESHAPE", ALL, moves.reshape)
add("TRANSPOSE", ALL, moves.transpose)
add("CONCATENATION", ALL, moves.concatenation)
add("PACK", ALL, moves.pack)
add("UNPACK", ("int8", "uint8"), moves.unpack)
add("SPLIT", ALL, moves.split)
add("SPLIT_V", ALL, moves.split_v)
add("SLICE", ALL, moves.slice_)
add("STRIDED_SLICE", ALL, moves.strided_slice)
add("GATHER", ALL, moves.gather)
for _op in ("PAD", "PADV2"):
    add(_op, ALL if _op == "PAD" else ("int8", "uint8"), moves.pad, _op)
add("MIRROR_PAD", ALL, moves.pad, "MIRROR_PAD")
add("RESIZE_NEAREST_NEIGHBOR", ALL, moves.resize, "RESIZE_NEAREST_NEIGHBOR")
add("RESIZE_BILINEAR", ALL, moves.resize, "RESIZE_BILINEAR")
add("SPACE_TO_DEPTH", ("int8", "uint8"), moves.space, "SPACE_TO_DEPTH")
add("DEPTH_TO_SPACE", ("int8", "uint8"), moves.space, "DEPTH_TO_SPACE")
for _op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
    add(_op, ALL, moves.reduction, _op)
for _op in ("ARG_MAX", "ARG_MIN"):
    add(_op, ("int8", "uint8"), moves.arg, _op)
add("TOPK_V2", ALL, moves.top_k)
add("BATCH_MATMUL", ("int8", "int16"), moves.batch_matmul)
add("TRANSPOSE_CONV", ALL, cases.transpose_conv)
add("SOFTMAX", ALL, moves.softmax)
add("SOFTMAX_TO_INT16", ("int8",), moves.softmax, True)
add("LOG_SOFTMAX", ("int8", "uint8"), moves.log_softmax)
add("PRELU", ("int8", "uint8"), moves.prelu)
for _to in ("int8", "uint8", "int16", "int32"):
    for _from in ("int8", "uint8", "int16", "int32"):
        if (_from, _to) not in (("int8", "int32"), ("uint8", "int16"), ("uint8", "int32"), ("int16", "uint8")):
            CASES[f"QUANTIZE-{_from}-{_to}"] = moves.requantise(_from, _to)
for _to in ("int8", "uint8", "int16", "int32"):
    for _from in ("int8", "uint8", "int16", "int32"):
        CASES[f"CAST-{_from}-{_to}"] = moves.cast(_from, _to)
add("LEAKY_RELU", ALL, cases.unary, "LEAKY_RELU", functools.partial(options, "LeakyReluOptions", alpha=0.1))
for _dtype in ALL:
    _low = cases.LIMITS[_dtype][0]
    _sigmoid = (2.0**-15, 0) if _dtype == "int16" else (1 / 256, _low)
    CASES[f"LOGISTIC-{_dtype}"] = cases.unary(_dtype, "LOGISTIC", None, _sigmoid)
    _tanh = (2.0**-15, 0) if _dtype == "int16" else (1 / 128, _low + 128)
    CASES[f"TANH-{_dtype}"] = cases.unary(_dtype, "TANH", None, _tanh)
for _op in ("HARD_SWISH", "GELU", "ELU", "EXP", "LOG", "SQRT", "RSQRT", "ABS", "NEG"):
    add(_op, ("int8",), cases.unary, _op)


@pytest.mark.parametrize("name", CASES)
def test_operator_equals_litert(name: str) -> None:
    check(CASES[name], QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_operator_equals_litert_in_depth(name: str) -> None:
    check(CASES[name], SLOW)
