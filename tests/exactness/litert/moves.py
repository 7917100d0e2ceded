"""Drawn models of the operators that move, join, cut, resize, reduce and look up."""

from __future__ import annotations

from typing import Any

import numpy as np
from exactness.litert.cases import LIMITS, UNIT, ZEROS, Case, Draw, image, rng, scale
from frontends.tflite.builder import options
from hypothesis import strategies as st


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
def transpose(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw, 2)
    x = case.input(shape)
    perm = draw(st.permutations(range(len(shape))))
    y = case.port(tuple(shape[p] for p in perm), like=x)
    return case.op("TRANSPOSE", [x.number, case.constant(perm)], [y.number], options("TransposeOptions"), 2)


@st.composite
def concatenation(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    first = case.input(shape)
    ports = [first]
    for _ in range(draw(st.integers(1, 3))):
        other = list(shape)
        other[axis] = draw(st.integers(1, 4))
        # uint8 alone may join tensors of different scales.
        ports.append(case.input(tuple(other), like=None if dtype == "uint8" else first))
    total = list(shape)
    total[axis] = sum(p.shape[axis] for p in ports)
    y = case.port(tuple(total), like=first)
    opts = options("ConcatenationOptions", axis=axis, fusedActivationFunction=0)
    return case.op("CONCATENATION", [p.number for p in ports], [y.number], opts, 3)


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
def split_v(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = list(shape_of(draw))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    shape[axis] = sum(sizes)
    x = case.input(tuple(shape))
    parts = [case.port((*shape[: axis % len(shape)], n, *shape[axis % len(shape) + 1 :]), like=x) for n in sizes]
    told = [*sizes[:-1], -1] if draw(st.booleans()) else sizes
    inputs = [x.number, case.constant(told), case.constant(axis)]
    return case.op("SPLIT_V", inputs, [p.number for p in parts], options("SplitVOptions", numSplits=len(sizes)), 2)


@st.composite
def slice_(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw)
    x = case.input(shape)
    begin = [draw(st.integers(0, n - 1)) for n in shape]
    size = [draw(st.sampled_from([-1, draw(st.integers(1, n - b))])) for n, b in zip(shape, begin, strict=True)]
    cut = tuple(n - b if s == -1 else s for n, b, s in zip(shape, begin, size, strict=True))
    y = case.port(cut, like=x)
    inputs = [x.number, case.constant(begin), case.constant(size)]
    return case.op("SLICE", inputs, [y.number], options("SliceOptions"), 4 if dtype == "int16" else 2)


@st.composite
def strided_slice(draw: Draw, dtype: str) -> bytes:
    """Bounds beyond the axes, negative ones and steps, every mask but ellipsis and new axis."""
    case = Case(draw, dtype)
    shape = shape_of(draw)
    x = case.input(shape)
    count = draw(st.integers(1, len(shape)))
    masks = {"beginMask": 0, "endMask": 0, "shrinkAxisMask": 0}
    begin, end, steps, cuts = [], [], [], []
    for i, n in enumerate(shape[:count]):
        step = draw(st.sampled_from([1, 1, 2, -1, -2]))
        if draw(st.integers(0, 4)) == 0:
            first = draw(st.integers(-n, n - 1))
            begin.append(first)
            end.append(first + 1)
            steps.append(1)
            masks["shrinkAxisMask"] |= 1 << i
            cuts.append(first)
            continue
        low, high = draw(st.integers(-n - 1, n)), draw(st.integers(-n - 1, n + 1))
        free = draw(st.booleans()), draw(st.booleans())
        cut = slice(None if free[0] else low, None if free[1] else high, step)
        if not len(range(*cut.indices(n))):
            cut, free, step, low, high = slice(None), (True, True), 1, 0, n
        begin.append(low)
        end.append(high)
        steps.append(step)
        masks["beginMask"] |= free[0] << i
        masks["endMask"] |= free[1] << i
        cuts.append(cut)
    y = case.port(np.empty(shape)[tuple(cuts)].shape, like=x)
    opts = options("StridedSliceOptions", ellipsisMask=0, newAxisMask=0, **masks)
    inputs = [x.number, *(case.constant(v) for v in (begin, end, steps))]
    return case.op("STRIDED_SLICE", inputs, [y.number], opts, 4 if dtype == "int16" else 2)


@st.composite
def gather(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw)
    x = case.input(shape)
    axis = draw(st.integers(0, len(shape) - 1))
    wanted = rng(draw).integers(0, shape[axis], shape_of(draw, 1, 2, 3))
    y = case.port(np.take(np.empty(shape), wanted, axis).shape, like=x)
    opts = options("GatherOptions", axis=axis, batchDims=0)
    return case.op("GATHER", [x.number, case.constant(wanted)], [y.number], opts, 4 if dtype == "int16" else 2)


@st.composite
def pad(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw)
    x = case.input(shape)
    mirror = builtin == "MIRROR_PAD"
    mode = draw(st.sampled_from([0, 1]))
    room = [max(n - 1 + mode, 0) if mirror else 3 for n in shape]
    pads = [[draw(st.integers(0, r)), draw(st.integers(0, r))] for r in room]
    y = case.port(tuple(n + a + b for n, (a, b) in zip(shape, pads, strict=True)), like=x)
    inputs = [x.number, case.constant(pads)]
    if builtin == "PADV2":
        low, high = LIMITS[dtype]
        value = draw(st.integers(low, high))
        inputs.append(case.constant([value], dtype, scale=x.scale, zero=x.zero))
    opts = (
        options("MirrorPadOptions", mode=mode)
        if mirror
        else options("PadOptions" if builtin == "PAD" else "PadV2Options")
    )
    return case.op(
        builtin, inputs, [y.number], opts, {"PAD": 3 if dtype == "int16" else 2, "MIRROR_PAD": 3}.get(builtin, 2)
    )


@st.composite
def resize(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    shape = image(draw, 5, 3)
    x = case.input(shape)
    size = [draw(st.integers(1, 9)), draw(st.integers(1, 9))]
    corners, half = draw(st.sampled_from([(False, False), (True, False), (False, True)]))
    y = case.port((1, *size, shape[3]), like=x)
    kind = "ResizeBilinearOptions" if builtin == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    opts = options(kind, alignCorners=corners, halfPixelCenters=half)
    return case.op(builtin, [x.number, case.constant(size)], [y.number], opts, 4 if dtype == "int16" else 3)


@st.composite
def space(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    block = draw(st.integers(1, 3))
    _, h, w, c = image(draw, 3, 3)
    small, large = (1, h, w, c * block * block), (1, h * block, w * block, c)
    source, target = (large, small) if builtin == "SPACE_TO_DEPTH" else (small, large)
    x = case.input(source)
    y = case.port(target, like=x)
    kind = "SpaceToDepthOptions" if builtin == "SPACE_TO_DEPTH" else "DepthToSpaceOptions"
    return case.op(builtin, [x.number], [y.number], options(kind, blockSize=block), 2)


@st.composite
def reduction(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw, 1, 4, 6)
    x = case.input(shape)
    axes = draw(st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, max_size=3))
    keep = draw(st.booleans())
    unique = tuple(sorted({a % len(shape) for a in axes}))
    same = builtin.startswith("REDUCE") or draw(st.booleans())
    y = case.port(np.empty(shape).max(axis=unique, keepdims=keep).shape, like=x if same else None)
    opts = options("ReducerOptions", keepDims=keep)
    return case.op(builtin, [x.number, case.constant(axes)], [y.number], opts, 3 if dtype == "int16" else 2)


@st.composite
def arg(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw, 2, 4, 6)
    x = case.input(shape)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    wide = draw(st.sampled_from(["int32", "int64"]))
    y = case.model.main.tensor(np.empty(shape).max(axis).shape, wide)
    kind = "ArgMaxOptions" if builtin == "ARG_MAX" else "ArgMinOptions"
    opts = options(kind, outputType={"int32": 2, "int64": 4}[wide])
    return case.op(builtin, [x.number, case.constant(axis)], [y], opts, 2)


@st.composite
def top_k(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw, 1, 2, 9)
    x = case.input(shape)
    k = draw(st.integers(1, shape[-1]))
    values = case.port((*shape[:-1], k), like=x)
    indices = case.model.main.tensor((*shape[:-1], k), "int32")
    return case.op("TOPK_V2", [x.number, case.constant(k)], [values.number, indices], options("TopKV2Options"), 2)


@st.composite
def batch_matmul(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    rows, terms, columns = (draw(st.integers(1, 6)) for _ in range(3))
    batch = draw(st.sampled_from([(1,), (2,), (1, 3)]))
    adj_x, adj_y = draw(st.booleans()), draw(st.booleans())
    x = case.input((*batch, *((terms, rows) if adj_x else (rows, terms))))
    y = case.input((*batch, *((columns, terms) if adj_y else (terms, columns))))
    s = x.scale * y.scale * np.sqrt(terms) * 60 / UNIT[dtype]
    out = case.port((*batch, rows, columns), scale=float(np.float32(s * draw(st.floats(0.5, 2.0)))))
    opts = options("BatchMatMulOptions", adjX=adj_x, adjY=adj_y, asymmetricQuantizeInputs=False)
    return case.op("BATCH_MATMUL", [x.number, y.number], [out.number], opts, 3)


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
def log_softmax(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = shape_of(draw, 1, 4, 9)
    x = case.input(shape)
    y = case.port(shape, scale=16 / 256, zero=LIMITS[dtype][1])
    return case.op("LOG_SOFTMAX", [x.number], [y.number], options("LogSoftmaxOptions"), 2)


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
