"""ONNX Resize and Upsample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intaglio.quantizer.frontends.onnx_layers import Attributes, Translator
from intaglio.quantizer.frontends.onnx_values import Builder, image_shape
from intaglio.quantizer.ops.resize import ResizeAttrs

MODES = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear"}


def resize(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """Resize (opset 10 and later) and Upsample."""
    value = b.value(ins[0])
    rank = len(value.shape)
    if rank not in (3, 4):
        raise b.fail(f"an input of shape {list(value.shape)}", "an image of 1 or 2 dimensions is needed")
    size = _resized(b, ins, a, value.shape)
    if size[:2] != value.shape[:2]:
        raise b.fail("the batch or the channels are resized", "only height and width can be")
    mode = MODES.get(a.get("mode", "nearest"))
    if mode is None:
        raise b.fail(f"mode {a.get('mode')}", "nearest and linear are supported")
    shrinks = any(new < old for new, old in zip(size, value.shape, strict=True))
    if (a.get("antialias", 0) and shrinks) or (a.get("exclude_outside", 0) and mode == "bilinear"):
        raise b.fail("antialias or exclude_outside", "export the model without them")
    # Upsample and Resize 10 have no such attribute and mean asymmetric.
    legacy = "coordinate_transformation_mode" not in a and len(ins) <= 2
    transform = a.get("coordinate_transformation_mode", "asymmetric" if legacy else "half_pixel")
    transform = _same_coordinates(transform, size[2:], value.shape[2:])
    if transform not in ("half_pixel", "asymmetric", "align_corners"):
        raise b.fail(
            f"coordinate_transformation_mode {transform}", "half_pixel, asymmetric, align_corners are supported"
        )
    rounding = a.get("nearest_mode", "floor" if legacy else "round_prefer_floor")
    _, _, h, w = image_shape(size)
    attrs = ResizeAttrs(
        mode=mode,
        size=(h, w),
        align_corners=transform == "align_corners",
        half_pixel=transform == "half_pixel",
        nearest_round=rounding,
    )
    made = b.emit("Resize", attrs, [b.last(ins[0])], outs[0])
    b.set_image(outs[0], made[0], rank)


def _same_coordinates(transform: str, size: Sequence[int], old: Sequence[int]) -> str:
    """Another name of a transformation where it gives the same coordinates for these sizes."""
    if transform == "half_pixel_symmetric":
        # Differs by how far scale * old is from an integer, which here it is.
        return "half_pixel"
    if transform == "pytorch_half_pixel":
        # Differs where an axis becomes one pixel: that is then its first.
        if all(new > 1 or was == 1 for new, was in zip(size, old, strict=True)):
            return "half_pixel"
        if all(new == 1 for new in size):
            return "asymmetric"
    return transform


def _resized(b: Builder, ins: Sequence[str], a: Attributes, shape: Sequence[int]) -> tuple[int, ...]:
    """The output's shape.

    The coordinates of an output pixel follow from the scale that the model states; ours from the two sizes. The scale
    must therefore be their ratio.
    """
    rank = len(shape)
    axes = [int(x) % rank for x in a.get("axes", range(rank))]
    name = ins[1] if len(ins) == 2 else ins[2] if len(ins) > 2 else ""
    scales = a.get("scales") if not name else b.constant(name).data.ravel()
    size = list(shape)
    if len(ins) > 3 and ins[3]:
        wanted = [int(s) for s in b.constant(ins[3]).data.ravel()]
        policy = a.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratios = [new / shape[axis] for new, axis in zip(wanted, axes, strict=True)]
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            wanted = [int(np.floor(ratio * shape[axis] + 0.5)) for axis in axes]
            if any(abs(ratio * shape[axis] - new) > 1e-5 * new for new, axis in zip(wanted, axes, strict=True)):
                raise b.fail(f"a scale of {ratio:g}, not the ratio of two sizes", "export it with sizes")
        for new, axis in zip(wanted, axes, strict=True):
            size[axis] = new
    elif scales is not None and len(scales) == len(axes):
        for scale, axis in zip(scales, axes, strict=True):
            size[axis] = int(np.floor(shape[axis] * float(scale) * (1 + 1e-6)))
            if abs(shape[axis] * float(scale) - size[axis]) > 1e-5 * size[axis]:
                raise b.fail(f"a scale of {float(scale):g} on {shape[axis]} pixels", "export it with sizes")
    else:
        raise b.fail("no sizes and no scales", "re-export the model")
    if min(size) < 1:
        raise b.fail(f"a size of {size}", "re-export the model")
    return tuple(size)


RESIZE: dict[str, Translator] = {"Resize": resize, "Upsample": resize}
