"""One quantised layer of every kind that is held beside onnxruntime, on drawn scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from exactness.onnxruntime.qdq_models import Array, Quantised, qdq, qoperator


class Draw:
    """Operands on scales near the wanted ones, or exactly on them."""

    def __init__(self, seed: int, *, exactly: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.exactly = exactly

    def scale(self, near: float, size: int | None = None) -> Any:
        factor = np.ones(size or 1) if self.exactly else self.rng.uniform(0.7, 1.4, size or 1)
        scales = (near * factor).astype(np.float32)
        return scales if size else scales[0]

    def x(self, shape: tuple[int, ...], near: float, zero: int = 3, dtype: str = "int8") -> Quantised:
        return Quantised(shape, self.scale(near), zero, dtype)

    def y(self, near: float, zero: int = -5, dtype: str = "int8") -> Quantised:
        return Quantised((), self.scale(near), zero, dtype)

    def constant(self, shape: tuple[int, ...], near: float, zero: int = 0, axis: int | None = None) -> Quantised:
        values = self.rng.integers(-128, 127, shape, np.int8, endpoint=True)
        size = None if axis is None else shape[axis]
        return Quantised(shape, self.scale(near, size), zero, "int8", values, axis)

    def integers(self, size: int) -> Array:
        return self.rng.integers(-3000, 3000, size, np.int32)

    def bias(self, x: Quantised, w: Quantised) -> Quantised:
        """Of scale s_x s_w in binary32, as quantisers write it."""
        size = w.shape[w.axis] if w.axis is not None else w.shape[0]
        scale = np.float32(x.scale) * np.asarray(w.scale, np.float32)
        return Quantised((size,), scale, 0, "int32", self.integers(size), None if w.axis is None else 0)

    def real(self, size: int) -> Array:
        return self.rng.normal(0, 1, size).astype(np.float32)


Case = Callable[[Draw], onnx.ModelProto]


def conv(shape: tuple[int, ...], weights: tuple[int, ...], out: float, dtype: str = "int8", **attributes: Any) -> Case:
    def made(d: Draw) -> onnx.ModelProto:
        x = d.x(shape, 1 / 16, 3) if dtype == "int8" else d.x(shape, 1 / 4096, 0, dtype)
        w = d.constant(weights, 1 / 64, axis=0)
        y = d.y(out, 0 if dtype == "int16" else -5, dtype)
        return qdq("Conv", [x, w, d.bias(x, w)], y, **attributes)

    return made


def real_bias(d: Draw) -> onnx.ModelProto:
    return qdq(
        "Conv", [d.x((1, 3, 6, 6), 1 / 32), d.constant((4, 3, 3, 3), 1 / 64), d.real(4)], d.y(0.2), pads=[1, 1, 1, 1]
    )


def conv_transpose(d: Draw) -> onnx.ModelProto:
    x, w = d.x((1, 3, 4, 4), 1 / 16), d.constant((3, 4, 3, 3), 1 / 64)
    return qdq("ConvTranspose", [x, w, d.real(4)], d.y(1 / 4), strides=[2, 2])


def gemm(d: Draw) -> onnx.ModelProto:
    x, w = d.x((1, 40), 1 / 16), d.constant((8, 40), 1 / 32)
    return qdq("Gemm", [x, w, d.bias(x, w)], d.y(1 / 2), transB=1)


def unary(op: str, near: float, zero: int, out: float, out_zero: int, *more: Array, **attributes: Any) -> Case:
    return lambda d: qdq(op, [d.x((1, 400), near, zero), *more], Quantised((), np.float32(out), out_zero), **attributes)


def binary(op: str, *near: float) -> Case:
    return lambda d: qdq(op, [d.x((1, 4, 50), near[0], 3), d.x((1, 4, 50), near[1], 9)], d.y(near[2]))


def resize(size: tuple[int, int], mode: str) -> Case:
    target = np.array([1, 3, *size])
    return lambda d: qdq(
        "Resize",
        [d.x((1, 3, 4, 4), 0.05), None, None, target],
        d.y(0.05),
        mode="linear",
        coordinate_transformation_mode=mode,
    )


def short(op: str, near: float, out: float) -> Case:
    """int16, zero points 0."""
    y = Quantised((), np.float32(out), 0, "int16")
    return lambda d: qdq(op, [d.x((1, 100), near, 0, "int16")], y)


def integer_conv(d: Draw) -> onnx.ModelProto:
    operands = [d.x((1, 3, 6, 6), 1 / 16, 130, "uint8"), d.constant((4, 3, 3, 3), 1 / 64, axis=0)]
    return qoperator("QLinearConv", operands, d.y(1 / 2, 120, "uint8"), d.integers(4), pads=[1, 1, 1, 1])


def integer_matmul(d: Draw) -> onnx.ModelProto:
    return qoperator(
        "QLinearMatMul", [d.x((1, 5, 40), 1 / 16, 130, "uint8"), d.constant((40, 8), 1 / 64)], d.y(1 / 2, 120, "uint8")
    )


def integer_gemm(d: Draw) -> onnx.ModelProto:
    operands = [d.x((1, 40), 1 / 16, 130, "uint8"), d.constant((40, 8), 1 / 64)]
    return qoperator("QGemm", operands, d.y(1 / 2, 120, "uint8"), d.integers(8))


def integer_binary(op: str, *near: float) -> Case:
    return lambda d: qoperator(op, [d.x((1, 4, 50), near[0], 3), d.x((1, 4, 50), near[1], 9)], d.y(near[2]))


def integer_unary(op: str, shape: tuple[int, ...], near: float, out: float, zero: int, **attributes: Any) -> Case:
    return lambda d: qoperator(op, [d.x(shape, near)], Quantised((), np.float32(out), zero), **attributes)


IMAGE = (1, 3, 6, 6)

QDQ: dict[str, Case] = {
    "Conv": conv(IMAGE, (4, 3, 3, 3), 1 / 2, pads=[1, 1, 1, 1]),
    "Conv depthwise": conv((1, 4, 6, 6), (4, 1, 3, 3), 1 / 8, group=4),
    "Conv int16": conv(IMAGE, (4, 3, 3, 3), 1 / 2048, "int16", pads=[1, 1, 1, 1]),
    "Conv real bias": real_bias,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": lambda d: qdq("MatMul", [d.x((1, 5, 40), 1 / 16), d.constant((40, 8), 1 / 32)], d.y(1 / 2)),
    "MatMul computed": lambda d: qdq("MatMul", [d.x((1, 5, 16), 1 / 16), d.x((1, 16, 6), 1 / 32, 4)], d.y(1 / 4)),
    "AveragePool": lambda d: qdq(
        "AveragePool", [d.x(IMAGE, 0.05)], d.y(0.05, 3), kernel_shape=[3, 2], pads=[1, 0, 1, 1]
    ),
    "AveragePool padded": lambda d: qdq(
        "AveragePool", [d.x(IMAGE, 0.05)], d.y(0.05, 3), kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "GlobalAveragePool": lambda d: qdq("GlobalAveragePool", [d.x((1, 40, 6, 6), 0.05)], d.y(0.05)),
    "ReduceMean": lambda d: qdq("ReduceMean", [d.x((1, 40, 4, 4), 0.05), np.array([2, 3])], d.y(0.05)),
    "ReduceSum": lambda d: qdq("ReduceSum", [d.x((1, 40, 4, 4), 0.05), np.array([2, 3])], d.y(0.2)),
    "Add": binary("Add", 0.05, 0.025, 0.1),
    "Add constant": lambda d: qdq("Add", [d.x((1, 4, 50), 0.05), d.constant((50,), 0.025, 9)], d.y(0.1)),
    "Sub": binary("Sub", 0.05, 0.025, 0.1),
    "Mul": binary("Mul", 0.05, 0.1, 0.25),
    "Div": lambda d: qdq(
        "Div", [d.x((1, 4, 50), 0.05), Quantised((1,), np.float32(0.1), 0, "int8", np.array([12], np.int8))], d.y(0.1)
    ),
    "PRelu": lambda d: qdq("PRelu", [d.x((1, 4, 5, 5), 0.1), d.constant((4, 1, 1), 1 / 64)], d.y(0.1)),
    "Concat": lambda d: qdq("Concat", [d.x((1, 4, 5), 0.1), d.x((1, 4, 5), 0.05, -9)], d.y(0.2, 3), axis=1),
    "Resize half pixel": resize((8, 8), "half_pixel"),
    "Resize corners": resize((7, 9), "align_corners"),
    "Softmax": lambda d: qdq("Softmax", [d.x((1, 12), 0.1)], Quantised((), np.float32(1 / 256), -128)),
    "Softmax real": lambda d: qdq("Softmax", [d.x((1, 12), 0.1)], None),
    "LogSoftmax": lambda d: qdq("LogSoftmax", [d.x((1, 12), 0.1)], Quantised((), np.float32(1 / 16), 127)),
    "Sigmoid int16": short("Sigmoid", 1 / 4096, 1 / 32768),
    "Tanh int16": short("Tanh", 1 / 8192, 1 / 32768),
    "Exp int16": short("Exp", 1 / 16384, 1 / 4096),
    "Reciprocal int16": short("Reciprocal", 1 / 4096, 1 / 4096),
    "Floor int16": short("Floor", 1 / 1024, 1 / 64),
    "Abs": unary("Abs", 0.1, 3, 0.2, 3),
    "Neg": unary("Neg", 0.1, 3, 0.2, 3),
    "Clip": unary("Clip", 0.1, 3, 0.05, -60, np.float32(-3), np.float32(6)),
    "LeakyRelu": unary("LeakyRelu", 0.1, 3, 0.1, -5, alpha=0.25),
    "Sigmoid": unary("Sigmoid", 0.06, 3, 1 / 256, -128),
    "Tanh": unary("Tanh", 0.03, 3, 1 / 128, 0),
    "Exp": unary("Exp", 0.015, 3, 0.06, -128),
    "Log": unary("Log", 0.06, -128, 0.06, 0),
    "Sqrt": unary("Sqrt", 0.06, -128, 0.03, -128),
    "Reciprocal": unary("Reciprocal", 0.06, -128, 0.06, -128),
    "Erf": unary("Erf", 0.03, 3, 1 / 128, 0),
    "Sin": unary("Sin", 0.06, 3, 1 / 128, 0),
    "Cos": unary("Cos", 0.06, 3, 1 / 128, 0),
    "Elu": unary("Elu", 0.06, 3, 0.06, -100),
    "Gelu": unary("Gelu", 0.06, 3, 0.06, -100),
    "Gelu tanh": unary("Gelu", 0.06, 3, 0.06, -100, approximate="tanh"),
    "HardSigmoid": unary("HardSigmoid", 0.03, 3, 1 / 256, -128),
    "HardSwish": unary("HardSwish", 0.06, 3, 0.06, -100),
    "Softplus": unary("Softplus", 0.06, 3, 0.06, -100),
    "Mish": unary("Mish", 0.06, 3, 0.06, -100),
    "Floor": unary("Floor", 0.1, 3, 0.5, 3),
    "Ceil": unary("Ceil", 0.1, 3, 0.5, 3),
    "Round": unary("Round", 0.1, 3, 0.5, 3),
}

QOPERATOR: dict[str, Case] = {
    "QLinearConv": integer_conv,
    "QLinearMatMul": integer_matmul,
    "QGemm": integer_gemm,
    "QLinearAdd": integer_binary("QLinearAdd", 0.05, 0.025, 0.1),
    "QLinearMul": integer_binary("QLinearMul", 0.05, 0.1, 0.25),
    "QLinearConcat": lambda d: qoperator(
        "QLinearConcat", [d.x((1, 4, 5), 0.1), d.x((1, 4, 5), 0.05, -9)], d.y(0.2, 3), axis=1
    ),
    "QLinearAveragePool": integer_unary("QLinearAveragePool", IMAGE, 0.05, 0.05, 3, kernel_shape=[2, 2]),
    "QLinearGlobalAveragePool": integer_unary("QLinearGlobalAveragePool", (1, 40, 6, 6), 0.05, 0.05, 3),
    "QLinearSigmoid": integer_unary("QLinearSigmoid", (1, 400), 0.06, 1 / 256, -128),
    "QLinearLeakyRelu": integer_unary("QLinearLeakyRelu", (1, 400), 0.1, 0.1, -5, alpha=0.25),
}
