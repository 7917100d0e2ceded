"""A model that LiteRT itself refuses has no row of integers, but a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.host.litert import run_litert
from intaglio.quantizer.errors import ToolError
from intaglio.quantizer.frontends import load_model


def test_bias_axis_of_old_converters(models: Path) -> None:
    path = models / "tflite" / "person_detect.tflite"
    with pytest.raises(ToolError, match=r"LiteRT: refuses the model: quantized_dimension must be in range \[0, 1\)"):
        run_litert(path, load_model(path), [], [])
