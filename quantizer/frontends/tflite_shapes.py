"""Translators of TFLite's operators that move, join, cut, resize and reduce."""

from __future__ import annotations

from math import prod

from intaglio.quantizer.frontends.tflite_layers import MAX_EXTENT, image
from intaglio.quantizer.frontends.tflite_options import (
    ConcatenationOptions,
    DepthToSpaceOptions,
    GatherOptions,
    MirrorPadOptions,
    PackOptions,
    ReducerOptions,
    ReshapeOptions,
    ResizeBilinearOptions,
    ResizeNearestNeighborOptions,
    SpaceToDepthOptions,
    SqueezeOptions,
    StridedSliceOptions,
    UnpackOptions,
)
from intaglio.quantizer.frontends.tflite_values import MAX_ELEMENTS, Builder, Translator, dtype, qparams

Shape = tuple[int, ...]


def reshaped(b: Builder) -> Shape:
    """The shape that RESHAPE, SQUEEZE or EXPAND_DIMS gives its input."""
    assert b.operator is not None
    shape = b.type(b.input(0)).shape
    if b.operator.builtin == "SQUEEZE":
        axes = [b.axis(a, len(shape)) for a in b.options(SqueezeOptions).squeeze_dims]
        if any(shape[a] != 1 for a in axes):
            raise b.fail(f"squeezes axes {axes} of {list(shape)}")
        return tuple(n for i, n in enumerate(shape) if (i not in axes if axes else n != 1))
    if b.operator.builtin == "EXPAND_DIMS":
        axis = b.axis(b.integer(1, "axis"), len(shape) + 1)
        return (*shape[:axis], 1, *shape[axis:])
    wanted = _wanted_shape(b)
    known = prod(n for n in wanted if n != -1)
    if wanted.count(-1) > 1 or any(n < -1 or n > MAX_ELEMENTS for n in wanted):
        raise b.fail(f"shape {list(wanted)}")
    total = prod(shape)
    if wanted.count(-1) and (known == 0 or total % known):
        raise b.fail(f"{list(shape)} cannot take shape {list(wanted)}")
    return tuple(total // known if n == -1 else n for n in wanted)


def _wanted_shape(b: Builder) -> Shape:
    number = b.optional(1)
    if number is not None and b.constant(number) is not None:
        return b.integers(1, "shape")
    stored = b.options(ReshapeOptions).new_shape
    if number is not None:
        raise b.unsupported("a shape computed at run time", "convert the model with constant shapes")
    # Files of 2018 say "scalar" as [0].
    return () if stored == (0,) else stored


def _reshape(b: Builder) -> None:
    b.emit("Reshape", (b.name(b.input(0)),), (b.output(),), shape=reshaped(b))


def permutation(b: Builder) -> Shape:
    """The axes of TRANSPOSE, counted from the front."""
    rank = len(b.type(b.input(0)).shape)
    return tuple(b.axis(a, rank) for a in b.integers(1, "permutation"))


def _transpose(b: Builder) -> None:
    b.emit("Transpose", (b.name(b.input(0)),), (b.output(),), perm=permutation(b))


def joined_axis(b: Builder) -> int:
    """The axis of CONCATENATION, which must not have an activation."""
    o = b.options(ConcatenationOptions)
    if o.activation:
        raise b.unsupported("a fused activation", "convert the model again")
    return b.axis(o.axis, len(b.type(b.input(0)).shape))


def _concatenation(b: Builder) -> None:
    assert b.operator is not None
    axis = joined_axis(b)
    names = tuple(b.name(b.input(i)) for i in range(len(b.operator.inputs)))
    if len(names) == 1:
        b.emit("Reshape", names, (b.output(),), shape=b.type(b.input(0)).shape)
        return
    b.emit("Concat", names, (b.output(),), axis=axis)


def packed_axis(b: Builder) -> int:
    """The new axis of PACK."""
    return b.axis(b.options(PackOptions).axis, len(b.type(b.input(0)).shape) + 1)


def _pack(b: Builder) -> None:
    assert b.operator is not None
    axis, parts = packed_axis(b), []
    for i in range(len(b.operator.inputs)):
        name, kind = b.name(b.input(i)), b.type(b.input(i))
        part = b.fresh(name)
        shape = (*kind.shape[:axis], 1, *kind.shape[axis:])
        b.emit_typed("Reshape", (name,), ((part, kind.dtype, kind.qparams),), shape=shape)
        parts.append(part)
    if len(parts) == 1:
        b.emit("Reshape", parts, (b.output(),), shape=b.types[parts[0]].shape)
        return
    b.emit("Concat", parts, (b.output(),), axis=axis)


def _unpack(b: Builder) -> None:
    assert b.operator is not None
    kind, outputs = b.type(b.input(0)), b.operator.outputs
    axis = b.axis(b.options(UnpackOptions).axis, len(kind.shape))
    if kind.shape[axis] != len(outputs):
        raise b.fail(f"axis {axis} of {list(kind.shape)} into {len(outputs)} outputs")
    rest = (*kind.shape[:axis], *kind.shape[axis + 1 :])
    source, parts = b.name(b.input(0)), []
    for number in outputs:
        tensor = b.subgraph.tensors[number]
        parts.append((b.fresh(b.names[number]), dtype(tensor, b.where), qparams(tensor, b.where)))
    if len(outputs) > 1:
        b.emit_typed("Split", (source,), parts, axis=axis, sizes=(1,) * len(outputs))
    for number, (part, _, _) in zip(outputs, parts, strict=True):
        b.emit("Reshape", (part if len(outputs) > 1 else source,), (number,), shape=rest)


def _split(b: Builder) -> None:
    """Inputs: axis, x."""
    assert b.operator is not None
    shape, outputs = b.type(b.input(1)).shape, b.operator.outputs
    axis = b.axis(b.integer(0, "axis"), len(shape))
    if not outputs or shape[axis] % len(outputs):
        raise b.fail(f"axis {axis} of {list(shape)} into {len(outputs)} equal parts")
    _cut(b, 1, axis, (shape[axis] // len(outputs),) * len(outputs))


def _split_v(b: Builder) -> None:
    """Inputs: x, sizes, axis."""
    shape = b.type(b.input(0)).shape
    axis = b.axis(b.integer(2, "axis"), len(shape))
    sizes = b.integers(1, "sizes")
    if sizes.count(-1) == 1:
        sizes = tuple(shape[axis] - sum(n for n in sizes if n != -1) if n == -1 else n for n in sizes)
    _cut(b, 0, axis, sizes)


def _cut(b: Builder, position: int, axis: int, sizes: Shape) -> None:
    assert b.operator is not None
    outputs, shape = b.operator.outputs, b.type(b.input(position)).shape
    if len(sizes) != len(outputs) or min(sizes, default=0) < 1 or sum(sizes) != shape[axis]:
        raise b.fail(f"sizes {list(sizes)} do not fill axis {axis} of {list(shape)}")
    source = b.name(b.input(position))
    if len(outputs) == 1:
        b.emit("Reshape", (source,), outputs, shape=shape)
    else:
        b.emit("Split", (source,), outputs, axis=axis, sizes=sizes)


def sliced(b: Builder) -> tuple[list[slice], Shape]:
    """What STRIDED_SLICE or SLICE takes of each axis, with explicit bounds, and the shape that it leaves."""
    assert b.operator is not None
    shape = b.type(b.input(0)).shape
    if b.operator.builtin == "SLICE":
        begins, sizes = b.integers(1, "begin"), b.integers(2, "size")
        if len(begins) != len(shape) or len(sizes) != len(shape):
            raise b.fail(f"begin {list(begins)}, size {list(sizes)} of {list(shape)}")
        cuts = []
        for n, begin, size in zip(shape, begins, sizes, strict=True):
            end = n if size == -1 else begin + size
            if not 0 <= begin < end <= n:
                raise b.fail(f"begin {list(begins)}, size {list(sizes)} of {list(shape)}")
            cuts.append(slice(begin, end, 1))
        return cuts, tuple(c.stop - c.start for c in cuts)
    return _strided(b, shape)


def _strided(b: Builder, shape: Shape) -> tuple[list[slice], Shape]:
    o = b.options(StridedSliceOptions)
    begins, ends, steps = (b.integers(i, what) for i, what in ((1, "begin"), (2, "end"), (3, "strides")))
    if not len(begins) == len(ends) == len(steps) or len(begins) > 31 or 0 in steps:
        raise b.fail(f"begin {list(begins)}, end {list(ends)}, strides {list(steps)}")
    bits = range(len(begins))
    added = [i for i in bits if o.new_axis_mask >> i & 1 and not o.ellipsis_mask >> i & 1]
    left = len(shape) - (len(begins) - len(added))
    whole = [slice(0, n, 1) for n in shape]
    cuts: list[slice] = []
    result: list[int] = []
    for i in bits:
        if o.ellipsis_mask >> i & 1:
            # The ellipsis itself is one entry; it stands for all axes that no other entry speaks of.
            taken = whole[len(cuts) : len(cuts) + left + 1]
            cuts += taken
            result += [c.stop for c in taken]
            left = 0
        elif i in added:
            result.append(1)
        else:
            if len(cuts) >= len(shape):
                raise b.fail(f"{len(begins)} cuts of {list(shape)}")
            cut, kept = _one_cut(b, o, i, begins[i], ends[i], steps[i], shape[len(cuts)])
            cuts.append(cut)
            result += kept
    rest = whole[len(cuts) :]
    return cuts + rest, (*result, *(c.stop for c in rest))


def _one_cut(
    b: Builder, o: StridedSliceOptions, i: int, begin: int, end: int, step: int, size: int
) -> tuple[slice, list[int]]:
    """The cut of one axis, and its size in the output, if it is not dropped."""
    if o.shrink_axis_mask >> i & 1:
        index = 0 if o.begin_mask >> i & 1 and step > 0 else size - 1 if o.begin_mask >> i & 1 else begin
        if not -size <= index < size:
            raise b.fail(f"index {index} of an axis of {size}")
        return slice(index % size, index % size + 1, 1), []
    low = None if o.begin_mask >> i & 1 else begin
    start = slice(low, None, step).indices(size)[0]
    if o.offset:
        end += start
    start, stop, step = slice(low, None if o.end_mask >> i & 1 else end, step).indices(size)
    count = len(range(start, stop, step))
    if count == 0:
        raise b.unsupported(f"the slice {begin}:{end}:{step} of an axis of {size} is empty")
    return slice(start, stop, step), [count]


def _slice(b: Builder) -> None:
    cuts, shape = sliced(b)
    name, kind = b.name(b.input(0)), b.type(b.input(0))
    attrs = {
        "starts": tuple(c.start for c in cuts),
        "ends": tuple(c.stop for c in cuts),
        "steps": tuple(c.step for c in cuts),
    }
    if len(shape) == len(kind.shape):
        b.emit("Slice", (name,), (b.output(),), **attrs)
        return
    part = b.fresh(b.names[b.output()])
    b.emit_typed("Slice", (name,), ((part, kind.dtype, kind.qparams),), **attrs)
    b.emit("Reshape", (part,), (b.output(),), shape=shape)


def gathered(b: Builder) -> int:
    """The axis of GATHER, whose constant indices are checked."""
    o = b.options(GatherOptions)
    if o.batch_dims:
        raise b.unsupported(f"batch_dims {o.batch_dims}", "only batch_dims 0 is supported")
    shape = b.type(b.input(0)).shape
    axis = b.axis(o.axis, len(shape))
    indices = b.constant(b.input(1))
    if indices is None:
        raise b.unsupported("indices computed at run time", "only constant indices are supported")
    if indices.dtype.kind not in "iu" or indices.min() < 0 or indices.max() >= shape[axis]:
        raise b.fail(f"indices outside axis {axis} of {list(shape)}")
    return axis


def _gather(b: Builder) -> None:
    axis = gathered(b)
    b.emit("Gather", (b.name(b.input(0)), b.name(b.input(1))), (b.output(),), axis=axis)


def _pads(b: Builder) -> tuple[tuple[int, int], ...]:
    flat, rank = b.integers(1, "paddings"), len(b.type(b.input(0)).shape)
    if len(flat) != 2 * rank or any(not 0 <= n <= MAX_EXTENT for n in flat):
        raise b.fail(f"paddings {list(flat)} of a tensor of rank {rank}")
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def _pad(b: Builder) -> None:
    """Inputs: x, paddings and, of PADV2, the value: an integer of the output's scale."""
    value, number = 0.0, b.optional(2)
    if number is not None:
        constant = b.constant(number)
        if constant is None or constant.size != 1:
            raise b.unsupported("a padding value computed at run time", "only a constant is supported")
        value = float(constant.ravel()[0])
        q = qparams(b.subgraph.tensors[b.output()], b.where)
        if q is not None:
            scale, zero = q.per_tensor
            value = (value - zero) * scale
    b.emit("Pad", (b.name(b.input(0)),), (b.output(),), pads=_pads(b), mode="constant", value=value)


def _mirror_pad(b: Builder) -> None:
    mode = b.options(MirrorPadOptions).mode
    if mode not in (0, 1):
        raise b.fail(f"mode {mode}")
    mode_name = "symmetric" if mode else "reflect"
    b.emit("Pad", (b.name(b.input(0)),), (b.output(),), pads=_pads(b), mode=mode_name)


def _resize(mode: str) -> Translator:
    def translate(b: Builder) -> None:
        nearest = mode == "nearest"
        o = b.options(ResizeNearestNeighborOptions) if nearest else b.options(ResizeBilinearOptions)
        image(b, b.input(0))
        size = b.integers(1, "size")
        if len(size) != 2 or any(not 1 <= n <= MAX_EXTENT for n in size):
            raise b.fail(f"size {list(size)}")
        # With half pixels LiteRT drops the fraction of the coordinate + 1/2: it rounds, halves upwards.
        rounding = "half_away" if o.align_corners else "round_prefer_ceil" if o.half_pixel_centers else "floor"
        attrs = {"nearest_round": rounding} if nearest else {}
        b.emit(
            "Resize",
            (b.name(b.input(0)),),
            (b.output(),),
            mode=mode,
            size=size,
            align_corners=o.align_corners,
            half_pixel=o.half_pixel_centers,
            **attrs,
        )

    return translate


def _space_to_depth(b: Builder) -> None:
    image(b, b.input(0))
    b.emit(
        "SpaceToDepth", (b.name(b.input(0)),), (b.output(),), block=_block(b, b.options(SpaceToDepthOptions).block_size)
    )


def _depth_to_space(b: Builder) -> None:
    image(b, b.input(0))
    block = _block(b, b.options(DepthToSpaceOptions).block_size)
    b.emit("DepthToSpace", (b.name(b.input(0)),), (b.output(),), block=block, mode="dcr")


def _block(b: Builder, block: int) -> int:
    if not 1 <= block <= MAX_EXTENT:
        raise b.fail(f"block size {block}")
    return block


def reduced_axes(b: Builder) -> tuple[int, ...]:
    """The axes of a reduction, counted from the front, each once."""
    rank = len(b.type(b.input(0)).shape)
    axes = tuple(sorted({b.axis(a, rank) for a in b.integers(1, "axes")}))
    if not axes:
        raise b.unsupported("a reduction along no axis", "convert the model again")
    return axes


def _reduce(op: str) -> Translator:
    def translate(b: Builder) -> None:
        keep = b.options(ReducerOptions).keep_dims
        b.emit(op, (b.name(b.input(0)),), (b.output(),), axes=reduced_axes(b), keep_dims=keep)

    return translate


def _arg(op: str) -> Translator:
    def translate(b: Builder) -> None:
        axis = b.axis(b.integer(1, "axis"), len(b.type(b.input(0)).shape))
        b.emit(op, (b.name(b.input(0)),), (b.output(),), axis=axis, keep_dims=False)

    return translate


def _top_k(b: Builder) -> None:
    rank = len(b.type(b.input(0)).shape)
    k = b.integer(1, "k")
    if rank == 0 or not 1 <= k <= b.type(b.input(0)).shape[-1]:
        raise b.fail(f"k {k} of a tensor of shape {list(b.type(b.input(0)).shape)}")
    b.emit("TopK", (b.name(b.input(0)),), (b.output(0), b.output(1)), k=k, axis=rank - 1)


SHAPES: dict[str, Translator] = {
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "TRANSPOSE": _transpose,
    "CONCATENATION": _concatenation,
    "PACK": _pack,
    "UNPACK": _unpack,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SLICE": _slice,
    "STRIDED_SLICE": _slice,
    "GATHER": _gather,
    "PAD": _pad,
    "PADV2": _pad,
    "MIRROR_PAD": _mirror_pad,
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest"),
    "RESIZE_BILINEAR": _resize("bilinear"),
    "SPACE_TO_DEPTH": _space_to_depth,
    "DEPTH_TO_SPACE": _depth_to_space,
    "MEAN": _reduce("Mean"),
    "SUM": _reduce("Sum"),
    "REDUCE_MAX": _reduce("ReduceMax"),
    "REDUCE_MIN": _reduce("ReduceMin"),
    "ARG_MAX": _arg("ArgMax"),
    "ARG_MIN": _arg("ArgMin"),
    "TOPK_V2": _top_k,
}
