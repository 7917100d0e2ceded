"""Damaged third-party models through the whole compiler: C or one clear line, in bounded time and memory."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

QUICK, SLOW = 10, 100
"""How many damaged copies of each model."""

GIGABYTE = 1 << 30
TIMEOUT_S = 600


def compile_copies(model: Path, count: int, folder: Path) -> int:
    """Compile damaged copies in a process of their own; returns how many still compiled."""
    folder.mkdir(parents=True)
    script = Path(__file__).with_name("compile_damaged.py")
    command = [sys.executable, str(script), str(model), str(count), "7", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{model}: {done.stderr[-3000:]}"
    compiled, refused, peak = map(int, done.stdout.split())
    assert compiled + refused == count
    assert peak < GIGABYTE, f"{model}: took {peak} bytes"
    return compiled


@pytest.mark.parametrize(
    "name", ["tflite/hello_world_int8.tflite", "tflite/mww_v2_alexa.tflite", "onnx/alibaba_kws_qdq.onnx"]
)
def test_damaged_copies_are_compiled_or_refused(name: str, models: Path, tmp_path: Path) -> None:
    assert compile_copies(models / name, QUICK, tmp_path / "copies") < QUICK


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["tflite", "tflite-op-golden", "onnx"])
def test_damaged_copies_of_every_model_are_compiled_or_refused(kind: str, models: Path, tmp_path: Path) -> None:
    with (models / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["kind"] == kind]
    # Models of one operator are many and alike.
    names = names[::4] if kind == "tflite-op-golden" else names
    assert names
    compiled = sum(compile_copies(models / name, SLOW, tmp_path / str(i)) for i, name in enumerate(names))
    assert 0 < compiled < SLOW * len(names)
