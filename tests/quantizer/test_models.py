"""Third-party models: passes keep the integers of quantised ones and the accuracy of float ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_builder import same_on_live_channels

from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.evaluate import Evaluation, evaluate_model
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import DType
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.pipeline import Options, run_passes
from intaglio.quantizer.reference import Evaluator, Mode
from intaglio.quantizer.requant import Method

DIGITS = Path(__file__).parents[2] / "docs" / "examples" / "digits"

QUANTISED = [
    "tflite/vww_96_int8.tflite",
    "tflite/person_detect.tflite",
    "tflite/mobilenet_v1_0.25_128_quant.tflite",
    "tflite/kws_ref_model.tflite",
    "tflite/pretrainedResnet_quant.tflite",
    "tflite/str_ww_ref_model.tflite",
    "tflite/mww_v2_okay_nabu.tflite",
    "onnx/alibaba_kws_qdq.onnx",
    "onnx/alibaba_kws_qop.onnx",
]


def check_passes_keep_integers(path: Path) -> None:
    """Lower a model as it came and after all passes; every tensor both have is equal on its live channels."""
    graph = load_model(path)
    passed = run_passes(graph, Options())
    before, after = Evaluator(lower(graph), Mode.INTEGER), Evaluator(passed, Mode.INTEGER)
    rng = np.random.default_rng(0)
    for i in range(3):
        sample = []
        for name in graph.inputs:
            kind = graph.types[name]
            low, high = kind.dtype.low, kind.dtype.high
            drawn = rng.integers(low, high, kind.shape, endpoint=True)
            sample.append(np.full(kind.shape, (low, high)[i]) if i < 2 else drawn)
        assert same_on_live_channels(before.run(sample), after.run(sample), passed) >= 1


@pytest.mark.parametrize("name", QUANTISED)
def test_passes_keep_the_integers_of_quantised_models(models: Path, name: str) -> None:
    check_passes_keep_integers(models / name)


@pytest.mark.slow
def test_passes_keep_the_integers_of_every_quantised_model(models: Path) -> None:
    checked = 0
    for path in sorted((*models.rglob("*.tflite"), *models.rglob("*.onnx"))):
        try:
            graph = load_model(path)
        except IntaglioError:
            continue
        if graph.contract is not None:
            check_passes_keep_integers(path)
            checked += 1
    assert checked >= 80


def saved(path: Path, x: np.ndarray, y: np.ndarray | None = None) -> Path:
    np.savez(path, x=x, **({} if y is None else {"y": y}))
    return path


def test_digits_keep_their_accuracy() -> None:
    for dtype in (DType.INT8, DType.INT16):
        options = Options(data=DIGITS / "digits_calibration.npz", activations=dtype)
        result = evaluate_model(DIGITS / "digits.onnx", DIGITS / "digits_test.npz", options)
        assert result.samples == result.labelled == 360
        assert result.integer_right is not None
        assert result.float_right is not None
        assert result.integer_right >= result.float_right - 0.005 * 360
        assert all(layer.db is not None and layer.db > 35 for layer in result.layers)
        assert [label for label, _ in result.headline()] == ["float accuracy", "integer accuracy"]


def test_keyword_spotting_from_a_hybrid_model(models: Path, tmp_path: Path) -> None:
    with np.load(models / "data" / "kws01_600.npz") as data:
        # MANIFEST: int8 features of scale 0.584703 and zero point 83.
        x, y = (data["x"].astype(np.float32) - 83) * np.float32(0.584703), data["y"]
    calibration = saved(tmp_path / "calibration.npz", x[:100])
    result = evaluate_model(
        models / "tflite" / "kws_ref_model_float32.tflite", saved(tmp_path / "all.npz", x, y), Options(data=calibration)
    )
    assert accuracy(result) >= 0.88


def test_a_quantised_model_takes_stored_integers(models: Path) -> None:
    """LiteRT's reference kernels classify 534 of the 600 rightly (its default kernels, which round otherwise, 535)."""
    path = models / "tflite" / "kws_ref_model.tflite"
    result = evaluate_model(path, models / "data" / "kws01_600.npz", Options())
    assert result.integer_right == 534
    assert accuracy(result) == 0.89


def test_image_classification(models: Path, tmp_path: Path) -> None:
    with np.load(models / "data" / "cifar10_300.npz") as data:
        calibration = saved(tmp_path / "calibration.npz", data["x"][:100])
    result = evaluate_model(
        models / "tflite" / "pretrainedResnet.tflite",
        models / "data" / "cifar10_ic01_200.npz",
        Options(data=calibration),
    )
    assert accuracy(result) >= 0.86


def test_visual_wake_words(models: Path, tmp_path: Path) -> None:
    with np.load(models / "data" / "vww_tinycoco50.npz") as data:
        x, y = data["x96"].astype(np.float32) / 255, data["y"]
    # There are but 50 labelled images: every second one calibrates.
    calibration = saved(tmp_path / "calibration.npz", x[::2])
    result = evaluate_model(
        models / "tflite" / "vww_96_float.tflite", saved(tmp_path / "all.npz", x, y), Options(data=calibration)
    )
    assert accuracy(result) >= 0.80


def test_an_autoencoder_is_judged_by_its_error(models: Path, tmp_path: Path) -> None:
    """The anomaly detector's model on the windows of a recording: 5 frames of 128 bands each."""
    frames = np.fromfile(models / "data" / "normal_id_01_00000000_hist_librosa.bin", np.float32).reshape(-1, 128)
    windows = np.stack([frames[i : i + 5].ravel() for i in range(len(frames) - 4)])
    path = saved(tmp_path / "windows.npz", windows)
    result = evaluate_model(models / "tflite" / "ad01_fp32.tflite", path, Options(data=path))
    assert result.labelled == 0
    assert result.float_right is None
    assert result.float_mse is not None
    assert result.integer_mse is not None
    assert result.integer_mse == pytest.approx(result.float_mse, rel=0.1)


def accuracy(result: Evaluation) -> float:
    assert result.integer_right is not None
    return result.integer_right / result.labelled


@pytest.mark.parametrize(("size", "wide"), [(0.001, True), (1000.0, False)])
def test_int16_needs_no_table_of_every_step(models: Path, size: float, wide: bool, tmp_path: Path) -> None:
    """640 inputs of many magnitudes, with which the first layer's accumulators may need more than 32 bits."""
    samples = size * np.random.default_rng(0).standard_t(2, size=(8, 640))
    np.save(tmp_path / "data.npy", samples.astype(np.float32))
    options = Options(data=tmp_path / "data.npy", activations=DType.INT16)
    graph = run_passes(load_model(models / "onnx" / "alibaba_ad.onnx"), options)
    dense = [node.params for node in graph.nodes if node.op == "FullyConnected"]
    assert len(dense) == 6
    assert [params.wide for params in dense] == [wide] + 5 * [False]
    assert {params.requant.method for params in dense} <= {Method.MUL64, Method.MUL96}
