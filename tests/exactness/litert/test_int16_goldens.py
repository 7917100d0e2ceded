"""int16 models of one operator against the outputs recorded beside them, with ==."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import verify
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.pipeline import Options, run_passes
from intaglio.quantizer.reference import Evaluator, Mode

OPERATORS = {
    "add": 9,
    "conv": 11,
    "leaky_relu": 12,
    "pad": 10,
    "quantize": 1,
    "strided_slice": 17,
    "sub": 3,
    "transpose_conv": 3,
}
"""Operator to how many models there are."""


def read_csv(path: Path) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Integers separated by commas and line ends."""
    return np.array([int(v) for v in path.read_text().replace("\n", ",").split(",") if v.strip()], np.int64)


@pytest.mark.parametrize("operator", OPERATORS)
def test_recorded_outputs(models: Path, operator: str) -> None:
    files = sorted((models / "int16_goldens" / operator).glob("*.tflite"))
    assert len(files) == OPERATORS[operator]
    for path in files:
        graph = load_model(path)
        verify(graph, "frontend")
        inputs = [read_csv(p) for p in sorted(path.parent.glob(f"{path.stem}_input*.csv"))]
        (golden,) = (read_csv(p) for p in path.parent.glob(f"{path.stem}_golden*.csv"))
        for stage in (lower(graph), run_passes(graph, Options())):
            result = Evaluator(stage, Mode.INTEGER).run(inputs)[stage.outputs[0]].ravel()
            wrong = np.flatnonzero(result != golden)
            assert result.size == golden.size and not wrong.size, f"{path.name}: {wrong.size} of {golden.size} differ"
