"""The header's helpers between real numbers and integers, compiled, against exact fractions."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from intaglio.codegen import realio
from intaglio.codegen.render import environment
from intaglio.host.toolchain import STRICT_WARNINGS
from intaglio.quantizer.ir import DType, QParams, TensorType

HARNESS = """
#include "t.h"
#include <stdio.h>
int main(void)
{
    int32_t real;
    while (fread(&real, 4, 1, stdin) == 1) {
        const int32_t out[2] = { t_input_0_quantise(real), t_output_0_dequantise((CTYPE)real) };
        fwrite(out, 4, 2, stdout);
    }
    return 0;
}
"""
CTYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t"}


def header(kind: TensorType) -> str:
    """The header of a library whose input and output are of a type."""
    port = {"name": "p", "type": kind, "ctype": CTYPES[kind.dtype.value], "scale": kind.scale, "zero_point": 0}
    view = {"name": "t", "upper": "T", "inputs": [port], "outputs": [port], "layers": [], "state_bytes": 0}
    plan, graph, core = {"arena_bytes": 8}, {"contract": "exact"}, {"name": "cortex-m0"}
    return environment({"core": core}).get_template("library.h.j2").render(view, plan=plan, graph=graph)


def run(kind: TensorType, reals: NDArray[np.int32], folder: Path) -> NDArray[np.int32]:
    """Both helpers on integers: int32 (n, 2)."""
    (folder / "t.h").write_text(header(kind))
    (folder / "t.c").write_text(HARNESS.replace("CTYPE", CTYPES[kind.dtype.value]))
    sanitize = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", "-O1", *STRICT_WARNINGS, *sanitize, "t.c", "-o", "t"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    done = subprocess.run([str(folder / "t")], input=reals.tobytes(), capture_output=True, timeout=60, check=True)
    return np.frombuffer(done.stdout, np.int32).reshape(-1, 2)


def saturate(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero"),
    [
        ("int8", 1 / 255, -128),
        ("int8", 0.5847029089927673, 83),
        ("int8", 2.0**-8, -128),
        ("int8", 2.0**-32, 5),
        ("int8", 2.0**15, 127),
        ("int8", 300.7, -128),
        ("uint8", 0.0123, 0),
        ("uint8", 17.3, 255),
        ("int16", 2.0**-15, 0),
        ("int16", 0.00031, 0),
        ("int16", 3.9, -32768),
        ("int16", 2.0**-30 * 1.7, 32767),
    ],
)
def test_both_helpers_are_the_exact_quotients(dtype: str, scale: float, zero: int, tmp_path: Path) -> None:
    kind = TensorType(DType(dtype), (4,), QParams.of(scale, zero))
    low, high, exact = kind.dtype.low, kind.dtype.high, Fraction(kind.scale) * 2**16
    rng = np.random.default_rng(1)
    integers = np.arange(low, high + 1, 1 if dtype != "int16" else 37)
    steps = [
        floor((q - zero + Fraction(1, 2)) * exact) + d for q in [low, *integers.tolist(), high] for d in (-1, 0, 1)
    ]
    wide = [
        *rng.integers(-(2**31), 2**31, 500).tolist(),
        *rng.integers(-70000, 70000, 500).tolist(),
        -(2**31),
        2**31 - 1,
    ]
    reals = np.array([saturate(v, -(2**31), 2**31 - 1) for v in [*steps, *wide, *integers.tolist()]], np.int32)
    got = run(kind, reals, tmp_path)
    half = Fraction(1, 2)
    expected = [saturate(floor(v / exact + half) + zero, low, high) for v in reals.tolist()]
    assert got[:, 0].tolist() == expected
    stored = reals.astype(dtype).tolist()
    assert got[:, 1].tolist() == [saturate(floor((q - zero) * exact + half), -(2**31), 2**31 - 1) for q in stored]


@pytest.mark.parametrize(
    "kind",
    [
        TensorType(DType.INT32, (4,)),
        TensorType(DType.INT8, (4,)),
        TensorType(DType.INT8, (4,), QParams.of(2.0**-33, 0)),
        TensorType(DType.INT8, (4,), QParams.of(2.0**16, 0)),
    ],
)
def test_what_q16_16_does_not_suit_has_none(kind: TensorType) -> None:
    assert realio.quantise(kind) is None
    assert realio.dequantise(kind) is None
