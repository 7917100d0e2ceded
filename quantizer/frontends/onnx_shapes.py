"""ONNX operators that move, reduce or combine values: Reshape, Transpose, Concat, Slice, ReduceMean, Add, ..."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from intaglio.quantizer.frontends.onnx_layers import Attributes, Translator
from intaglio.quantizer.frontends.onnx_values import Builder, Layout, Value, stored_axis
from intaglio.quantizer.ir import Attrs, DType, TensorType
from intaglio.quantizer.ops.arg_max import ArgMaxAttrs
from intaglio.quantizer.ops.arg_min import ArgMinAttrs
from intaglio.quantizer.ops.concat import ConcatAttrs
from intaglio.quantizer.ops.depth_to_space import DepthToSpaceAttrs
from intaglio.quantizer.ops.gather import GatherAttrs
from intaglio.quantizer.ops.mean import MeanAttrs
from intaglio.quantizer.ops.pad import PadAttrs
from intaglio.quantizer.ops.reduce_max import ReduceMaxAttrs
from intaglio.quantizer.ops.reduce_min import ReduceMinAttrs
from intaglio.quantizer.ops.slice import SliceAttrs
from intaglio.quantizer.ops.space_to_depth import SpaceToDepthAttrs
from intaglio.quantizer.ops.split import SplitAttrs
from intaglio.quantizer.ops.sum import SumAttrs
from intaglio.quantizer.ops.top_k import TopKAttrs


def reshape_to(b: Builder, name: str, out: str, shape: Sequence[int]) -> None:
    """Give `out` the elements of `name` under another ONNX shape, without moving them where that can be."""
    value = b.value(name)
    shape = tuple(int(s) for s in shape)
    if value.layout is Layout.LAST:
        n, h, w, c = b.shape(value.tensor)
        if shape == value.shape:
            b.set_like(out, value.tensor, value)
            return
        if n == 1 and shape == (1, c * h * w) and c > 1 and h * w > 1:
            b.set(out, b.reshaped(value.tensor, shape), shape, Layout.FLAT, (h, w, c))
            return
        same_image = len(shape) in (3, 4) and shape[:2] == (n, c) and prod(shape[2:]) == h * w
        if same_image and (len(shape) == 3 or shape[2] in (1, h) or shape[3] == 1):
            rows, cols = (1, shape[2]) if len(shape) == 3 else shape[2:]
            b.set(out, b.reshaped(value.tensor, (n, rows, cols, c)), shape, Layout.LAST)
            return
    if value.layout is Layout.FLAT and shape == value.shape:
        b.set_like(out, value.tensor, value)
        return
    b.set(out, b.reshaped(b.plain(name), shape), shape)


def reshape(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    value = b.value(ins[0])
    wanted = integers(b, ins[1]) if len(ins) > 1 else [int(v) for v in a["shape"]]
    total = prod(value.shape)
    if not a.get("allowzero", 0):
        wanted = [value.shape[i] if v == 0 and i < len(value.shape) else v for i, v in enumerate(wanted)]
    rest = prod(v for v in wanted if v != -1)
    if wanted.count(-1) == 1 and rest > 0 and total % rest == 0:
        wanted = [total // rest if v == -1 else v for v in wanted]
    if prod(wanted) != total or any(v <= 0 for v in wanted):
        # A batch written as a number other than 1 belongs to the exporter's example.
        raise b.fail(f"{list(value.shape)} reshaped to {wanted}", "re-export the model with batch 1")
    reshape_to(b, ins[0], outs[0], wanted)


def flatten(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    shape = b.value(ins[0]).shape
    axis = int(a.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    if not 0 <= axis <= len(shape):
        raise b.fail(f"flattened at axis {axis} of {list(shape)}", "re-export the model")
    reshape_to(b, ins[0], outs[0], (prod(shape[:axis]), prod(shape[axis:])))


def integers(b: Builder, name: str) -> list[int]:
    """A constant list of integers.

    Raises:
        UnsupportedError: it is computed at run time, or not of integers.
    """
    data = b.constant(name).data
    if data.dtype.kind not in "iu":
        raise b.fail(f"'{name}' is {data.dtype}, where integers are needed", "re-export the model")
    return [int(v) for v in data.ravel()]


def _axes(b: Builder, ins: Sequence[str], a: Attributes, rank: int) -> list[int] | None:
    """The axes, an input since opset 13 (18 for most reductions), not negative; None when not given."""
    axes = integers(b, ins[1]) if len(ins) > 1 and ins[1] else a.get("axes")
    if axes is None or len(axes) == 0:
        return None
    found = [int(x) + rank if x < 0 else int(x) for x in axes]
    if any(not 0 <= x < rank for x in found) or len(set(found)) != len(found):
        raise b.fail(f"axes {list(axes)} of {rank}", "re-export the model")
    return found


def squeeze(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    shape = b.value(ins[0]).shape
    axes = _axes(b, ins, a, len(shape))
    gone = [i for i, n in enumerate(shape) if n == 1] if axes is None else axes
    reshape_to(b, ins[0], outs[0], [n for i, n in enumerate(shape) if i not in gone])


def unsqueeze(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    shape = list(b.value(ins[0]).shape)
    given = integers(b, ins[1]) if len(ins) > 1 else a["axes"]
    for axis in sorted(_axes(b, [], {"axes": given}, len(shape) + len(given)) or []):
        shape.insert(axis, 1)
    reshape_to(b, ins[0], outs[0], shape)


def transpose(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    value = b.value(ins[0])
    rank = len(value.shape)
    perm = tuple(int(p) for p in a.get("perm", range(rank)[::-1]))
    shape = tuple(value.shape[p] for p in perm)
    # Turning an image is a change of layout, not of bytes.
    if value.layout is Layout.PLAIN and perm == (0, 3, 1, 2):
        b.set(outs[0], value.tensor, shape, Layout.LAST)
    elif value.layout is Layout.LAST and perm == (0, 2, 3, 1):
        b.set(outs[0], value.tensor, shape)
    elif value.layout is Layout.LAST and perm == (0, 2, 1):
        b.set(outs[0], b.reshaped(value.tensor, shape), shape)
    else:
        made = b.transposed(b.plain(ins[0]), perm)
        b.set(outs[0], made, shape)


def same_layout(b: Builder, names: Sequence[str]) -> tuple[list[str], Value]:
    """Bring values of one rank under one layout; return their tensors and a value that has it."""
    values = [b.value(n) for n in names]
    images = [v for v in values if v.layout is Layout.LAST]
    if images:
        return [b.last(n) for n in names], images[0]
    if all(v.layout is Layout.FLAT and v.image == values[0].image for v in values):
        return [v.tensor for v in values], values[0]
    tensors = [b.plain(n) for n in names]
    return tensors, Value(tensors[0], values[0].shape)


def settle(b: Builder, out: str, tensor: str, like: Value, shape: Sequence[int] | None = None) -> None:
    """Name a tensor that is laid out like a value whose spatial shape may differ."""
    if like.layout is Layout.LAST:
        b.set_image(out, tensor, len(like.shape))
    else:
        b.set(out, tensor, shape or b.shape(tensor), like.layout, like.image)


def concat(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    tensors, like = same_layout(b, ins)
    if like.layout is Layout.FLAT:
        tensors, like = [b.plain(n) for n in ins], Value("", b.value(ins[0]).shape)
    axis = stored_axis(like, int(a["axis"]))
    settle(b, outs[0], b.emit("Concat", ConcatAttrs(axis), tensors, outs[0])[0], like)


def _movable(b: Builder, name: str) -> Value:
    """A value whose axes exist in its stored tensor: FLAT ones are brought into ONNX's order."""
    value = b.value(name)
    return Value(b.plain(name), value.shape) if value.layout is Layout.FLAT else value


def split(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    value = _movable(b, ins[0])
    axis = int(a.get("axis", 0))
    total = value.shape[axis]
    given = integers(b, ins[1]) if len(ins) > 1 and ins[1] else a.get("split")
    step = -(-total // len(outs))
    sizes = list(given) if given is not None else [min(step, total - i * step) for i in range(len(outs))]
    if sum(sizes) != total or len(sizes) != len(outs) or min(sizes) <= 0:
        raise b.fail(f"{total} split into {sizes}", "re-export the model")
    made = b.emit("Split", SplitAttrs(stored_axis(value, axis), tuple(sizes)), [value.tensor], list(outs))
    for out, tensor in zip(outs, made, strict=True):
        settle(b, out, tensor, value)


def slice_(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    value = _movable(b, ins[0])
    rank = len(value.shape)
    if len(ins) > 1:
        given = [integers(b, n) if n else None for n in (*ins[1:], "", "", "")[:4]]
        starts, ends, axes, steps = given[0] or [], given[1] or [], given[2], given[3]
    else:
        starts, ends, axes, steps = list(a["starts"]), list(a["ends"]), a.get("axes"), None
    axes = list(range(len(starts))) if axes is None else [int(x) % rank for x in axes]
    steps = [1] * len(starts) if steps is None else steps
    stored = b.shape(value.tensor)
    first, last, stride = [0] * len(stored), list(stored), [1] * len(stored)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        low, high, by = slice(int(start), int(end), int(step)).indices(value.shape[axis])
        at = stored_axis(value, axis)
        first[at], last[at], stride[at] = low, high, by
        if len(range(low, high, by)) == 0:
            raise b.fail(f"an empty slice of axis {axis}", "re-export the model")
    attrs = SliceAttrs(tuple(first), tuple(last), tuple(stride))
    settle(b, outs[0], b.emit("Slice", attrs, [value.tensor], outs[0])[0], value)


def gather(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    value = b.value(ins[0])
    axis = int(a.get("axis", 0)) % len(value.shape)
    indices = np.array(integers(b, ins[1]), np.int64).reshape(b.constant(ins[1]).data.shape)
    size = value.shape[axis]
    flat = np.where(indices < 0, indices + size, indices)
    if flat.size == 0 or flat.min() < 0 or flat.max() >= size:
        raise b.fail("indices outside the axis", "re-export the model")
    tensor = b.add_constant(f"{outs[0]}/indices", flat.reshape(-1).astype(np.int32))
    made = b.emit("Gather", GatherAttrs(axis), [b.plain(ins[0]), tensor], outs[0])[0]
    shape = (*value.shape[:axis], *indices.shape, *value.shape[axis + 1 :])
    b.set(outs[0], b.reshaped(made, shape), shape)


def pad(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    value = _movable(b, ins[0])
    rank = len(value.shape)
    pads = integers(b, ins[1]) if len(ins) > 1 else [int(p) for p in a["pads"]]
    fill = float(b.constant(ins[2]).data.ravel()[0]) if len(ins) > 2 and ins[2] else float(a.get("value", 0.0))
    axes = [x % rank for x in integers(b, ins[3])] if len(ins) > 3 and ins[3] else list(range(rank))
    mode = a.get("mode", "constant")
    if not np.isfinite(fill):
        raise b.fail(f"padding with {fill}", "pad with a number")
    if len(pads) != 2 * len(axes) or min(pads) < 0 or mode not in ("constant", "reflect", "edge"):
        raise b.fail(f"pads {pads} in mode {mode}", "constant, reflect and edge without negative pads are supported")
    stored = [(0, 0)] * len(b.shape(value.tensor))
    for i, axis in enumerate(axes):
        stored[stored_axis(value, axis)] = (pads[i], pads[i + len(axes)])
    made = b.emit("Pad", PadAttrs(tuple(stored), mode, fill), [value.tensor], outs[0])[0]
    settle(b, outs[0], made, value)


def reduction(op: str, attrs: Callable[[tuple[int, ...], bool], Attrs]) -> Translator:
    """ReduceMean and its kind."""

    def translate(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
        value = _movable(b, ins[0])
        rank = len(value.shape)
        axes = _axes(b, ins, a, rank)
        if not axes and a.get("noop_with_empty_axes", 0):
            b.set_like(outs[0], b.value(ins[0]).tensor, b.value(ins[0]))
            return
        axes = axes or list(range(rank))
        keep = bool(a.get("keepdims", 1))
        spatial = set(range(2, rank))
        if value.layout is Layout.LAST and (keep or set(axes) == spatial):
            stored = sorted(stored_axis(value, x) for x in axes)
            if rank == 3 and set(axes) >= spatial:
                stored = sorted({1, *stored})
            made = b.emit(op, attrs(tuple(stored), True), [value.tensor], outs[0])[0]
            b.set_image(outs[0], made, rank)
            if not keep:
                reshape_to(b, outs[0], outs[0], value.shape[:2])
            return
        made = b.emit(op, attrs(tuple(sorted(axes)), keep), [b.plain(ins[0])], outs[0])[0]
        b.set(outs[0], made, b.shape(made))

    return translate


def arg(op: str, attrs: Callable[[int, bool, bool], Attrs]) -> Translator:
    """ArgMax and ArgMin: int64."""

    def translate(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
        rank = len(b.value(ins[0]).shape)
        axis = int(a.get("axis", 0)) % rank
        made = b.emit(
            op,
            attrs(axis, bool(a.get("keepdims", 1)), bool(a.get("select_last_index", 0))),
            [b.plain(ins[0])],
            outs[0],
            TensorType(DType.INT64, ()),
        )[0]
        b.set(outs[0], made, b.shape(made))

    return translate


def top_k(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    axis = int(a.get("axis", -1)) % len(b.value(ins[0]).shape)
    k = integers(b, ins[1])[0] if len(ins) > 1 else int(a["k"])
    tensor = b.plain(ins[0])
    kinds = [b.types[tensor], TensorType(DType.INT32, ())]
    made = b.emit("TopK", TopKAttrs(k, axis, bool(a.get("largest", 1))), [tensor], list(outs), kinds)
    for out, t in zip(outs, made, strict=True):
        b.set(out, t, b.shape(t))


def space_to_depth(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    image, block = b.last(ins[0]), int(a["blocksize"])
    mode = a.get("mode", "DCR")
    if mode == "CRD":
        # Channels before the block's pixels, which no kernel of its own is worth.
        n, h, w, c = b.shape(image)
        if block < 1 or h % block or w % block:
            raise b.fail(f"blocks of {block} do not tile {h} x {w}", "re-export the model")
        split = b.reshaped(image, (n, h // block, block, w // block, block, c))
        made = b.reshaped(b.transposed(split, (0, 1, 3, 5, 2, 4)), (n, h // block, w // block, c * block * block))
    elif mode == "DCR":
        made = b.emit("SpaceToDepth", SpaceToDepthAttrs(block), [image], outs[0])[0]
    else:
        raise b.fail(f"mode {mode}", "DCR and CRD are supported")
    b.set_image(outs[0], made, 4)


def depth_to_space(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    attrs = DepthToSpaceAttrs(int(a["blocksize"]), str(a.get("mode", "DCR")).lower())
    b.set_image(outs[0], b.emit("DepthToSpace", attrs, [b.last(ins[0])], outs[0])[0], 4)


def binary(op: str, attrs: Callable[[], Attrs]) -> Translator:
    """Elementwise operators of two inputs, or of more that are combined from left to right."""

    def translate(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
        left = ins[0]
        for i, right in enumerate(ins[1:]):
            out = outs[0] if i == len(ins) - 2 else f"{outs[0]}/{i}"
            _binary(b, op, attrs(), left, right, out)
            left = out
        if len(ins) == 1:
            b.set_like(outs[0], b.value(left).tensor, b.value(left))

    return translate


def _binary(b: Builder, op: str, attrs: Attrs, x: str, y: str, out: str) -> None:
    names = (x, y)
    runtime = [n for n in names if n not in b.constants]
    like = max((b.value(n) for n in runtime), key=lambda v: (v.layout is Layout.LAST, len(v.shape), prod(v.shape)))
    shape = np.broadcast_shapes(*(b.constants[n].data.shape if n in b.constants else b.value(n).shape for n in names))
    if like.layout is Layout.LAST and len(shape) == len(like.shape):
        tensors = [_as_image(b, n, len(shape)) for n in names]
        b.set_image(out, b.emit(op, attrs, tensors, out, _kind(b, runtime))[0], len(shape))
        return
    tensors = [_operand(b, n) for n in names]
    kept = like if all(n in b.constants or b.value(n).layout is like.layout for n in names) else None
    if (
        kept is not None
        and kept.layout is Layout.FLAT
        and all(b.constants[n].data.size == 1 if n in b.constants else b.value(n).image == like.image for n in names)
    ):
        tensors = [_operand(b, n) if n in b.constants else b.value(n).tensor for n in names]
        b.set(out, b.emit(op, attrs, tensors, out, _kind(b, runtime))[0], shape, Layout.FLAT, like.image)
        return
    b.set(out, b.emit(op, attrs, tensors, out, _kind(b, runtime))[0], shape)


def _kind(b: Builder, runtime: Sequence[str]) -> TensorType:
    return b.types[b.value(runtime[0]).tensor]


def _operand(b: Builder, name: str) -> str:
    if name in b.constants:
        constant = b.constants[name]
        return b.add_constant(name, constant.data, constant.qparams)
    return b.plain(name)


def _as_image(b: Builder, name: str, rank: int) -> str:
    """An operand of an image: constants are turned at compile time, broadcasting axes stay of size 1."""
    if name in b.constants:
        constant = b.constants[name]
        data: Any = constant.data.reshape((1,) * (rank - constant.data.ndim) + constant.data.shape)
        data = data[:, :, None] if rank == 3 else data
        return b.add_constant(name, data.transpose(0, 2, 3, 1), constant.qparams)
    value = b.value(name)
    if len(value.shape) < rank:
        shape = (1,) * (rank - len(value.shape)) + value.shape
        widened = f"{name}/image"
        reshape_to(b, name, widened, shape)
        return b.last(widened)
    return b.last(name)


SHAPES: dict[str, Translator] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Pad": pad,
    "ReduceMean": reduction("Mean", MeanAttrs),
    "ReduceSum": reduction("Sum", SumAttrs),
    "ReduceMax": reduction("ReduceMax", ReduceMaxAttrs),
    "ReduceMin": reduction("ReduceMin", ReduceMinAttrs),
    "ArgMax": arg("ArgMax", ArgMaxAttrs),
    "ArgMin": arg("ArgMin", ArgMinAttrs),
    "TopK": top_k,
    "SpaceToDepth": space_to_depth,
    "DepthToSpace": depth_to_space,
}
