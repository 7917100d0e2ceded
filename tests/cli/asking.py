"""Asking the command line for what it must refuse, on the digits model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from intaglio.host.cli import run

DIGITS = Path(__file__).parents[2] / "docs" / "examples" / "digits"
MODEL, CALIBRATION, TEST = (str(DIGITS / f"digits{s}") for s in (".onnx", "_calibration.npz", "_test.npz"))
DATA = ["--data", CALIBRATION]


def fails(capsys: pytest.CaptureFixture[str], arguments: list[str], pattern: str, status: int = 1) -> str:
    """Run a command that must fail with one line that matches; return the line."""
    assert run(arguments) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(pattern, lines[0]), lines[0]
    assert lines[0].startswith("intaglio: ")
    return lines[0]
