"""Accuracy on labelled data: every output equal to that of LiteRT's reference kernels, hence the accuracy too.

LiteRT's default kernels (XNNPACK) round otherwise than its reference kernels, so that the accuracies that are usually
published differ from these by a sample or two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exactness.litert.oracle import assert_equal, interpreter
from numpy.typing import NDArray

from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode, dequantise, quantise

Array = NDArray[Any]


def outputs(path: Path, samples: Array) -> tuple[Array, Array]:
    """Our outputs as integers and as reals, which equal LiteRT's.

    Args:
        samples: integers of the model's input, one per row.
    """
    graph, theirs = lower(load_model(path)), interpreter(path)
    ours = Evaluator(graph, Mode.INTEGER)
    (source,), (target,) = theirs.get_input_details(), theirs.get_output_details()
    result = []
    for number, sample in enumerate(samples):
        value = ours.run([sample])[graph.outputs[0]]
        theirs.set_tensor(source["index"], sample.reshape(source["shape"]).astype(source["dtype"]))
        theirs.invoke()
        assert_equal(value, theirs.get_tensor(target["index"]), f"{path.name}, sample {number}")
        result.append(value.ravel())
    integers = np.stack(result)
    return integers, dequantise(integers, graph.types[graph.outputs[0]])


def shifted(images: Array) -> Array:
    """Pixels 0..255 as the int8 inputs of scale 1 (or 1/255) and zero point -128."""
    return images.astype(np.int64) - 128


SETS = {
    "micro_speech_quantized": ("micro_speech_4", lambda d: (d["x"], d["y"]), 4),
}
"""Model, its data file, how to read it, how many samples are right."""

SLOW_SETS = {
    "kws_ref_model": ("kws01_600", lambda d: (d["x"], d["y"]), 534),
    "vww_96_int8": ("vww_tinycoco50", lambda d: (shifted(d["x96"]), d["y"]), 40),
    "pretrainedResnet_quant": ("cifar10_ic01_200", lambda d: (shifted(d["x"]), d["y"]), 175),
    "mnist_valid_q": ("mnist_2000", lambda d: (shifted(d["x"]), d["y"]), 1906),
    "mnist_dw_q": ("mnist_2000", lambda d: (shifted(d["x"]), d["y"]), 1816),
}


def check(models: Path, name: str, data: str, read: Any, right: int) -> None:
    samples, labels = read(np.load(models / "data" / f"{data}.npz"))
    integers, _ = outputs(models / "tflite" / f"{name}.tflite", samples)
    assert int((integers.argmax(axis=1) == labels).sum()) == right


@pytest.mark.parametrize("name", SETS)
def test_accuracy(models: Path, name: str) -> None:
    check(models, name, *SETS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_SETS)
def test_accuracy_of_larger_sets(models: Path, name: str) -> None:
    check(models, name, *SLOW_SETS[name])


def test_accuracy_of_the_streaming_wake_word(models: Path) -> None:
    path, data = models / "tflite" / "str_ww_ref_model.tflite", np.load(models / "data/str_ww_calibration_samples.npz")
    graph = load_model(path)
    integers, _ = outputs(path, quantise(data["specs"], graph.types[graph.inputs[0]]))
    assert int((integers.argmax(axis=1) == data["labels"]).sum()) == 41


def test_reconstruction_error_of_anomaly_detection(models: Path) -> None:
    raw = np.fromfile(models / "data" / "normal_id_01_00000000_hist_librosa.bin", np.float32).reshape(200, 128)
    windows = np.stack([raw[i : i + 5].ravel() for i in range(196)])
    path = models / "tflite" / "ad01_int8.tflite"
    graph = load_model(path)
    _, reals = outputs(path, quantise(windows, graph.types[graph.inputs[0]]))
    assert float(np.mean((windows - reals) ** 2)) == pytest.approx(10.2652, abs=1e-4)
