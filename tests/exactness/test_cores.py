"""Third-party models on simulated cores: every integer at every layer boundary is that of the integer reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.boards.cores import CORES
from intaglio.codegen.compile import compile_model
from intaglio.host.samples import drawn_samples
from intaglio.host.simcore import run_on_core
from intaglio.host.verify import compare, evaluate, traced
from intaglio.quantizer.reference import Mode

MEASURED = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55")

QUICK = (
    "tflite/kws_ref_model.tflite",
    "tflite/ad01_int8.tflite",
    "tflite/mww_v2_alexa.tflite",
    "tflite/keyword_scrambled_8bit.tflite",
    "onnx/alibaba_kws_qop.onnx",
    "int16_goldens/transpose_conv/transpose_conv4.tflite",
)
"""Convolutions, dense layers, state, SVDF, ONNX and int16: one of each."""


def check(path: Path, core: str, folder: Path, samples: int = 2) -> None:
    """Compile for a core, run on its simulator, compare every layer boundary with ==."""
    compiled = compile_model(path, CORES[core], folder / "library")
    inputs = drawn_samples(compiled.graph, samples)
    result = run_on_core(compiled.folder, CORES[core], inputs, trace=True, count=False)
    names = [(layer.index, i, t) for layer in compiled.library.layers for i, t in enumerate(layer.tensors)]
    row = compare(core, evaluate(compiled.graph, inputs, Mode.INTEGER), traced(compiled.graph, names, result.traces))
    assert row.integers > 0
    assert row.different == 0, row.first


@pytest.mark.parametrize("core", MEASURED)
@pytest.mark.parametrize("model", QUICK)
def test_model_is_exact(model: str, core: str, models: Path, tmp_path: Path) -> None:
    check(models / model, core, tmp_path)
