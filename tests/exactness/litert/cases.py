"""Models of one operator, drawn by hypothesis: shapes, strides, paddings, zero points, scales, constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from frontends.tflite.builder import ModelBuilder, options
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

ZEROS = {
    "int8": st.sampled_from([-128, -1, 0, 3, 127]),
    "uint8": st.sampled_from([0, 1, 128, 255]),
    "int16": st.just(0),
}
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
UNIT = {"int8": 1.0, "uint8": 1.0, "int16": 1 / 256}


def rng(draw: Draw) -> np.random.Generator:
    """A generator whose seed hypothesis chooses."""
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def scale(draw: Draw, dtype: str) -> float:
    """A scale: any mantissa over two decades."""
    return float(np.float32(draw(st.floats(0.002, 0.2)) * UNIT[dtype]))


@dataclass
class Port:
    """A quantised tensor of a case."""

    number: int
    shape: tuple[int, ...]
    scale: float
    zero: int


class Case:
    """A model under construction, with the dtype of its activations."""

    def __init__(self, draw: Draw, dtype: str) -> None:
        self.draw, self.dtype = draw, dtype
        self.model = ModelBuilder()
        self.inputs: list[int] = []

    def port(self, shape: tuple[int, ...], dtype: str = "", like: Port | None = None, **fixed: Any) -> Port:
        """A computed tensor, of random scale and zero point unless told."""
        dtype = dtype or self.dtype
        s = fixed.get("scale", like.scale if like else scale(self.draw, dtype))
        z = fixed.get("zero", like.zero if like else self.draw(ZEROS[dtype]))
        return Port(self.model.main.tensor(shape, dtype, s, z), shape, s, z)

    def input(self, shape: tuple[int, ...], dtype: str = "", like: Port | None = None) -> Port:
        """A model input."""
        port = self.port(shape, dtype, like)
        self.inputs.append(port.number)
        return port

    def constant(self, values: Any, dtype: str = "int32", **quantisation: Any) -> int:
        """A constant."""
        values = np.asarray(values).astype(dtype)
        return self.model.main.tensor(values.shape, dtype, data=values, **quantisation)

    def op(self, builtin: str, inputs: list[int], outputs: list[int], opts: Any = None, version: int = 1) -> bytes:
        """Add the operator and finish."""
        self.model.main.op(builtin, inputs, outputs, opts, version)
        self.model.main.ports(self.inputs, outputs)
        return self.model.bytes()


def image(draw: Draw, largest: int = 7, channels: int = 5) -> tuple[int, ...]:
    """The shape of an image."""
    side = st.integers(1, largest)
    return 1, draw(side), draw(side), draw(st.integers(1, channels))


VERSIONS = {"RELU_N1_TO_1": 1, "RELU": 3}
"""Of the operators whose version differs from the others'."""

ACTIVATIONS = st.sampled_from([0, 0, 1, 2, 3])
PADDING = st.sampled_from([0, 1])


def out_size(n: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Size of a windowed output; 0 where the window does not fit."""
    return -(-n // stride) if padding == 0 else max(-(-(n - (kernel - 1) * dilation) // stride), 0)


def weights(
    case: Case, shape: tuple[int, ...], x: Port, axis: int, terms: int, bias: bool = True
) -> tuple[list[int], float]:
    """Weights and bias, per channel (uint8: per tensor with a zero point); and a fitting output scale."""
    r, channels = rng(case.draw), shape[axis]
    if case.dtype == "uint8":
        zero = case.draw(st.sampled_from([0, 1, 113, 255]))
        s = [float(np.float32(r.uniform(0.002, 0.02)))]
        w = case.constant(r.integers(0, 256, shape), "uint8", scale=s, zero=zero)
    else:
        per_tensor = case.draw(st.integers(0, 3)) == 0
        s = [float(np.float32(v)) for v in r.uniform(0.002, 0.02, 1 if per_tensor else channels)]
        w = case.constant(r.integers(-127, 128, shape), "int8", scale=s, axis=axis)
    result = [w]
    if bias:
        wide = "int64" if case.dtype == "int16" else "int32"
        bias_scale = [float(np.float32(x.scale) * np.float32(v)) for v in s]
        result.append(case.constant(r.integers(-3000, 3000, channels), wide, scale=bias_scale))
    spread = 64 * (256 if case.dtype == "int16" else 1)
    out = x.scale * s[0] * 60 * np.sqrt(terms) * case.draw(st.floats(0.3, 3.0)) * spread / (100 * spread / 100)
    return result, float(np.float32(out * UNIT[case.dtype]))


@st.composite
def conv(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = image(draw)
    groups = draw(st.sampled_from([1, 1, 1, 2])) if dtype == "int8" else 1
    shape = (*shape[:3], shape[3] * groups)
    x = case.input(shape)
    kh, kw, sh, sw, dh, dw = (draw(st.integers(1, n)) for n in (4, 4, 3, 3, 2, 2))
    padding = draw(PADDING)
    if padding == 1:
        kh, kw = min(kh, shape[1]), min(kw, shape[2])
        dh, dw = (1 if (k - 1) * d >= n else d for k, d, n in ((kh, dh, shape[1]), (kw, dw, shape[2])))
    channels = draw(st.integers(1, 5)) * groups
    w, s = weights(case, (channels, kh, kw, shape[3] // groups), x, 0, kh * kw * shape[3])
    size = out_size(shape[1], kh, sh, padding, dh), out_size(shape[2], kw, sw, padding, dw)
    y = case.port((1, *size, channels), scale=s)
    opts = options(
        "Conv2DOptions",
        padding=padding,
        strideH=sh,
        strideW=sw,
        dilationHFactor=dh,
        dilationWFactor=dw,
        fusedActivationFunction=draw(ACTIVATIONS),
    )
    return case.op("CONV_2D", [x.number, *w], [y.number], opts, 3)


@st.composite
def depthwise(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = image(draw)
    x = case.input(shape)
    kh, kw, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    padding, multiplier = draw(PADDING), draw(st.sampled_from([1, 1, 2, 3]))
    if padding == 1:
        kh, kw = min(kh, shape[1]), min(kw, shape[2])
    channels = shape[3] * multiplier
    w, s = weights(case, (1, kh, kw, channels), x, 3, kh * kw)
    size = out_size(shape[1], kh, stride, padding), out_size(shape[2], kw, stride, padding)
    y = case.port((1, *size, channels), scale=s)
    opts = options(
        "DepthwiseConv2DOptions",
        padding=padding,
        strideH=stride,
        strideW=stride,
        depthMultiplier=multiplier,
        fusedActivationFunction=draw(ACTIVATIONS),
    )
    return case.op("DEPTHWISE_CONV_2D", [x.number, *w], [y.number], opts, 3)


@st.composite
def fully_connected(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    terms, channels, rows = draw(st.integers(1, 40)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    keep = dtype != "uint8" and draw(st.booleans())
    x = case.input((1, rows, terms) if keep else (rows, terms))
    w, s = weights(case, (channels, terms), x, 0, terms, bias=draw(st.booleans()))
    y = case.port((1, rows, channels) if keep else (rows, channels), scale=s)
    opts = options("FullyConnectedOptions", keepNumDims=keep, fusedActivationFunction=draw(ACTIVATIONS))
    inputs = [x.number, *w] if len(w) == 2 else [x.number, *w, -1]
    return case.op("FULLY_CONNECTED", inputs, [y.number], opts, 5)


@st.composite
def transpose_conv(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = image(draw, 4)
    x = Port(0, shape, scale(draw, dtype), draw(ZEROS[dtype]))
    kh, kw, sh, sw = (draw(st.integers(1, n)) for n in (4, 4, 3, 3))
    padding, channels = draw(PADDING), draw(st.integers(1, 4))
    if padding == 0:
        size = [n * s for n, s in zip(shape[1:3], (sh, sw), strict=True)]
    else:
        size = [(n - 1) * s + k for n, s, k in zip(shape[1:3], (sh, sw), (kh, kw), strict=True)]
    target = case.constant([1, *size, channels])
    x = case.input(shape)
    w, s = weights(case, (channels, kh, kw, shape[3]), x, 0, kh * kw * shape[3])
    y = case.port((1, *size, channels), scale=s)
    opts = options("TransposeConvOptions", padding=padding, strideH=sh, strideW=sw, fusedActivationFunction=0)
    bias = w[1:] if draw(st.booleans()) else []
    return case.op("TRANSPOSE_CONV", [target, w[0], x.number, *bias], [y.number], opts, 3)


@st.composite
def pool(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    shape = image(draw)
    x = case.input(shape)
    kh, kw, sh, sw = (draw(st.integers(1, n)) for n in (4, 4, 3, 3))
    padding = draw(PADDING)
    if padding == 1:
        kh, kw = min(kh, shape[1]), min(kw, shape[2])
    size = out_size(shape[1], kh, sh, padding), out_size(shape[2], kw, sw, padding)
    y = case.port((1, *size, shape[3]), like=x)
    opts = options(
        "Pool2DOptions",
        padding=padding,
        strideH=sh,
        strideW=sw,
        filterHeight=kh,
        filterWidth=kw,
        fusedActivationFunction=draw(ACTIVATIONS),
    )
    return case.op(builtin, [x.number], [y.number], opts, 2)


@st.composite
def binary(draw: Draw, dtype: str, builtin: str) -> bytes:
    """Two operands with broadcasting; one may be constant."""
    case = Case(draw, dtype)
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    other = draw(st.sampled_from([shape, shape[-1:], tuple(n if draw(st.booleans()) else 1 for n in shape)]))
    x = case.input(shape)
    if builtin in ("MAXIMUM", "MINIMUM"):
        y = case.port(other, like=x)
        out = case.port(shape, like=x)
    else:
        y = case.port(other)
        out_scale = {"MUL": x.scale * y.scale * 127 / UNIT[dtype]}.get(builtin, (x.scale + y.scale) / 2)
        out = case.port(shape, scale=float(np.float32(out_scale * draw(st.floats(0.5, 2.5)))))
    if draw(st.booleans()):
        t = case.model.main.table.tensors[y.number]
        low, high = LIMITS[dtype]
        t.buffer = case.model.buffer(rng(draw).integers(low, high, other, endpoint=True).astype(dtype))
    else:
        case.inputs.append(y.number)
    pair = [x.number, y.number] if draw(st.booleans()) else [y.number, x.number]
    kind = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}.get(builtin)
    opts = None
    if kind:
        opts = options(kind, fusedActivationFunction=draw(ACTIVATIONS))
        if builtin != "MUL":
            opts.potScaleInt16 = False
    else:
        opts = options("MaximumMinimumOptions")
    version = {"ADD": 4, "SUB": 4, "MUL": 4}.get(builtin, 4)
    return case.op(builtin, pair, [out.number], opts, version)


@st.composite
def unary(draw: Draw, dtype: str, builtin: str, opts: Any = None, out: tuple[float, int] | None = None) -> bytes:
    """One operand of every shape; all 256 values for 8-bit types."""
    case = Case(draw, dtype)
    shape = (2, 128) if dtype != "int16" else (4, 256)
    positive = builtin in ("SQRT", "RSQRT", "LOG")
    x = case.port(shape, zero=LIMITS[dtype][0]) if positive and dtype != "int16" else case.port(shape)
    case.inputs.append(x.number)
    fixed = {} if out is None else {"scale": out[0], "zero": out[1]}
    y = case.port(shape, like=x if builtin in ("ABS", "NEG") and draw(st.booleans()) else None, **fixed)
    return case.op(builtin, [x.number], [y.number], opts() if callable(opts) else opts, VERSIONS.get(builtin, 2))


def shape_of(draw: Draw, low: int = 1, high: int = 4, largest: int = 5) -> tuple[int, ...]:
    """A shape."""
    return tuple(draw(st.lists(st.integers(1, largest), min_size=low, max_size=high)))


@st.composite
def reshape(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw)
    x = case.input(shape)
    to = draw(st.sampled_from([(int(np.prod(shape)),), (1, *shape), (-1, shape[-1]), (*shape[:-1], 1, shape[-1])]))
    y = case.port(tuple(np.empty(shape).reshape(to).shape), like=x)
    return case.op("RESHAPE", [x.number, case.constant(list(to))], [y.number], options("ReshapeOptions", newShape=to))


@st.composite
def pack(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw, high=3)
    first = case.input(shape)
    ports = [first] + [case.input(shape, like=first) for _ in range(draw(st.integers(0, 2)))]
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    y = case.port(np.stack([np.empty(shape)] * len(ports), axis).shape, like=first)
    opts = options("PackOptions", valuesCount=len(ports), axis=axis)
    return case.op("PACK", [p.number for p in ports], [y.number], opts, 2)


@st.composite
def unpack(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw, 2)
    x = case.input(shape)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    rest = tuple(np.empty(shape).max(axis).shape)
    parts = [case.port(rest, like=x) for _ in range(shape[axis])]
    opts = options("UnpackOptions", num=len(parts), axis=axis)
    return case.op("UNPACK", [x.number], [p.number for p in parts], opts, 2)


@st.composite
def split(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = list(shape_of(draw))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    count = draw(st.integers(1, 3))
    shape[axis] *= count
    x = case.input(tuple(shape))
    part = list(shape)
    part[axis] //= count
    parts = [case.port(tuple(part), like=x) for _ in range(count)]
    opts = options("SplitOptions", numSplits=count)
    inputs = [case.constant(axis), x.number]
    return case.op("SPLIT", inputs, [p.number for p in parts], opts, 4 if dtype == "int16" else 2)


@st.composite
def softmax(draw: Draw, dtype: str, wide: bool = False) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw, 1, 4, 9)
    x = case.port(shape, scale=float(np.float32(10 ** draw(st.floats(-3.5, 0.5)) * UNIT[dtype])))
    case.inputs.append(x.number)
    target = "int16" if wide else dtype
    bits = 16 if target == "int16" else 8
    fixed: dict[str, Any] = {"scale": 2.0**-bits, "zero": LIMITS[target][0]}
    if dtype == "int16":
        fixed = {"scale": 2.0**-15, "zero": 0}
    y = case.port(shape, target, **fixed)
    beta = draw(st.sampled_from([1.0, 1.0, 0.5, 1.7]))
    return case.op("SOFTMAX", [x.number], [y.number], options("SoftmaxOptions", beta=beta), 3)


@st.composite
def requantise(draw: Draw, source: str, target: str) -> bytes:
    case = Case(draw, source)
    ranges = {**UNIT, "int32": 2.0**-24}
    x_scale = float(np.float32(draw(st.floats(0.002, 0.2)) * ranges[source]))
    y_scale = float(np.float32(draw(st.floats(0.002, 0.2)) * ranges[target]))
    zeros = {**ZEROS, "int32": st.just(0)}
    x = case.model.main.tensor((4, 64), source, x_scale, draw(zeros[source]))
    case.inputs.append(x)
    y = case.model.main.tensor((4, 64), target, y_scale, draw(zeros[target]))
    return case.op("QUANTIZE", [x], [y], options("QuantizeOptions"), 2)


@st.composite
def cast(draw: Draw, source: str, target: str) -> bytes:
    case = Case(draw, source)
    codes = {"int8": 9, "uint8": 3, "int16": 7, "int32": 2, "int64": 4}
    x = case.model.main.tensor((3, 50), source)
    case.inputs.append(x)
    y = case.model.main.tensor((3, 50), target)
    opts = options("CastOptions", inDataType=codes[source], outDataType=codes[target])
    return case.op("CAST", [x], [y], opts, 1)


@st.composite
def prelu(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = image(draw)
    x = case.input(shape)
    low, high = LIMITS[dtype]
    slopes = rng(draw).integers(low, high, (1, 1, shape[3]), endpoint=True)
    zero = draw(ZEROS[dtype])
    a = case.constant(slopes, dtype, scale=scale(draw, dtype), zero=zero)
    y = case.port(shape)
    return case.op("PRELU", [x.number, a], [y.number], None, 1)
