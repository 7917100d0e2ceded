"""Quantised ONNX models: the integer reference is the specification in exact arithmetic, and the C is that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from intaglio.boards.cores import CORES
from intaglio.codegen.compile import compile_model
from intaglio.host.hostrun import run_on_host
from intaglio.quantizer.ir import Contract
from intaglio.quantizer.reference import Evaluator, Mode, quantise


@pytest.mark.parametrize("name", ["alibaba_kws_qdq", "alibaba_kws_qop"])
def test_keyword_spotting(name: str, models: Path, tmp_path: Path) -> None:
    """Definition == integer reference == C; onnxruntime beside it, which computes QDQ in binary32."""
    path = models / "onnx" / f"{name}.onnx"
    compiled = compile_model(path, CORES["cortex-m4"], tmp_path / "lib", options=None)
    graph = compiled.graph
    assert graph.contract is Contract.ONNX
    with np.load(models / "data" / "kws01_600.npz") as stored:
        x = (stored["x"][:40].astype(np.float32) - 83) * np.float32(0.584703)
        labels = stored["y"][:40]
    kind, out = graph.types[graph.inputs[0]], graph.types[graph.outputs[0]]
    samples = [[quantise(row.reshape(kind.shape), kind).astype(kind.dtype.numpy)] for row in x]
    m0 = compile_model(path, CORES["cortex-m0"], tmp_path / "m0", options=None)
    host = run_on_host(m0.folder, samples[:8], trace=False)
    integer, defined = Evaluator(graph, Mode.INTEGER), Evaluator(graph, Mode.DEFINED)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    port = session.get_inputs()[0]
    right = different = 0
    for i, (sample, row) in enumerate(zip(samples, x, strict=True)):
        ours, meaning = integer.run(sample), defined.run(sample)
        for tensor in ours:
            assert np.array_equal(ours[tensor], meaning[tensor]), tensor
        result = ours[graph.outputs[0]]
        if i < 8:
            assert np.array_equal(host.outputs[i][0].ravel(), result.ravel())
        theirs = session.run(None, {port.name: row.reshape(port.shape)})[0]
        different += int(np.count_nonzero(np.rint(theirs.ravel() / out.scale) + out.zero_point != result.ravel()))
        right += int(result.argmax() == labels[i])
    assert right >= 34
    if name.endswith("qop"):
        # onnxruntime's QLinearConv rounds the exact integer accumulator: no difference is left to explain.
        assert different == 0
