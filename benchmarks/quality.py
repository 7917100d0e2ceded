"""Figures of the tool itself: accuracy of what it quantises, time and memory that it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from intaglio.quantizer.errors import ToolError
from intaglio.quantizer.evaluate import evaluate_model
from intaglio.quantizer.pipeline import Options

DIGITS = Path(__file__).resolve().parents[1] / "docs" / "examples" / "digits"


@dataclass(frozen=True)
class Accuracy:
    """Labelled samples classified rightly by a float model and by the integers that we made of it.

    Attributes:
        data: what was evaluated and what calibrated.
    """

    network: str
    data: str
    samples: int
    float_right: int
    integer_right: int


@dataclass(frozen=True)
class ToolCost:
    """What the command line takes: seconds and megabytes (10^6 bytes) at the peak."""

    compile_seconds: float
    compile_mb: float
    help_seconds: float


def accuracies(models: Path) -> Iterator[Accuracy]:
    """Quantise the float models and evaluate them on their labelled data, one after the other.

    Args:
        models: the folder with `tflite/` and `data/`.

    Raises:
        IntaglioError: a model or its data cannot be read.
    """
    data = models / "data"
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-") as folder:
        work = Path(folder)
        with np.load(data / "kws01_600.npz") as stored:
            # Integers of the quantised model's input: scale 0.584703, zero point 83.
            x, y = (stored["x"].astype(np.float32) - 83) * np.float32(0.584703), stored["y"]
        np.savez(work / "test.npz", x=x, y=y)
        np.savez(work / "calibration.npz", x=x[:100])
        yield _evaluate(
            "kws",
            "600 utterances, the first 100 calibrate",
            models / "tflite" / "kws_ref_model_float32.tflite",
            work / "test.npz",
            work / "calibration.npz",
        )
        with np.load(data / "cifar10_300.npz") as stored:
            np.savez(work / "calibration.npz", x=stored["x"][:100])
        yield _evaluate(
            "resnet8",
            "200 images of CIFAR-10, 100 others calibrate",
            models / "tflite" / "pretrainedResnet.tflite",
            data / "cifar10_ic01_200.npz",
            work / "calibration.npz",
        )
        with np.load(data / "vww_tinycoco50.npz") as stored:
            x, y = stored["x96"].astype(np.float32) / 255, stored["y"]
        np.savez(work / "test.npz", x=x, y=y)
        np.savez(work / "calibration.npz", x=x[::2])
        yield _evaluate(
            "vww",
            "50 images, every second one calibrates",
            models / "tflite" / "vww_96_float.tflite",
            work / "test.npz",
            work / "calibration.npz",
        )
    yield _evaluate(
        "digits",
        "360 held-back images, others calibrate",
        DIGITS / "digits.onnx",
        DIGITS / "digits_test.npz",
        DIGITS / "digits_calibration.npz",
    )


def _evaluate(network: str, data: str, model: Path, test: Path, calibration: Path) -> Accuracy:
    result = evaluate_model(model, test, Options(data=calibration))
    assert result.float_right is not None and result.integer_right is not None
    return Accuracy(network, data, result.labelled, result.float_right, result.integer_right)


def tool_cost(model: Path) -> ToolCost:
    """Compile a model for the Cortex-M0 and ask for help, each in a process of its own.

    Raises:
        ToolError: one of them failed.
    """
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-") as folder:
        seconds, peak = _run("compile", str(model), "--core", "cortex-m0", "-o", str(Path(folder) / "out"))
    return ToolCost(seconds, peak, min(_run("--help")[0] for _ in range(3)))


def _run(*arguments: str) -> tuple[float, float]:
    """Seconds, and the largest resident set of the process and those it waited for, in megabytes."""
    start = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "intaglio.host.cli", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise ToolError(
            f"intaglio {arguments[0]}", f"exit status {child.returncode}", "run the command by hand to see why"
        )
    return time.monotonic() - start, usage.ru_maxrss * 1024 / 1e6
