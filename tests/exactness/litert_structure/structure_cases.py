"""TFLite models of one operator that moves, reduces or combines values, drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from exactness.litert.cases import LIMITS, Case, Draw, image, rng, scale
from frontends.tflite.builder import options
from hypothesis import strategies as st


def any_shape(draw: Draw, ranks: tuple[int, int] = (1, 4), largest: int = 5) -> tuple[int, ...]:
    """A shape of some rank."""
    return tuple(draw(st.lists(st.integers(1, largest), min_size=ranks[0], max_size=ranks[1])))


@st.composite
def reduction(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    shape = any_shape(draw)
    x = case.input(shape)
    axes = sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    keep = draw(st.booleans())
    target = tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)
    y = case.port(target) if builtin in ("MEAN", "SUM") else case.port(target, like=x)
    named = [a - len(shape) if draw(st.booleans()) else a for a in axes]
    return case.op(builtin, [x.number, case.constant(named)], [y.number], options("ReducerOptions", keepDims=keep), 2)


@st.composite
def pad(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    shape = any_shape(draw)
    x = case.input(shape)
    room = [n - 1 if builtin == "MIRROR_PAD" else 3 for n in shape]
    pads = [[draw(st.integers(0, r)), draw(st.integers(0, r))] for r in room]
    y = case.port(tuple(n + sum(p) for n, p in zip(shape, pads, strict=True)), like=x)
    inputs = [x.number, case.constant(pads)]
    if builtin == "MIRROR_PAD":
        return case.op(builtin, inputs, [y.number], options("MirrorPadOptions", mode=draw(st.sampled_from([0, 1]))), 3)
    if builtin == "PADV2":
        low, high = LIMITS[dtype]
        inputs.append(case.constant([draw(st.integers(low, high))], dtype, scale=x.scale, zero=x.zero))
    return case.op(builtin, inputs, [y.number], options("PadV2Options" if builtin == "PADV2" else "PadOptions"), 2)


@st.composite
def concatenation(draw: Draw, dtype: str) -> bytes:
    """Legacy uint8 models join tensors of several scales."""
    case = Case(draw, dtype)
    shape = any_shape(draw)
    axis = draw(st.integers(0, len(shape) - 1))
    first = case.input(shape)
    parts = [first]
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 4))
        like = None if dtype == "uint8" and draw(st.booleans()) else first
        parts.append(case.input((*shape[:axis], size, *shape[axis + 1 :]), like=like))
    total = sum(p.shape[axis] for p in parts)
    y = case.port((*shape[:axis], total, *shape[axis + 1 :]), like=None if dtype == "uint8" else first)
    opts = options("ConcatenationOptions", axis=axis - len(shape) if draw(st.booleans()) else axis)
    return case.op("CONCATENATION", [p.number for p in parts], [y.number], opts, 3)


@st.composite
def strided_slice(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = any_shape(draw)
    x = case.input(shape)
    begins, ends, steps, target = [], [], [], []
    shrink = 0
    for i, n in enumerate(shape):
        step = draw(st.sampled_from([1, 1, 2, -1, -2]))
        begin = draw(st.integers(0, n - 1))
        count = draw(st.integers(1, (n - 1 - begin if step > 0 else begin) // abs(step) + 1))
        if draw(st.integers(0, 4)) == 0:
            shrink, step, count = shrink | 1 << i, 1, 1
        else:
            target.append(count)
        end = begin + step * count
        begins.append(begin)
        ends.append(end if end >= 0 else end - n)
        steps.append(step)
    y = case.port(tuple(target), like=x)
    opts = options("StridedSliceOptions", shrinkAxisMask=shrink)
    inputs = [x.number, *(case.constant(v) for v in (begins, ends, steps))]
    return case.op("STRIDED_SLICE", inputs, [y.number], opts, 4)


@st.composite
def part(draw: Draw, dtype: str) -> bytes:
    """SLICE."""
    case = Case(draw, dtype)
    shape = any_shape(draw)
    x = case.input(shape)
    begins = [draw(st.integers(0, n - 1)) for n in shape]
    sizes = [draw(st.integers(1, n - b)) for n, b in zip(shape, begins, strict=True)]
    y = case.port(tuple(sizes), like=x)
    return case.op("SLICE", [x.number, case.constant(begins), case.constant(sizes)], [y.number], None, 3)


@st.composite
def split(draw: Draw, dtype: str) -> bytes:
    """SPLIT_V."""
    case = Case(draw, dtype)
    shape = any_shape(draw)
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    x = case.input((*shape[:axis], sum(sizes), *shape[axis + 1 :]))
    outs = [case.port((*shape[:axis], n, *shape[axis + 1 :]), like=x).number for n in sizes]
    inputs = [x.number, case.constant(sizes), case.constant(axis)]
    return case.op("SPLIT_V", inputs, outs, options("SplitVOptions", numSplits=len(sizes)), 2)


@st.composite
def transpose(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = any_shape(draw)
    perm = draw(st.permutations(range(len(shape))))
    x = case.input(shape)
    y = case.port(tuple(shape[p] for p in perm), like=x)
    return case.op("TRANSPOSE", [x.number, case.constant(perm)], [y.number], options("TransposeOptions"), 4)


@st.composite
def gather(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = any_shape(draw)
    axis = draw(st.integers(0, len(shape) - 1))
    picked = rng(draw).integers(0, shape[axis], any_shape(draw, (1, 2)))
    x = case.input(shape)
    y = case.port((*shape[:axis], *picked.shape, *shape[axis + 1 :]), like=x)
    return case.op("GATHER", [x.number, case.constant(picked)], [y.number], options("GatherOptions", axis=axis), 4)


@st.composite
def resize(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    x = case.input(image(draw))
    size = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    grid = draw(st.sampled_from([{}, {"alignCorners": True}, {"halfPixelCenters": True}]))
    if dtype == "uint8" and builtin == "RESIZE_BILINEAR":
        # What binary32 computes exactly: steps between places that are multiples of a power of two.
        factors = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([1, 2, 4, 8]))
        ends = 1 if "alignCorners" in grid else 0
        size = tuple((n - ends) * f + ends for n, f in zip(x.shape[1:3], factors, strict=True))
    y = case.port((1, *size, x.shape[3]), like=x)
    kind = "ResizeBilinearOptions" if builtin == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    return case.op(builtin, [x.number, case.constant(size)], [y.number], options(kind, **grid), 3)


@st.composite
def blocks(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    _, h, w, c = image(draw, 4, 3)
    block = draw(st.integers(2, 3))
    small, large = (1, h, w, c * block * block), (1, h * block, w * block, c)
    deep = builtin == "SPACE_TO_DEPTH"
    x = case.input(large if deep else small)
    y = case.port(small if deep else large, like=x)
    kind = "SpaceToDepthOptions" if deep else "DepthToSpaceOptions"
    return case.op(builtin, [x.number], [y.number], options(kind, blockSize=block), 1 if not deep else 2)


@st.composite
def arg(draw: Draw, dtype: str, builtin: str) -> bytes:
    case = Case(draw, dtype)
    shape = any_shape(draw)
    axis = draw(st.integers(0, len(shape) - 1))
    x = case.input(shape)
    kind = draw(st.sampled_from(["int32", "int64"]))
    y = case.model.main.tensor((*shape[:axis], *shape[axis + 1 :]), kind)
    option = {"ARG_MAX": "ArgMaxOptions", "ARG_MIN": "ArgMinOptions"}[builtin]
    opts = options(option, outputType=2 if kind == "int32" else 4)
    return case.op(builtin, [x.number, case.constant(axis)], [y], opts, 2)


@st.composite
def top_k(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    shape = any_shape(draw, largest=9)
    k = draw(st.integers(1, shape[-1]))
    x = case.input(shape)
    values = case.port((*shape[:-1], k), like=x).number
    indices = case.model.main.tensor((*shape[:-1], k), "int32")
    return case.op("TOPK_V2", [x.number, case.constant(k)], [values, indices], options("TopKV2Options"), 2)


@st.composite
def batch_matmul(draw: Draw, dtype: str) -> bytes:
    case = Case(draw, dtype)
    m, k, n = (draw(st.integers(1, 6)) for _ in range(3))
    batch = any_shape(draw, (0, 2), 3)
    other = tuple(d if draw(st.booleans()) else 1 for d in batch)
    swap = draw(st.booleans()), draw(st.booleans())
    left, right = ((k, m) if swap[0] else (m, k)), ((n, k) if swap[1] else (k, n))
    x, y = case.input((*batch, *left)), case.input((*other, *right))
    reach = 40 if dtype == "int8" else 6000
    out = case.port((*batch, m, n), scale=float(np.float32(x.scale * y.scale * reach * draw(st.floats(0.5, 2.0)))))
    opts = options("BatchMatMulOptions", adjX=swap[0], adjY=swap[1])
    return case.op("BATCH_MATMUL", [x.number, y.number], [out.number], opts, 3)


@st.composite
def variable(draw: Draw, dtype: str) -> bytes:
    """The state is added to the input and replaced by the sum: read, add, assign, initialised by CALL_ONCE."""
    case = Case(draw, dtype)
    shape = any_shape(draw, largest=4)
    model, main = case.model, case.model.main
    x = case.input(shape)
    initial = rng(draw).integers(*LIMITS[dtype], shape, endpoint=True).astype(dtype)
    first = model.subgraph()
    handle = first.tensor((1,), "resource", name="handle")
    value = first.tensor(shape, dtype, x.scale, x.zero, data=initial)
    first.op("VAR_HANDLE", [], [handle], options("VarHandleOptions", container="", sharedName="memory"))
    first.op("ASSIGN_VARIABLE", [handle, value], [], options("AssignVariableOptions"))
    first.ports([], [])
    number = main.tensor((1,), "resource", name="memory")
    old = case.port(shape, like=x).number
    new = case.port(shape, like=x).number
    main.op("CALL_ONCE", [], [], options("CallOnceOptions", initSubgraphIndex=1))
    main.op("VAR_HANDLE", [], [number], options("VarHandleOptions", container="", sharedName="memory"))
    main.op("READ_VARIABLE", [number], [old], options("ReadVariableOptions"))
    main.op("MAXIMUM", [x.number, old], [new], options("MaximumMinimumOptions"), 4)
    main.op("ASSIGN_VARIABLE", [number, new], [], options("AssignVariableOptions"))
    main.ports(case.inputs, [new])
    return model.bytes()


@st.composite
def svdf(draw: Draw, dtype: str) -> bytes:
    """int8 with a state of 16 bits; LiteRT's integer kernel takes no other activation than RELU, and ignores it."""
    case = Case(draw, dtype)
    main, r = case.model.main, rng(draw)
    size, units, rank, memory = (draw(st.integers(1, n)) for n in (9, 5, 3, 6))
    filters = units * rank
    x = case.input((1, size))
    feature_scale, state_scale, time_scale = 0.01, scale(draw, "int16"), 0.0004
    feature = case.constant(r.integers(-127, 128, (filters, size)), "int8", scale=feature_scale)
    time = case.constant(r.integers(-2000, 2000, (filters, memory)), "int16", scale=time_scale)
    bias = -1
    if draw(st.booleans()):
        bias = case.constant(r.integers(-5000, 5000, units), "int32", scale=state_scale * time_scale)
    state = main.tensor((1, filters * memory), "int16", state_scale, variable=True)
    y = case.port((1, units), scale=float(np.float32(state_scale * time_scale * 3e5)))
    opts = options("SVDFOptions", rank=rank, fusedActivationFunction=1)
    return case.op("SVDF", [x.number, feature, time, bias, state], [y.number], opts, 3)
