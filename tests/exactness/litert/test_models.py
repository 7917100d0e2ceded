"""Whole models against LiteRT's reference kernels, with ==: every tensor that both engines know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from exactness.litert.oracle import Pair, assert_equal, interpreter, random_inputs
from flatbuffers import Builder as FlatBuilder

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import Contract
from intaglio.quantizer.pipeline import Options, run_passes
from intaglio.quantizer.reference import Evaluator, Mode

QUANTISED = (
    "ad01_int8",
    "hello_world_int8",
    "keyword_spotting_on_off",
    "kws_ref_model",
    "micro_speech_quantized",
    "mnist_dw_q",
    "mnist_valid_q",
    "mobilenet_v1_0.25_128_quant",
    "mww_v2_alexa",
    "mww_v2_okay_nabu",
    "person_detect",
    "pretrainedResnet_quant",
    "simple_add_model",
    "split_concat",
    "str_ww_ref_model",
    "tflite_micro_magic_wand",
    "vww_96_int8",
)

FLOAT = (
    "ad01_fp32",
    "hello_world_float",
    "kws_ref_model_float32",
    "mnist_dw_f",
    "mnist_valid_f",
    "pretrainedResnet",
    "vww_96_float",
)


def rewritten(path: Path, change: Callable[[schema.ModelT, schema.TensorT], bool]) -> Path | bytes:
    """A model with its tensors changed; the file itself when there is nothing to change."""
    content = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if not sum(change(model, tensor) for graph in model.subgraphs for tensor in graph.tensors):
        return path
    builder = FlatBuilder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def bias_axis(model: schema.ModelT, tensor: schema.TensorT) -> bool:
    """Converters of 2019 wrote the weights' axis, 3, into biases, which have one axis; LiteRT refuses that."""
    q = tensor.quantization
    wrong = q is not None and tensor.shape is not None and q.quantizedDimension >= max(len(tensor.shape), 1)
    if wrong:
        q.quantizedDimension = 0
    return wrong


def real_weights(model: schema.ModelT, tensor: schema.TensorT) -> bool:
    """int8 weights as the real numbers that they stand for: LiteRT's hybrid kernels would quantise activations too."""
    buffer = model.buffers[tensor.buffer]
    if tensor.type != schema.TensorType.INT8 or buffer.data is None or len(buffer.data) == 0:
        return False
    q = tensor.quantization
    shape = [1] * len(tensor.shape)
    shape[q.quantizedDimension] = -1
    scale = np.asarray(q.scale, np.float32).reshape(shape if len(q.scale) > 1 else -1)
    values = np.asarray(buffer.data, np.uint8).view(np.int8).reshape(tensor.shape).astype(np.float32) * scale
    buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
    tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    return True


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_model_equals_litert(models: Path, name: str) -> None:
    path = models / "tflite" / f"{name}.tflite"
    pair = Pair(rewritten(path, bias_axis))
    for sample in random_inputs(pair.graph, 5):
        pair.run(sample)


@pytest.mark.parametrize("name", QUANTISED)
def test_passes_keep_the_integers(models: Path, name: str) -> None:
    """The whole pipeline, not the frontend alone, ends in LiteRT's outputs."""
    path = models / "tflite" / f"{name}.tflite"
    graph = run_passes(load_model(path), Options())
    assert graph.contract is Contract.TFLITE
    pair = Pair(rewritten(path, bias_axis))
    passed = Evaluator(graph, Mode.INTEGER)
    for sample in random_inputs(graph, 3, seed=1):
        pair.run(sample)
        values = passed.run(sample)
        for ours, theirs in zip(graph.outputs, pair.graph.outputs, strict=True):
            assert_equal(values[ours], pair.values[theirs], f"output '{ours}'")


@pytest.mark.parametrize("name", FLOAT)
def test_real_model_is_litert_but_for_rounding(models: Path, name: str) -> None:
    """Real-valued graphs have no integers to compare; LiteRT computes them in binary32, the evaluator in binary64."""
    path = models / "tflite" / f"{name}.tflite"
    graph = load_model(path)
    assert graph.contract is None
    ours, theirs = Evaluator(graph, Mode.REAL), interpreter(rewritten(path, real_weights))
    rng = np.random.default_rng(0)
    for _ in range(3):
        sample = [rng.uniform(-2, 2, graph.types[n].shape).astype(np.float32) for n in graph.inputs]
        for port, value in zip(theirs.get_input_details(), sample, strict=True):
            theirs.set_tensor(port["index"], value.reshape(port["shape"]))
        theirs.invoke()
        values = ours.run(sample)
        for port, name in zip(theirs.get_output_details(), graph.outputs, strict=True):
            expected = theirs.get_tensor(port["index"]).ravel()
            np.testing.assert_allclose(values[name].ravel(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trained_lstm", "UNIDIRECTIONAL_SEQUENCE_LSTM .* is not supported yet; recurrent layers come later"),
        ("trained_lstm_int8", "UNIDIRECTIONAL_SEQUENCE_LSTM .* is not supported yet; recurrent layers come later"),
        ("audio_preprocessor_int8", r"CUSTOM:SignalWindow \(node 0, first, before RESHAPE #1\) is not supported"),
    ],
)
def test_unsupported_model_is_refused_by_name(models: Path, name: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        load_model(models / "tflite" / f"{name}.tflite")
