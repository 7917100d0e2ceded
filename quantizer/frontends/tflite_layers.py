"""Translators of TFLite's convolutions, matrix products and pools."""

from __future__ import annotations

from intaglio.quantizer.frontends.tflite_options import (
    BatchMatMulOptions,
    Conv2DOptions,
    DepthwiseConv2DOptions,
    FullyConnectedOptions,
    Pool2DOptions,
    TransposeConvOptions,
)
from intaglio.quantizer.frontends.tflite_values import Builder, Translator

SAME = 0

MAX_EXTENT = 1 << 16
"""No stride, dilation or window is larger; it keeps every later product small."""

Pads = tuple[int, int, int, int]


def window(b: Builder, **extents: int) -> None:
    """Check strides, dilations and window sizes."""
    for name, value in extents.items():
        if not 1 <= value <= MAX_EXTENT:
            raise b.fail(f"{name} {value}")


def image(b: Builder, number: int) -> tuple[int, int, int]:
    """Height, width and channels of an image.

    Raises:
        ModelError: the tensor is none, or there are several.
    """
    shape = b.type(number).shape
    if len(shape) != 4:
        raise b.fail(f"an image of shape {list(shape)}, not (1, height, width, channels)")
    if shape[0] != 1:
        raise b.unsupported(f"batch {shape[0]}", "convert the model with batch 1")
    return shape[1], shape[2], shape[3]


def padding(b: Builder, kind: int, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """Rows above, rows below, columns left, columns right of SAME or VALID padding.

    SAME makes ceil(size / stride) outputs; what has to be added is halved, the odd one goes below and right.

    Args:
        kernel: the window's extent, dilation included.
    """
    if kind != SAME:
        return (0, 0, 0, 0)
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    return totals[0] // 2, totals[0] - totals[0] // 2, totals[1] // 2, totals[1] - totals[1] // 2


def operands(b: Builder, channels: int, x: int = 0, first: int = 1) -> tuple[str, str]:
    """Weights and bias of a layer, dequantised when its image is real; the bias may be absent: "".

    Args:
        channels: elements of the bias.
        x, first: positions of the layer's image and of its weights; the bias follows after image and weights.
    """
    weights, bias = b.input(first), b.optional(max(x, first) + 1)
    kinds = b.type(b.input(x)), b.type(weights)
    if bias is not None and b.type(bias).elements != channels:
        raise b.fail(f"a bias of {b.type(bias).elements} elements for {channels} channels")
    if kinds[0].dtype.is_float:
        names = b.real(weights), "" if bias is None else b.real(bias)
        for name in (n for n in names if n and not b.types[n].dtype.is_float):
            raise b.fail(f"'{name}' of type {b.types[name].dtype} has no scale")
        return names
    if kinds[1].qparams is None:
        raise b.fail(f"weights '{b.names[weights]}' of type {kinds[1].dtype} have no scale")
    if bias is not None and b.type(bias).dtype.is_float:
        raise b.fail("a real bias of an integer layer")
    return b.name(weights), "" if bias is None else b.name(bias)


def conv_2d(b: Builder) -> None:
    o = b.options(Conv2DOptions)
    height, width, channels = image(b, b.input(0))
    weights = b.type(b.input(1)).shape
    window(b, stride_h=o.stride_h, stride_w=o.stride_w, dilation_h=o.dilation_h, dilation_w=o.dilation_w)
    if len(weights) != 4 or channels % weights[3] or weights[0] % (channels // weights[3]):
        raise b.fail(f"weights {list(weights)} do not fit an image of {channels} channels")
    extent = (weights[1] - 1) * o.dilation_h + 1, (weights[2] - 1) * o.dilation_w + 1
    stride = o.stride_h, o.stride_w
    b.emit(
        "Conv2D",
        (b.name(b.input(0)), *operands(b, weights[0])),
        (b.output(),),
        stride=stride,
        dilation=(o.dilation_h, o.dilation_w),
        pads=padding(b, o.padding, (height, width), extent, stride),
        groups=channels // weights[3],
        clamp=b.clamp(o.activation),
    )


def depthwise_conv_2d(b: Builder) -> None:
    o = b.options(DepthwiseConv2DOptions)
    height, width, channels = image(b, b.input(0))
    weights = b.type(b.input(1)).shape
    window(b, stride_h=o.stride_h, stride_w=o.stride_w, dilation_h=o.dilation_h, dilation_w=o.dilation_w)
    if len(weights) != 4 or weights[0] != 1 or weights[3] % channels:
        raise b.fail(f"weights {list(weights)} do not fit an image of {channels} channels")
    extent = (weights[1] - 1) * o.dilation_h + 1, (weights[2] - 1) * o.dilation_w + 1
    stride = o.stride_h, o.stride_w
    b.emit(
        "DepthwiseConv2D",
        (b.name(b.input(0)), *operands(b, weights[3])),
        (b.output(),),
        stride=stride,
        dilation=(o.dilation_h, o.dilation_w),
        pads=padding(b, o.padding, (height, width), extent, stride),
        clamp=b.clamp(o.activation),
    )


def fully_connected(b: Builder) -> None:
    o = b.options(FullyConnectedOptions)
    if o.weights_format:
        raise b.unsupported("shuffled weights", "convert the model with the default weights format")
    weights = b.type(b.input(1)).shape
    if len(weights) != 2:
        raise b.fail(f"weights {list(weights)}, not (outputs, inputs)")
    b.emit(
        "FullyConnected",
        (b.name(b.input(0)), *operands(b, weights[0])),
        (b.output(),),
        clamp=b.clamp(o.activation),
        keep_dims=o.keep_num_dims,
    )


def transpose_conv(b: Builder) -> None:
    """Inputs: the output's shape, weights, the image, an optional bias."""
    o = b.options(TransposeConvOptions)
    image_in = b.input(2)
    height, width, channels = image(b, image_in)
    weights = b.type(b.input(1)).shape
    window(b, stride_h=o.stride_h, stride_w=o.stride_w)
    target = b.integers(0, "the output's shape") if b.constant(b.input(0)) is not None else _stored_shape(b)
    if len(weights) != 4 or weights[3] != channels or len(target) != 4 or target[3] != weights[0]:
        raise b.fail(f"weights {list(weights)} and output {list(target)} do not fit {channels} channels")
    if any(not 1 <= n <= MAX_EXTENT for n in target[1:3]):
        raise b.fail(f"output of shape {list(target)}")
    stride = o.stride_h, o.stride_w
    top, _, left, _ = padding(b, o.padding, (target[1], target[2]), (weights[1], weights[2]), stride)
    # What lies beyond the wanted size is cut off at the end; what lacks is filled with the bias alone.
    rest = [
        (n - 1) * s + k - before - size
        for n, s, k, before, size in zip((height, width), stride, weights[1:3], (top, left), target[1:3], strict=True)
    ]
    b.emit(
        "TransposeConv2D",
        (b.name(image_in), *operands(b, weights[0], x=2)),
        (b.output(),),
        stride=stride,
        pads=(top, max(rest[0], 0), left, max(rest[1], 0)),
        output_pads=(max(-rest[0], 0), max(-rest[1], 0)),
        clamp=b.clamp(o.activation),
    )


def _stored_shape(b: Builder) -> tuple[int, ...]:
    """The shape that the file gives the output: an output shape that is a model input can only be that."""
    tensor = b.subgraph.tensors[b.output()]
    if b.names[b.input(0)] not in b.inputs or (tensor.signature and min(tensor.signature) < 0):
        raise b.unsupported("the output's shape is computed at run time", "convert the model with constant shapes")
    return tensor.shape


def batch_matmul(b: Builder) -> None:
    o = b.options(BatchMatMulOptions)
    real = b.type(b.input(0)).dtype.is_float
    names = [b.real(b.input(i)) if real else b.name(b.input(i)) for i in (0, 1)]
    b.emit("BatchMatMul", names, (b.output(),), adj_x=o.adj_x, adj_y=o.adj_y)


def _pool(op: str) -> Translator:
    def translate(b: Builder) -> None:
        o = b.options(Pool2DOptions)
        height, width, _ = image(b, b.input(0))
        window(b, stride_h=o.stride_h, stride_w=o.stride_w, filter_height=o.kernel_h, filter_width=o.kernel_w)
        kernel, stride = (o.kernel_h, o.kernel_w), (o.stride_h, o.stride_w)
        b.emit(
            op,
            (b.name(b.input(0)),),
            (b.output(),),
            kernel=kernel,
            stride=stride,
            pads=padding(b, o.padding, (height, width), kernel, stride),
            clamp=b.clamp(o.activation),
        )

    return translate


LAYERS: dict[str, Translator] = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "TRANSPOSE_CONV": transpose_conv,
    "BATCH_MATMUL": batch_matmul,
    "AVERAGE_POOL_2D": _pool("AveragePool2D"),
    "MAX_POOL_2D": _pool("MaxPool2D"),
}
