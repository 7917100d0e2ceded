"""ONNX operators with weights or windows: Conv, ConvTranspose, Gemm, MatMul, pooling, BatchNormalization, Resize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intaglio.quantizer.frontends.onnx_values import Array, Builder, Constant, Layout
from intaglio.quantizer.ir import QParams, TensorType
from intaglio.quantizer.ops.add import AddAttrs
from intaglio.quantizer.ops.average_pool2d import AveragePool2DAttrs
from intaglio.quantizer.ops.batch_mat_mul import BatchMatMulAttrs
from intaglio.quantizer.ops.conv2d import Conv2DAttrs
from intaglio.quantizer.ops.depthwise_conv2d import DepthwiseConv2DAttrs
from intaglio.quantizer.ops.fully_connected import FullyConnectedAttrs
from intaglio.quantizer.ops.max_pool2d import MaxPool2DAttrs
from intaglio.quantizer.ops.mul import MulAttrs
from intaglio.quantizer.ops.transpose_conv2d import TransposeConv2DAttrs

Attributes = dict[str, Any]
Translator = Callable[[Builder, Sequence[str], Sequence[str], Attributes], None]


def pair(b: Builder, values: Sequence[int] | None, default: int, rank: int) -> tuple[int, int]:
    """An attribute over the spatial axes as (rows, columns); one-dimensional images have one row, not looked at.

    Args:
        default: also the smallest that makes sense, and that of the row of a one-dimensional image.
    """
    if values is None:
        return (default, default)
    if len(values) != rank - 2 or min(values) < default:
        raise b.fail(f"{list(values)} for {rank - 2} spatial axes", "re-export the model")
    return (int(values[0]), int(values[1])) if rank == 4 else (default, int(values[0]))


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
    tensors = [image, *operands(b, out, Constant(turned, on_axis(weights.qparams, axis)), bias, axis)]
    if depthwise:
        made = b.emit("DepthwiseConv2D", DepthwiseConv2DAttrs(stride, dilation, pads), tensors, out, kind)
    else:
        made = b.emit("Conv2D", Conv2DAttrs(stride, dilation, pads, groups), tensors, out, kind)
    b.set_image(out, made[0], rank)


def operands(b: Builder, out: str, weights: Constant, bias: Constant | None, axis: int) -> list[str]:
    """Store weights, whose output channels lie along `axis`, and a bias of one value per channel or one for all."""
    channels = weights.data.shape[axis]
    if weights.qparams is None and weights.data.dtype.kind != "f":
        raise b.fail(f"weights of {weights.data.dtype} without a scale", "export them as reals, or quantised")
    if weights.qparams is not None and len(weights.qparams.scale) not in (1, channels):
        raise b.fail(f"{len(weights.qparams.scale)} scales for {channels} channels", "quantise the model again")
    tensors = [b.add_constant(f"{out}/weights", weights.data, weights.qparams)]
    if bias is not None:
        data = bias.data.reshape(-1)
        if data.size == 1 and channels > 1:
            data = np.full(channels, data[0], data.dtype)
        if data.size != channels:
            raise b.fail(f"bias of {data.size} for {channels} outputs", "re-export the model")
        tensors.append(b.add_constant(f"{out}/bias", data, bias.qparams))
    return tensors


def on_axis(qparams: QParams | None, axis: int) -> QParams | None:
    """Per-channel parameters moved to the axis where our weights have their output channels."""
    if qparams is None or qparams.axis is None:
        return qparams
    return QParams(qparams.scale, qparams.zero_point, axis)


def conv_transpose(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """Dilation and groups become zeros among the weights."""
    weights = b.constant(ins[1])
    rank = len(b.value(ins[0]).shape)
    image = b.last(ins[0])
    data = weights.data if rank == 4 else weights.data[:, :, None]
    groups = int(a.get("group", 1))
    batch, _, _, channels = b.shape(image)
    if batch != 1:
        raise b.fail(f"a batch of {batch}", "export the model with batch 1")
    if data.ndim != 4 or groups < 1 or data.shape[0] != channels or channels % groups:
        raise b.fail(f"weights {list(weights.data.shape)} with {groups} groups on {channels} channels", "re-export it")
    if groups > 1 and weights.qparams is not None:
        raise b.fail("groups in a quantised transposed convolution", "split it into one per group")
    dilation = pair(b, a.get("dilations"), 1, rank)
    taps = [(k - 1) * d + 1 for k, d in zip(data.shape[2:], dilation, strict=True)]
    b.spend(data.itemsize * channels * data.shape[1] * groups * taps[0] * taps[1])
    data = _grouped(_dilated(data, dilation, taps), groups)
    stride = pair(b, a.get("strides"), 1, rank)
    extra = pair(b, a.get("output_padding"), 0, rank) if a.get("output_padding") else (0, 0)
    full = [(n - 1) * s + k + e for n, s, k, e in zip(b.shape(image)[1:3], stride, data.shape[2:], extra, strict=True)]
    cut = _cut(b, a, b.shape(image)[1:3], full, stride, rank)
    if min(cut[0], cut[2]) < 0:
        raise b.fail(f"an output that begins {-min(cut[0], cut[2])} pixels early", "export it with explicit pads")
    pads = (cut[0], max(cut[1], 0), cut[2], max(cut[3], 0))
    extra = (extra[0] + max(-cut[1], 0), extra[1] + max(-cut[3], 0))
    bias = b.constant(ins[2]) if len(ins) > 2 and ins[2] else None
    # (I, O, kh, kw) to (O, kh, kw, I).
    turned = Constant(data.transpose(1, 2, 3, 0), on_axis(weights.qparams, 0))
    tensors = [image, *operands(b, outs[0], turned, bias, 0)]
    made = b.emit("TransposeConv2D", TransposeConv2DAttrs(stride, pads, extra), tensors, outs[0])
    b.set_image(outs[0], made[0], rank)


def _dilated(data: Array, dilation: Sequence[int], taps: Sequence[int]) -> Array:
    """Weights (I, O, kh, kw) with their taps spread apart."""
    if tuple(dilation) == (1, 1):
        return data
    spread = np.zeros((*data.shape[:2], *taps), data.dtype)
    spread[:, :, :: dilation[0], :: dilation[1]] = data
    return spread


def _grouped(data: Array, groups: int) -> Array:
    """Weights (I, O / g, kh, kw) of g groups as those (I, O, kh, kw) of one: zero between the groups."""
    if groups == 1:
        return data
    rows, cols = data.shape[0] // groups, data.shape[1]
    whole = np.zeros((data.shape[0], cols * groups, *data.shape[2:]), data.dtype)
    for g in range(groups):
        whole[g * rows : (g + 1) * rows, g * cols : (g + 1) * cols] = data[g * rows : (g + 1) * rows]
    return whole


def _cut(
    b: Builder, a: Attributes, size: Sequence[int], full: Sequence[int], stride: Sequence[int], rank: int
) -> tuple[int, int, int, int]:
    """What `pads`, `output_shape` or `auto_pad` cut off the full output: top, bottom, left, right; less than 0 adds."""
    mode, shape = a.get("auto_pad", "NOTSET"), a.get("output_shape")
    if not shape and mode in ("NOTSET", "VALID"):
        return window_pads(b, a, size, (1, 1), stride, (1, 1))
    wanted = pair(b, shape[-(rank - 2) :], 1, rank) if shape else (size[0] * stride[0], size[1] * stride[1])
    result: list[int] = []
    for have, want in zip(full, wanted, strict=True):
        total = have - want
        small, large = total // 2, total - total // 2
        result += (small, large) if mode == "SAME_UPPER" else (large, small)
    return (result[0], result[1], result[2], result[3])


def gemm(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    """alpha and beta go into the constants; a bias that differs by row is added behind."""
    weights = b.constant(ins[1])
    alpha, beta = float(a.get("alpha", 1.0)), float(a.get("beta", 1.0))
    bias = b.constant(ins[2]) if len(ins) > 2 and ins[2] else None
    matrix = weights.data if a.get("transB", 0) else weights.data.T
    if weights.qparams is not None and (alpha != 1 or beta != 1):
        raise b.fail("alpha or beta with quantised weights", "re-export the model with both 1")
    # What overflows is refused where it is stored.
    with np.errstate(over="ignore", invalid="ignore"):
        if alpha != 1:
            matrix = matrix * np.float32(alpha)
        if bias is not None and beta != 1:
            bias = Constant(bias.data * np.float32(beta))
    x = ins[0]
    if a.get("transA", 0):
        tensor = b.transposed(b.plain(x), (1, 0))
        x = f"{x}/turned"
        b.set(x, tensor, b.shape(tensor))
    by_row = bias is not None and bias.data.ndim == 2 and bias.data.shape[0] > 1
    product = f"{outs[0]}/product" if by_row else outs[0]
    add_dense(b, x, Constant(matrix, weights.qparams), None if by_row else bias, product, keep=False)
    if bias is not None and by_row:
        tensors = [b.plain(product), b.add_constant(f"{outs[0]}/bias", bias.data, bias.qparams)]
        made = b.emit("Add", AddAttrs(), tensors, outs[0])[0]
        b.set(outs[0], made, b.shape(made))


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
    tensors = [tensor, *operands(b, out, Constant(matrix, on_axis(weights.qparams, 0)), bias, 0)]
    made = b.emit("FullyConnected", FullyConnectedAttrs(keep_dims=keep), tensors, out, kind)[0]
    shape = (*value.shape[:-1], len(matrix))
    b.set(out, b.reshaped(made, shape), shape)


def matmul(b: Builder, ins: Sequence[str], outs: Sequence[str], a: Attributes) -> None:
    add_product(b, ins[0], ins[1], outs[0])


def add_product(b: Builder, x: str, y: str, out: str, kind: TensorType | None = None) -> None:
    """MatMul and QLinearMatMul: a vector is a row on the left, a column on the right, and its axis is gone after."""
    left, right = (b.constants[n].data.shape if n in b.constants else b.value(n).shape for n in (x, y))
    if y in b.constants and len(right) == 2 and len(left) > 1:
        weights = b.constants[y]
        axis = None if weights.qparams is None or weights.qparams.axis is None else 1 - weights.qparams.axis
        add_dense(b, x, Constant(weights.data.T, _along(weights.qparams, axis)), None, out, keep=True, kind=kind)
        return
    if not left or not right:
        raise b.fail(f"{list(left)} times {list(right)}", "re-export the model")
    tensors = [
        b.reshaped(b.plain(x), (1, *left) if len(left) == 1 else left),
        b.reshaped(b.plain(y), (*right, 1) if len(right) == 1 else right),
    ]
    made = b.emit("BatchMatMul", BatchMatMulAttrs(False, False), tensors, out, kind)[0]
    shape = list(b.shape(made))
    if len(right) == 1:
        del shape[-1]
    if len(left) == 1:
        del shape[-1 if len(right) == 1 else -2]
    b.set(out, b.reshaped(made, shape), shape)


def _along(qparams: QParams | None, axis: int | None) -> QParams | None:
    return None if qparams is None else QParams(qparams.scale, qparams.zero_point, axis)


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
    with np.errstate(invalid="ignore"):
        scale, shift, mean, variance = (b.constant(n).data.astype(np.float64) for n in ins[1:5])
    if a.get("training_mode", 0):
        raise b.fail("training mode", "export the model for inference")
    value = b.value(ins[0])
    spread = variance + float(a.get("epsilon", 1e-5))
    found = (scale, shift, mean, spread)
    if any(v.shape != value.shape[1:2] or not np.all(np.isfinite(v)) for v in found) or not np.all(spread > 0):
        raise b.fail("statistics that are not finite, positive and one per channel", "export the model again")
    factor = scale / np.sqrt(spread)
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
}
