"""What fuzzing and onnx's own cases have found: each once as small as it gets."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from frontends.onnx.damage import Model
from frontends.onnx.survival import survives

from intaglio.quantizer.errors import ModelError
from intaglio.quantizer.frontends.onnx import read
from intaglio.quantizer.passes.canonicalise import canonicalise

NAN, INFINITY = np.float32("nan"), np.float32("inf")


def conv(weights: np.ndarray, bias: np.ndarray) -> bytes:
    m = Model(1, 4, 3, 3)
    return m.bytes(m.node("Conv", "x", m.constant(weights), m.constant(bias)))


def reals(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def quantised_gemm(x_scale: float, w_scale: float, bias: np.ndarray | None = None) -> bytes:
    m = Model(1, 4)
    x = [m.constant(np.float32(x_scale)), m.constant(np.int8(0))]
    w = [m.constant(np.float32(w_scale)), m.constant(np.int8(0))]
    t = m.node("DequantizeLinear", m.node("QuantizeLinear", "x", *x), *x)
    weights = m.node("DequantizeLinear", m.constant(np.ones((4, 3), np.int8)), *w)
    t = m.node("Gemm", t, weights, m.constant(reals(3) if bias is None else bias))
    return m.bytes(m.node("QuantizeLinear", t, *x))


def quantize(scale: np.ndarray, zero: np.ndarray) -> bytes:
    m = Model(1, 4)
    return m.bytes(m.node("QuantizeLinear", "x", m.constant(scale), m.constant(zero)))


def qlinear_bias(bias: np.ndarray) -> bytes:
    m = Model(1, 1, 2, 2)
    s, z = m.constant(np.float32(0.5)), m.constant(np.uint8(0))
    x = m.node("QuantizeLinear", "x", s, z)
    weights = m.constant(np.ones((1, 1, 1, 1), np.uint8))
    return m.bytes(m.node("QLinearConv", x, s, z, weights, s, z, s, z, m.constant(bias)))


def statistics(scale: np.ndarray, variance: np.ndarray) -> bytes:
    m = Model(1, 4, 3, 3)
    rest = [m.constant(reals(4)) for _ in range(2)]
    return m.bytes(m.node("BatchNormalization", "x", m.constant(scale), *rest, m.constant(variance)))


def reshape(shape: np.ndarray) -> bytes:
    m = Model(1, 4)
    return m.bytes(m.node("Reshape", "x", m.constant(shape)))


def one(op: str, *shape: int, opset: int = 17, **attributes: object) -> bytes:
    m = Model(*shape)
    return m.bytes(m.node(op, "x", **attributes), opset=opset)


def no_text() -> bytes:
    return one("Relu", 1, 4).replace(b"node0", b"n\xff\xfe\xd1d")


def folded_beyond_binary32() -> bytes:
    m = Model(1, 4)
    t = m.node("Gemm", "x", m.constant(np.full((4, 3), 1e30, np.float32)))
    return m.bytes(m.node("Mul", t, m.constant(np.full(3, 1e30, np.float32))))


REFUSED: list[tuple[str, Callable[[], bytes]]] = [
    ("bias of 2 for 6 outputs", lambda: conv(reals(6, 4, 1, 1), reals(2))),
    ("weights of bool without a scale", lambda: conv(np.ones((6, 4, 1, 1), bool), reals(6))),
    (r"\[0, 1\] for 2 spatial axes", lambda: one("MaxPool", 1, 1, 4, 4, kernel_shape=[0, 1])),
    ("scale leaves binary32", lambda: quantised_gemm(1e-30, 1e-30)),
    ("scale leaves binary32", lambda: quantised_gemm(1e30, 1e30)),
    ("2 scales for a computed tensor", lambda: quantize(reals(4)[:2], np.zeros(2, np.int8))),
    ("quantised type int32", lambda: quantize(np.float32(1), np.int32(0))),
    ("a bias of float32", lambda: qlinear_bias(np.full(1, NAN))),
    ("statistics that are not finite", lambda: statistics(reals(2), reals(4))),
    ("statistics that are not finite", lambda: statistics(reals(4), np.full(4, -1, np.float32))),
    ("statistics that are not finite", lambda: statistics(np.full(4, INFINITY), reals(4))),
    ("'c0' is float32, where integers are needed", lambda: reshape(np.full(1, INFINITY))),
    ("attribute 'alpha' is nan", lambda: one("Elu", 1, 4, alpha=float("nan"))),
    ("attribute 'alpha' is inf", lambda: one("LeakyRelu", 1, 4, alpha=float("inf"))),
    ("attribute 'min' is nan", lambda: one("Clip", 1, 4, opset=9, min=float("nan"), max=1.0)),
    ("a name that is not UTF-8", no_text),
    ("blocks of 2 do not tile", lambda: one("SpaceToDepth", 1, 1, 3, 3, blocksize=2)),
    (r"flattened at axis -2 of \[1, 4\]", lambda: one("Flatten", 1, 4, axis=-4)),
    ("training mode", lambda: dropout(training=True)),
    ("indices outside the axis", lambda: gather((1 << 32) + 1)),
    (r"\[1, 4\] reshaped to", lambda: reshape(np.array([1 << 32, (1 << 32) + 1, 4]))),
    ("more than binary32", lambda: gemm(np.full((4, 3), 1e30, np.float32), alpha=1e30)),
    ("casts float32 to int8 at run time", lambda: one("Cast", 1, 4, to=onnx.TensorProto.INT8)),
    ("an output that begins 2 pixels early", lambda: transposed(output_shape=[9])),
    ("a scale of 0.6 on 4 pixels", lambda: resized([1, 1, 0.6, 0.6])),
    ("antialias or exclude_outside", lambda: resized([1, 1, 0.5, 0.5], antialias=1, mode="linear")),
]


def gather(index: int) -> bytes:
    m = Model(1, 4)
    return m.bytes(m.node("Gather", "x", m.ints(index), axis=1))


def gemm(weights: np.ndarray, **attributes: object) -> bytes:
    m = Model(1, 4)
    return m.bytes(m.node("Gemm", "x", m.constant(weights), **attributes))


def dropout(*, training: bool) -> bytes:
    m = Model(1, 4)
    return m.bytes(m.node("Dropout", "x", m.constant(np.float32(0.5)), m.constant(np.array(training))))


def transposed(**attributes: object) -> bytes:
    m = Model(1, 1, 4)
    return m.bytes(m.node("ConvTranspose", "x", m.constant(reals(1, 1, 2)), **attributes))


def resized(scales: list[float], **attributes: object) -> bytes:
    m = Model(1, 1, 4, 4)
    return m.bytes(m.node("Resize", "x", "", m.constant(np.array(scales, np.float32)), **attributes), opset=18)


@pytest.mark.parametrize(("message", "build"), REFUSED, ids=[f"{i}-{m}" for i, (m, _) in enumerate(REFUSED)])
def test_refused_in_one_line(message: str, build: Callable[[], bytes]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ModelError, match=rf"^model\.onnx: .*{message}"):
            read(build(), "model.onnx", "model")


def test_weights_that_overflow_when_they_are_folded() -> None:
    graph = read(folded_beyond_binary32(), "model.onnx", "model")
    with pytest.raises(ModelError, match=re.escape("folded weights leave binary32")):
        canonicalise(graph)
    survives(folded_beyond_binary32())


def test_scalar_constants_stay_scalars() -> None:
    m = Model(1, 4)
    graph = read(m.bytes(m.node("Mul", "x", m.constant(np.float32(2)))), "model.onnx", "model")
    (constant,) = graph.constants.values()
    assert constant.shape == () == graph.types[graph.nodes[0].inputs[1]].shape


def test_long_models_are_read_in_linear_time_and_longer_ones_refused() -> None:
    """What was quadratic took minutes for this."""
    m = Model(1, 1, 2, 2)
    t = "x"
    for _ in range(6000):
        t = m.node("Tanh", t)
    data = m.bytes(t)
    assert len(canonicalise(read(data, "model.onnx", "model")).nodes) == 6000
    for _ in range(6000):
        t = m.node("Tanh", t)
    with pytest.raises(ModelError, match="12000 nodes; no microcontroller runs that many"):
        read(m.bytes(t), "model.onnx", "model")


def test_constant_of_several_scales_that_is_computed_with() -> None:
    m = Model(1, 4)
    s, z = m.constant(np.float32(0.5)), m.constant(np.int8(0))
    scales, zeros = m.constant(np.full(4, 0.5, np.float32)), m.constant(np.zeros(4, np.int8))
    x = m.node("DequantizeLinear", m.node("QuantizeLinear", "x", s, z), s, z)
    odd = m.node("DequantizeLinear", m.constant(np.ones((1, 4), np.int8)), scales, zeros, axis=1)
    survives(m.bytes(m.node("QuantizeLinear", m.node("Add", x, m.node("Relu", odd)), s, z)))
