"""The software-float baseline computes the network that it claims to: against numpy, and against LiteRT."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from float_baseline import write_baseline
from floatnet import FloatNet, Layer, Port, read_tflite
from measure import NETWORKS, litert_outputs, seeded_input

from intaglio.boards.cores import CORES
from intaglio.host.elfscan import scan_elf
from intaglio.host.hostrun import run_on_host
from intaglio.host.simcore import run_on_core
from intaglio.quantizer.errors import ModelError

Reals = npt.NDArray[np.float64]
MODELS = Path(os.environ.get("INTAGLIO_MODELS") or Path(__file__).parents[3] / "shared" / "models")


def small_net() -> FloatNet:
    """Every kind of layer: strided and padded convolution, depthwise with multiplier, dilation, add, softmax."""
    rng = np.random.default_rng(5)

    def real(*shape: int) -> npt.NDArray[np.float32]:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    layers = (
        Layer("conv", (0,), 1, real(4, 3, 3, 2), real(4), (3, 3), (2, 1), (1, 1), (1, 1), (0.0, 6.0)),
        Layer("depthwise", (1,), 2, real(1, 3, 2, 8), None, (3, 2), (1, 1), (1, 2), (1, 1), (0.0, None)),
        Layer("conv", (2,), 3, real(8, 1, 1, 8), real(8), (1, 1)),
        Layer("add", (2, 3), 4, bounds=(-1.0, 1.0)),
        Layer("average", (4,), 5, window=(3, 3), stride=(2, 2), pads=(1, 1)),
        Layer("reshape", (5,), 6),
        Layer("dense", (6,), 7, real(6, 64), real(6)),
        Layer("softmax", (7,), 8),
    )
    shapes = {
        0: (1, 8, 7, 2),
        1: (1, 4, 7, 4),
        2: (1, 4, 7, 8),
        3: (1, 4, 7, 8),
        4: (1, 4, 7, 8),
        5: (1, 2, 4, 8),
        6: (1, 64),
        7: (1, 6),
        8: (1, 6),
    }
    return FloatNet(
        layers, shapes, (Port(0, shapes[0], "int8", 0.05, -3),), (Port(8, shapes[8], "int8", 1 / 256, -128),)
    )


def evaluate(net: FloatNet, x: Reals) -> Reals:
    """The network in float64, window by window."""
    values: dict[int, Reals] = {net.inputs[0].tensor: x}
    for layer in net.layers:
        a = values[layer.inputs[0]]
        shape = net.shapes[layer.output]
        y = np.zeros(shape)
        if layer.kind in ("conv", "depthwise", "average"):
            for oy, ox in np.ndindex(shape[1], shape[2]):
                taps = []
                for ky, kx in np.ndindex(*layer.window):
                    iy = oy * layer.stride[0] + ky * layer.dilation[0] - layer.pads[0]
                    ix = ox * layer.stride[1] + kx * layer.dilation[1] - layer.pads[1]
                    if 0 <= iy < a.shape[1] and 0 <= ix < a.shape[2]:
                        taps.append((ky, kx, a[0, iy, ix]))
                if layer.kind == "average":
                    y[0, oy, ox] = np.mean([pixel for _, _, pixel in taps], axis=0)
                    continue
                assert layer.weights is not None
                for ky, kx, pixel in taps:
                    if layer.kind == "conv":
                        y[0, oy, ox] += layer.weights[:, ky, kx].astype(float) @ pixel
                    else:
                        y[0, oy, ox] += layer.weights[0, ky, kx] * np.repeat(pixel, shape[3] // a.shape[3])
        elif layer.kind == "add":
            y = a + values[layer.inputs[1]]
        elif layer.kind == "dense":
            assert layer.weights is not None
            y = a @ layer.weights.T.astype(float)
        elif layer.kind == "softmax":
            y = np.exp(a - a.max()) / np.exp(a - a.max()).sum()
        else:
            y = a.reshape(shape)
        if layer.bias is not None:
            y = y + layer.bias
        low, high = layer.bounds
        values[layer.output] = np.clip(y, -np.inf if low is None else low, np.inf if high is None else high)
    return values[net.outputs[0].tensor]


def test_every_kind_of_layer_is_computed_as_defined(tmp_path: Path) -> None:
    net = small_net()
    library = write_baseline(net, tmp_path, "small_float")
    rng = np.random.default_rng(1)
    inputs = [rng.integers(-128, 128, net.inputs[0].shape, np.int8) for _ in range(20)]
    result = run_on_host(library, [[x] for x in inputs], "clang", "-O1", sanitize=True, trace=False)
    for x, (y,) in zip(inputs, result.outputs, strict=True):
        wanted = evaluate(net, 0.05 * (x.astype(float) + 3)) * 256 - 128
        # binary32 against float64 may fall on either side of a rounding point, no further.
        assert np.abs(y - wanted).max() <= 0.501


def test_it_is_software_float_on_the_core(tmp_path: Path) -> None:
    net = small_net()
    library = write_baseline(net, tmp_path / "lib", "small_float")
    x = seeded_input(net)
    host = run_on_host(library, [x], trace=False).outputs[0][0]
    core = CORES["cortex-m0"]
    result = run_on_core(library, core, [x])
    assert np.abs(result.outputs[0][0].astype(int) - host).max() <= 1
    (tmp_path / "image.elf").write_bytes(result.elf)
    assert {"__aeabi_fadd", "__aeabi_fmul"} <= {
        line.split()[1] for line in scan_elf(tmp_path / "image.elf", core).findings
    }
    macs = 4 * 7 * 4 * 18 + 4 * 7 * 8 * 6 + 4 * 7 * 64 + 384
    assert result.instructions[0] > 80 * macs


@pytest.mark.skipif(not MODELS.is_dir(), reason="INTAGLIO_MODELS names no folder of models")
def test_resnet8_classifies_in_float_as_in_int8(tmp_path: Path) -> None:
    model = MODELS / NETWORKS[1].file
    net = read_tflite(model)
    data = np.load(MODELS / "data" / "cifar10_ic01_200.npz")
    images = [(image.astype(int) - 128).astype(np.int8)[None] for image in data["x"][:50]]
    result = run_on_host(write_baseline(net, tmp_path, "resnet_float"), [[x] for x in images], trace=False)
    labels = [int(outputs[0].argmax()) for outputs in result.outputs]
    quantised = [int(litert_outputs(model, [x])[0].argmax()) for x in images]
    assert sum(a == b for a, b in zip(labels, quantised, strict=True)) >= 45
    assert sum(a == b for a, b in zip(labels, data["y"][:50], strict=True)) >= 43


def test_what_is_not_tflite_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="is not a TFLite file"):
        read_tflite(tmp_path / "x.tflite")
