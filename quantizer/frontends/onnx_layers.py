"""ONNX operators with weights or windows: Conv, ConvTranspose, Gemm, MatMul, pooling, BatchNormalization, Resize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intaglio.quantizer.frontends.onnx_values import Array, Builder, Constant, Layout, image_shape
from intaglio.quantizer.ir import QParams, TensorType
from intaglio.quantizer.ops.add import AddAttrs
from intaglio.quantizer.ops.average_pool2d import AveragePool2DAttrs
from intaglio.quantizer.ops.batch_mat_mul import BatchMatMulAttrs
from intaglio.quantizer.ops.conv2d import Conv2DAttrs
from intaglio.quantizer.ops.depthwise_conv2d import DepthwiseConv2DAttrs
from intaglio.quantizer.ops.fully_connected import FullyConnectedAttrs
from intaglio.quantizer.ops.max_pool2d import MaxPool2DAttrs
from intaglio.quantizer.ops.mul import MulAttrs
from intaglio.quantizer.ops.resize import ResizeAttrs
from intaglio.quantizer.ops.transpose_conv2d import TransposeConv2DAttrs

Attributes = dict[str, Any]
Translator = Callable[[Builder, Sequence[str], Sequence[str], Attributes], None]


def pair(b: Builder, values: Sequence[int] | None, default: int, rank: int) -> tuple[int, int]:
    """An attribute over the spatial axes as (rows, columns); one-dimensional images have one row."""
    if values is None:
        return (default, default) if rank == 4 else (1, default)
    if len(values) != rank - 2:
        raise b.fail(f"{len(values)} numbers for {rank - 2} spatial axes", "re-export the model")
    return (int(values[0]), int(values[1])) if rank == 4 else (1, int(values[0]))


def window_pads(
    b: Builder,
    a: Attributes,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, int, int, int]:
    """Pads (top, bottom, left, right) from `pads` or `auto_pad`.

    Args:
        size: height and width of the image.
    """
    mode = a.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        result: list[int] = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            small, large = total // 2, total - total // 2
            result += (small, large) if mode == "SAME_UPPER" else (large, small)
        return (result[0], result[1], result[2], result[3])
    pads = a.get("pads")
    if mode == "VALID" or not pads:
        return (0, 0, 0, 0)
    if any(p < 0 for p in pads):
        raise b.fail(f"negative pads {list(pads)}", "slice the image instead")
    if len(pads) == 2:
        return (0, 0, int(pads[0]), int(pads[1]))
    return (int(pads[0]), int(pads[2]), int(pads[1]), int(pads[3]))


def conv(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    weights = b.constant(ins[1])
    bias = b.constant(ins[2]) if len(ins) > 2 and ins[2] else None
    add_conv(b, ins[0], weights, bias, outs[0], a)


def add_conv(
    b: Builder,
    x: str,
    weights: Constant,
    bias: Constant | None,
    out: str,
    a: Attributes,
    kind: TensorType | None = None,
) -> None:
    """Conv and QLinearConv: depthwise where each input channel has filters of its own."""
    rank = len(b.value(x).shape)
    image = b.last(x)
    _, h, w, channels = b.shape(image)
    data = weights.data if rank == 4 else weights.data[:, :, None]
    groups = int(a.get("group", 1))
    if data.ndim != 4 or groups < 1 or data.shape[1] * groups != channels or data.shape[0] % groups:
        raise b.fail(f"weights {list(weights.data.shape)} with {groups} groups on {channels} channels", "re-export it")
    kernel = (data.shape[2], data.shape[3])
    stride, dilation = pair(b, a.get("strides"), 1, rank), pair(b, a.get("dilations"), 1, rank)
    pads = window_pads(b, a, (h, w), kernel, stride, dilation)
    depthwise = groups == channels and groups > 1
    # (O, I / g, kh, kw) to ours.
    turned = data.transpose(1, 2, 3, 0) if depthwise else data.transpose(0, 2, 3, 1)
    axis = 3 if depthwise else 0
    tensors = [image, b.add_constant(f"{out}/weights", turned, on_axis(weights.qparams, axis))]
    if bias is not None:
        tensors.append(b.add_constant(f"{out}/bias", bias.data, bias.qparams))
    if depthwise:
        made = b.emit("DepthwiseConv2D", DepthwiseConv2DAttrs(stride, dilation, pads), tensors, out, kind)
    else:
        made = b.emit("Conv2D", Conv2DAttrs(stride, dilation, pads, groups), tensors, out, kind)
    b.set_image(out, made[0], rank)


def on_axis(qparams: QParams | None, axis: int) -> QParams | None:
    """Per-channel parameters moved to the axis where our weights have their output channels."""
    if qparams is None or qparams.axis is None:
        return qparams
    return QParams(qparams.scale, qparams.zero_point, axis)


def conv_transpose(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    weights = b.constant(ins[1])
    rank = len(b.value(ins[0]).shape)
    image = b.last(ins[0])
    data = weights.data if rank == 4 else weights.data[:, :, None]
    if int(a.get("group", 1)) != 1 or pair(b, a.get("dilations"), 1, rank) != (1, 1):
        raise b.fail("groups or dilation in a transposed convolution", "re-export the model without them")
    if a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or a.get("output_shape"):
        raise b.fail("auto_pad or output_shape in a transposed convolution", "export it with explicit pads")
    stride = pair(b, a.get("strides"), 1, rank)
    pads = window_pads(b, a, b.shape(image)[1:3], data.shape[2:], stride, (1, 1))
    extra = pair(b, a.get("output_padding"), 0, rank) if a.get("output_padding") else (0, 0)
    # (I, O, kh, kw) to (O, kh, kw, I).
    tensors = [image, b.add_constant(f"{outs[0]}/weights", data.transpose(1, 2, 3, 0), on_axis(weights.qparams, 0))]
    if len(ins) > 2 and ins[2]:
        bias = b.constant(ins[2])
        tensors.append(b.add_constant(f"{outs[0]}/bias", bias.data, bias.qparams))
    made = b.emit("TransposeConv2D", TransposeConv2DAttrs(stride, pads, extra), tensors, outs[0])
    b.set_image(outs[0], made[0], rank)


def gemm(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    if a.get("transA", 0):
        raise b.fail("transA", "re-export the model: the activations come first, rows of samples")
    weights = b.constant(ins[1])
    alpha, beta = float(a.get("alpha", 1.0)), float(a.get("beta", 1.0))
    bias = b.constant(ins[2]) if len(ins) > 2 and ins[2] else None
    matrix = weights.data if a.get("transB", 0) else weights.data.T
    if weights.qparams is not None and (alpha != 1 or beta != 1):
        raise b.fail("alpha or beta with quantised weights", "re-export the model with both 1")
    if alpha != 1:
        matrix = matrix * np.float32(alpha)
    if bias is not None and beta != 1:
        bias = Constant(bias.data * np.float32(beta))
    add_dense(b, ins[0], Constant(matrix, weights.qparams), bias, outs[0], keep=False)


def add_dense(
    b: Builder,
    x: str,
    weights: Constant,
    bias: Constant | None,
    out: str,
    *,
    keep: bool,
    kind: TensorType | None = None,
) -> None:
    """A product with a constant (O, K) matrix; the columns follow the order in which x is stored."""
    value = b.value(x)
    matrix = weights.data
    if matrix.ndim != 2 or value.shape[-1] != matrix.shape[1]:
        raise b.fail(f"{list(value.shape)} times {list(matrix.T.shape)}", "re-export the model")
    if value.layout is Layout.FLAT:
        assert value.image is not None
        h, w, c = value.image
        matrix = matrix.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(matrix), -1)
        tensor = value.tensor
    else:
        tensor = b.plain(x)
    tensors = [tensor, b.add_constant(f"{out}/weights", matrix, on_axis(weights.qparams, 0))]
    if bias is not None:
        data = bias.data.reshape(-1)
        if data.size == 1 and len(matrix) > 1:
            data = np.full(len(matrix), data[0], data.dtype)
        if data.size != len(matrix):
            raise b.fail(f"bias of {data.size} for {len(matrix)} outputs", "re-export the model")
        tensors.append(b.add_constant(f"{out}/bias", data, bias.qparams))
    made = b.emit("FullyConnected", FullyConnectedAttrs(keep_dims=keep), tensors, out, kind)[0]
    shape = (*value.shape[:-1], len(matrix))
    b.set(out, b.reshaped(made, shape), shape)


def matmul(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    if ins[1] in b.constants and b.constants[ins[1]].data.ndim == 2:
        weights = b.constants[ins[1]]
        add_dense(b, ins[0], Constant(weights.data.T, weights.qparams), None, outs[0], keep=True)
        return
    made = b.emit("BatchMatMul", BatchMatMulAttrs(False, False), [b.plain(ins[0]), b.plain(ins[1])], outs[0])
    b.set(outs[0], made[0], b.shape(made[0]))


def pool(kind: str) -> Translator:
    """AveragePool or MaxPool."""

    def translate(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
        if len(outs) > 1 and outs[1]:
            raise b.fail("the indices of a pooling are used", "remove that output")
        rank = len(b.value(ins[0]).shape)
        image = b.last(ins[0])
        _, h, w, _ = b.shape(image)
        kernel, stride = pair(b, a["kernel_shape"], 1, rank), pair(b, a.get("strides"), 1, rank)
        dilation = pair(b, a.get("dilations"), 1, rank)
        pads = window_pads(b, a, (h, w), kernel, stride, dilation)
        if a.get("ceil_mode", 0):
            pads = _ceil(pads, (h, w), kernel, stride, dilation, count_pads=bool(a.get("count_include_pad", 0)), b=b)
        if kind == "max":
            made = b.emit("MaxPool2D", MaxPool2DAttrs(kernel, stride, pads, dilation), [image], outs[0])
        else:
            if dilation != (1, 1):
                raise b.fail("dilation in an average pooling", "re-export the model without it")
            attrs = AveragePool2DAttrs(kernel, stride, pads, count_include_pad=bool(a.get("count_include_pad", 0)))
            made = b.emit("AveragePool2D", attrs, [image], outs[0])
        b.set_image(outs[0], made[0], rank)

    return translate


def _ceil(
    pads: tuple[int, int, int, int],
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    *,
    count_pads: bool,
    b: Builder,
) -> tuple[int, int, int, int]:
    """Pads that make the rounding of the output size upwards explicit."""
    result = list(pads)
    for axis in range(2):
        total = size[axis] + pads[2 * axis] + pads[2 * axis + 1] - (kernel[axis] - 1) * dilation[axis] - 1
        rest = -total % stride[axis]
        # The last window must begin inside the image or its leading pad.
        if rest and (total + rest) < size[axis] + pads[2 * axis]:
            if count_pads:
                raise b.fail("ceil_mode with count_include_pad", "re-export the model without ceil_mode")
            result[2 * axis + 1] += rest
    return (result[0], result[1], result[2], result[3])


def global_pool(kind: str) -> Translator:
    """GlobalAveragePool or GlobalMaxPool."""

    def translate(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
        rank = len(b.value(ins[0]).shape)
        image = b.last(ins[0])
        size = (b.shape(image)[1], b.shape(image)[2])
        if kind == "max":
            made = b.emit("MaxPool2D", MaxPool2DAttrs(size, (1, 1), (0, 0, 0, 0)), [image], outs[0])
        else:
            made = b.emit("AveragePool2D", AveragePool2DAttrs(size, (1, 1), (0, 0, 0, 0)), [image], outs[0])
        b.set_image(outs[0], made[0], rank)

    return translate


def batch_norm(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    scale, shift, mean, variance = (b.constant(n).data.astype(np.float64) for n in ins[1:5])
    if a.get("training_mode", 0):
        raise b.fail("training mode", "export the model for inference")
    factor = scale / np.sqrt(variance + float(a.get("epsilon", 1e-5)))
    value = b.value(ins[0])
    image = len(value.shape) > 2
    x = b.last(ins[0]) if image else b.plain(ins[0])
    # Two operators that fold into a neighbouring layer where there is one.
    name = outs[0]
    scaled = b.emit("Mul", MulAttrs(), [x, b.add_constant(f"{name}/scale", factor)], f"{name}/scaled")[0]
    offset = b.add_constant(f"{name}/offset", shift - mean * factor)
    made = b.emit("Add", AddAttrs(), [scaled, offset], name)[0]
    if image:
        b.set_image(name, made, len(value.shape))
    else:
        b.set(name, made, value.shape)


def resize(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """Resize (opset 10 and later) and Upsample."""
    value = b.value(ins[0])
    rank = len(value.shape)
    if rank not in (3, 4):
        raise b.fail(f"an input of shape {list(value.shape)}", "an image of 1 or 2 dimensions is needed")
    size = _resized(b, ins, a, value.shape)
    if size[:2] != value.shape[:2]:
        raise b.fail("the batch or the channels are resized", "only height and width can be")
    mode = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear"}.get(a.get("mode", "nearest"))
    if mode is None:
        raise b.fail(f"mode {a.get('mode')}", "nearest and linear are supported")
    # Upsample and Resize 10 have no such attribute and mean asymmetric.
    legacy = "coordinate_transformation_mode" not in a and len(ins) <= 2
    transform = a.get("coordinate_transformation_mode", "asymmetric" if legacy else "half_pixel")
    if transform == "pytorch_half_pixel" and min(size[2:]) > 1:
        transform = "half_pixel"
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


def _resized(b: Builder, ins: Sequence[str], a: Attributes, shape: Sequence[int]) -> tuple[int, ...]:
    if len(ins) > 3 and ins[3]:
        sizes: Array = b.constant(ins[3]).data
        return tuple(int(s) for s in sizes)
    name = ins[1] if len(ins) == 2 else ins[2] if len(ins) > 2 else ""
    scales = a.get("scales") if not name else b.constant(name).data
    if scales is None or len(scales) != len(shape):
        raise b.fail("no sizes and no scales", "re-export the model")
    return tuple(int(np.floor(n * float(s))) for n, s in zip(shape, scales, strict=True))


LAYERS: dict[str, Translator] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "AveragePool": pool("average"),
    "MaxPool": pool("max"),
    "GlobalAveragePool": global_pool("average"),
    "GlobalMaxPool": global_pool("max"),
    "BatchNormalization": batch_norm,
    "Resize": resize,
    "Upsample": resize,
}
