"""Random graphs of one operator that moves, reduces or combines values, over shapes, types, scales and contracts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Contract, DType, Graph, QParams, TensorType, Variable
from intaglio.quantizer.ops.accumulate import NO_CLAMP, Clamp
from intaglio.quantizer.ops.average_pool2d import AveragePool2DAttrs
from intaglio.quantizer.ops.build import attributes, quantised, single
from intaglio.quantizer.ops.max_pool2d import MaxPool2DAttrs
from intaglio.quantizer.ops.transpose_conv2d import TransposeConv2DAttrs

Rng = np.random.Generator
CONTRACTS = (Contract.TFLITE, Contract.EXACT, Contract.ONNX)


def pick(rng: Rng, choices: Any) -> Any:
    """One of a sequence, unconverted."""
    return choices[int(rng.integers(len(choices)))]


def number(rng: Rng, low: int, high: int) -> int:
    """An integer from low to high, inclusive."""
    return int(rng.integers(low, high, endpoint=True))


def shape(rng: Rng, low: int = 1, high: int = 4, largest: int = 5) -> tuple[int, ...]:
    """A shape of some rank."""
    return tuple(number(rng, 1, largest) for _ in range(number(rng, low, high)))


def kind(rng: Rng, dims: tuple[int, ...], dtype: str, like: TensorType | None = None) -> TensorType:
    """A quantised type; int16 is symmetric."""
    if like is not None:
        return TensorType(like.dtype, dims, like.qparams)
    info = np.iinfo(dtype)
    zero = 0 if dtype == "int16" else pick(rng, (int(info.min), -1 - int(info.min < 0), 3, int(info.max)))
    zero = max(zero, int(info.min))
    return quantised(dtype, dims, float(rng.uniform(0.002, 0.2)), zero)


def out(kind_: TensorType) -> tuple[str, float, int]:
    """An output like a type."""
    return str(kind_.dtype), kind_.scale, kind_.zero_point


def any_dtype(rng: Rng) -> str:
    return str(pick(rng, ("int8", "uint8", "int16")))


def reduction(rng: Rng, op: str) -> Graph:
    dims, dtype, contract = shape(rng), any_dtype(rng), pick(rng, CONTRACTS)
    x = kind(rng, dims, dtype)
    axes = tuple(sorted({number(rng, 0, len(dims) - 1) for _ in range(number(rng, 1, 3))}))
    free = op in ("Mean", "Sum") and number(rng, 0, 3) > 0
    y = kind(rng, dims, dtype) if free else x
    attrs = attributes(op, axes, bool(rng.integers(2)))
    return single(op, attrs, [x], [out(y)], contract)


def arg(rng: Rng, op: str) -> Graph:
    dims = shape(rng, largest=7)
    attrs = attributes(op, number(rng, 0, len(dims) - 1), bool(rng.integers(2)), bool(rng.integers(2)))
    return single(op, attrs, [kind(rng, dims, any_dtype(rng))], [(pick(rng, ("int32", "int64")), None, 0)])


def top_k(rng: Rng, op: str) -> Graph:
    dims = shape(rng, largest=9)
    axis = number(rng, 0, len(dims) - 1)
    x = kind(rng, dims, any_dtype(rng))
    attrs = attributes(op, number(rng, 1, dims[axis]), axis, bool(rng.integers(2)))
    return single(op, attrs, [x], [out(x), ("int32", None, 0)])


def window(rng: Rng, dims: tuple[int, ...]) -> dict[str, Any]:
    """Kernel, stride and pads smaller than the kernel, that fit an image."""
    kernel = tuple(number(rng, 1, min(4, n)) for n in dims[1:3])
    pads = [number(rng, 0, k - 1) for k in kernel for _ in range(2)]
    return {"kernel": kernel, "stride": (number(rng, 1, 3), number(rng, 1, 3)), "pads": tuple(pads)}


def average_pool(rng: Rng, op: str) -> Graph:
    dims, dtype, contract = (
        (1, number(rng, 1, 7), number(rng, 1, 7), number(rng, 1, 5)),
        any_dtype(rng),
        pick(rng, CONTRACTS),
    )
    x = kind(rng, dims, dtype)
    tflite = contract is Contract.TFLITE
    y = x if tflite or number(rng, 0, 2) == 0 else kind(rng, dims, dtype)
    clamp = pick(rng, (NO_CLAMP, Clamp(0.0), Clamp(0.0, 6.0)))
    attrs = AveragePool2DAttrs(clamp=clamp, count_include_pad=not tflite and bool(rng.integers(2)), **window(rng, dims))
    return single(op, attrs, [x], [out(y)], contract)


def max_pool(rng: Rng, op: str) -> Graph:
    dims = (1, number(rng, 1, 8), number(rng, 1, 8), number(rng, 1, 5))
    x, a = kind(rng, dims, any_dtype(rng)), window(rng, dims)
    room = [1 + (n - 1) // max(k - 1, 1) for n, k in zip(dims[1:3], a["kernel"], strict=True)]
    dilation = tuple(number(rng, 1, min(3, r)) if k > 1 else 1 for r, k in zip(room, a["kernel"], strict=True))
    dilation = tuple(d if (k - 1) * d < n else 1 for d, k, n in zip(dilation, a["kernel"], dims[1:3], strict=True))
    clamp = pick(rng, (NO_CLAMP, Clamp(0.0), Clamp(-1.0, 1.0)))
    return single(op, MaxPool2DAttrs(dilation=dilation, clamp=clamp, **a), [x], [out(x)], pick(rng, CONTRACTS))


def transpose_conv(rng: Rng, op: str) -> Graph:
    contract, dtype = pick(rng, CONTRACTS), pick(rng, ("int8", "int16"))
    dims = (1, number(rng, 1, 4), number(rng, 1, 4), number(rng, 1, 4))
    kernel, stride = (number(rng, 1, 4), number(rng, 1, 4)), (number(rng, 1, 3), number(rng, 1, 3))
    whole = [(n - 1) * s + k for n, s, k in zip(dims[1:3], stride, kernel, strict=True)]
    pads = [
        number(rng, 0, min(k - 1, (size - 1) // 2)) for k, size in zip(kernel, whole, strict=True) for _ in range(2)
    ]
    channels = number(rng, 1, 4)
    x = kind(rng, dims, dtype)
    x = quantised(dtype, dims, x.scale / (256 if dtype == "int16" else 1), x.zero_point)
    scales = tuple(float(np.float32(s)) for s in rng.uniform(0.002, 0.02, channels))
    w = TensorType(DType.INT8, (channels, *kernel, dims[3]), QParams(scales, (0,) * channels, 0))
    bias = TensorType(DType.INT32 if dtype == "int8" else DType.INT64, (channels,))
    inputs: list[Any] = [x, (w, rng.integers(-127, 128, w.shape))]
    if rng.integers(2):
        inputs.append((bias, rng.integers(-3000, 3000, channels)))
    attrs = TransposeConv2DAttrs(
        stride, tuple(pads), (number(rng, 0, 2), number(rng, 0, 2)), pick(rng, (NO_CLAMP, Clamp(0.0)))
    )  # type: ignore[arg-type]
    y = kind(rng, dims, dtype)
    scale = float(x.scale * 60 * np.sqrt(w.elements // channels) / 10)
    return single(op, attrs, inputs, [(dtype, scale, y.zero_point)], contract)


def pad(rng: Rng, op: str) -> Graph:
    dims, mode = shape(rng), pick(rng, ("constant", "reflect", "symmetric", "edge"))
    most = {"reflect": -1, "symmetric": 0}.get(mode, 2)
    pads = tuple((number(rng, 0, max(n + most, 0)), number(rng, 0, max(n + most, 0))) for n in dims)
    if mode in ("constant", "edge"):
        pads = tuple((min(a, 3), min(b, 3)) for a, b in pads)
    x = kind(rng, dims, any_dtype(rng))
    value = float(rng.uniform(-3, 3)) if mode == "constant" and rng.integers(2) else 0.0
    return single(op, attributes(op, pads, mode, value), [x], [out(x)], pick(rng, CONTRACTS))


def concat(rng: Rng, op: str) -> Graph:
    dims = shape(rng)
    axis = number(rng, 0, len(dims) - 1)
    first = kind(rng, dims, any_dtype(rng))
    sizes = [number(rng, 1, 4) for _ in range(number(rng, 0, 3))]
    kinds = [first] + [kind(rng, (*dims[:axis], n, *dims[axis + 1 :]), "", first) for n in sizes]
    contract = pick(rng, CONTRACTS)
    if first.dtype is DType.UINT8 or (first.dtype is DType.INT8 and contract is not Contract.TFLITE):
        kinds = [kind(rng, t.shape, str(t.dtype)) for t in kinds]
    return single(op, attributes(op, axis), kinds, [out(first)], contract)


def split(rng: Rng, op: str) -> Graph:
    dims = shape(rng)
    axis, sizes = number(rng, 0, len(dims) - 1), tuple(number(rng, 1, 3) for _ in range(number(rng, 1, 4)))
    x = kind(rng, (*dims[:axis], sum(sizes), *dims[axis + 1 :]), any_dtype(rng))
    return single(op, attributes(op, axis, sizes), [x], [out(x)] * len(sizes))


def slice_(rng: Rng, op: str) -> Graph:
    dims = shape(rng, largest=7)
    starts, ends, steps = [], [], []
    for n in dims:
        step = int(pick(rng, (1, 1, 2, 3, -1, -2)))
        start = number(rng, 0, n - 1)
        count = number(rng, 1, (n - 1 - start if step > 0 else start) // abs(step) + 1)
        starts.append(start)
        ends.append(max(start + step * count, -1))
        steps.append(step)
    x = kind(rng, dims, any_dtype(rng))
    attrs = attributes(op, tuple(starts), tuple(ends), tuple(steps))
    return single(op, attrs, [x], [out(x)])


def transpose(rng: Rng, op: str) -> Graph:
    dims = shape(rng)
    x = kind(rng, dims, any_dtype(rng))
    perm = tuple(int(p) for p in rng.permutation(len(dims)))
    return single(op, attributes(op, perm), [x], [out(x)])


def gather(rng: Rng, op: str) -> Graph:
    dims = shape(rng)
    axis = number(rng, 0, len(dims) - 1)
    picked = rng.integers(0, dims[axis], shape(rng, 1, 2))
    x = kind(rng, dims, any_dtype(rng))
    inputs: list[Any] = [x, (TensorType(DType.INT32, picked.shape), picked)]
    return single(op, attributes(op, axis), inputs, [out(x)])


def resize(rng: Rng, op: str) -> Graph:
    contract, mode = pick(rng, CONTRACTS), pick(rng, ("nearest", "bilinear"))
    dtype = pick(rng, ("int8", "int16")) if contract is Contract.TFLITE else any_dtype(rng)
    x = kind(rng, (1, number(rng, 1, 6), number(rng, 1, 6), number(rng, 1, 4)), dtype)
    grid = pick(rng, ((False, False), (True, False), (False, True)))
    rounding = pick(rng, ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil", "half_away"))
    attrs = attributes(op, mode, (number(rng, 1, 9), number(rng, 1, 9)), *grid, rounding)
    free = contract is not Contract.TFLITE and mode == "bilinear" and rng.integers(2)
    return single(op, attrs, [x], [out(kind(rng, (), dtype) if free else x)], contract)


def blocks(rng: Rng, op: str) -> Graph:
    h, w, c, b = (number(rng, 1, n) for n in (3, 3, 3, 3))
    if op == "SpaceToDepth":
        x = kind(rng, (1, h * b, w * b, c), any_dtype(rng))
        return single(op, attributes(op, b), [x], [out(x)])
    x = kind(rng, (1, h, w, c * b * b), any_dtype(rng))
    return single(op, attributes(op, b, pick(rng, ("dcr", "crd"))), [x], [out(x)])


def batch_mat_mul(rng: Rng, op: str) -> Graph:
    contract = pick(rng, CONTRACTS)
    dtype = pick(rng, ("int8", "int16")) if contract is Contract.TFLITE else any_dtype(rng)
    m, k, n = (number(rng, 1, 6) for _ in range(3))
    batch = shape(rng, 0, 2, 3)
    other = tuple(d if rng.integers(2) else 1 for d in batch)[number(rng, 0, len(batch)) :]
    swap = bool(rng.integers(2)), bool(rng.integers(2))
    x = kind(rng, (*batch, *((k, m) if swap[0] else (m, k))), dtype)
    y = kind(rng, (*other, *((n, k) if swap[1] else (k, n))), dtype)
    reach = float(rng.uniform(20, 80)) * (1 if dtype != "int16" else 200)
    target = kind(rng, (), dtype)
    return single(
        op,
        attributes(op, *swap),
        [x, y],
        [(dtype, x.scale * y.scale * reach, target.zero_point)],
        contract,
    )


def svdf(rng: Rng, op: str) -> Graph:
    size, units, rank, memory = (number(rng, 1, n) for n in (9, 5, 3, 6))
    dtype = pick(rng, ("int16", "int8"))
    filters = units * rank
    state = kind(rng, (1, filters * memory), dtype)
    state = quantised(dtype, state.shape, state.scale / (256 if dtype == "int16" else 1), state.zero_point)
    feature = quantised("int8", (filters, size), 0.01)
    time = quantised(dtype, (filters, memory), 0.0004 if dtype == "int16" else 0.01)
    reach = 2000 if dtype == "int16" else 128
    bias = quantised("int32", (units,), state.scale * time.scale)
    x = kind(rng, (1, size), "int8")
    inputs: list[Any] = [
        x,
        (feature, rng.integers(-127, 128, feature.shape)),
        (time, rng.integers(-reach, reach, time.shape)),
        (bias, rng.integers(-3000, 3000, units)) if rng.integers(2) else None,
    ]
    target = kind(rng, (), "int8")
    scale = state.scale * time.scale * (3e5 if dtype == "int16" else 200)
    initial = np.full(state.shape, state.zero_point, state.dtype.numpy)
    return single(
        op,
        attributes(op, rank, "memory"),
        inputs,
        [("int8", scale, target.zero_point)],
        pick(rng, CONTRACTS),
        {"memory": Variable(state, initial)},
    )


GRAPHS: dict[str, Callable[[Rng, str], Graph]] = {
    "Mean": reduction,
    "Sum": reduction,
    "ReduceMax": reduction,
    "ReduceMin": reduction,
    "ArgMax": arg,
    "ArgMin": arg,
    "TopK": top_k,
    "AveragePool2D": average_pool,
    "MaxPool2D": max_pool,
    "TransposeConv2D": transpose_conv,
    "Pad": pad,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Transpose": transpose,
    "Gather": gather,
    "Resize": resize,
    "SpaceToDepth": blocks,
    "DepthToSpace": blocks,
    "BatchMatMul": batch_mat_mul,
    "Svdf": svdf,
}
