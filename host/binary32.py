"""How far a layer computed in binary32 may lie from its exact real value; derived in docs/numerics.md.

Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, chapter 3. With the unit roundoff
u = 2**-24, a product of k factors (1 + delta), |delta| <= u, lies within gamma(k) = k u / (1 - k u) of 1, and a sum of
products, in whatever order it is taken, within gamma(k) of the sum of the products' magnitudes, k being the most
roundings that a term meets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import realmath
from intaglio.quantizer.fixedpoint import Ints, rational
from intaglio.quantizer.ir import DType, TensorType
from intaglio.quantizer.ops.accumulate import NO_CLAMP, Clamp, weight_scales
from intaglio.quantizer.ops.base import Context, Operator
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.ops.pool import window_counts
from intaglio.quantizer.requant import product_scale

U = Fraction(1, 2**24)
"""The unit roundoff of binary32, round to nearest."""

FUNCTION_UNITS = 8
"""A function of one element is taken to be computed within this many u (1 + |x| + |f(x)|). onnxruntime promises
nothing; tests/exactness/onnxruntime measures every function."""

UNDERFLOW = Fraction(1, 2**40)
"""Steps of the output that products below the normal numbers may cost: 2**-126 each, of at most 2**26 terms, or as the
scale of an accumulator of 31 bits, in an output whose scale is at least `SCALES[0]`."""

SCALES = (2.0**-40, 2.0**40)
"""The output's scale lies within, the inputs' are not above: no sum of 2**31 products overflows."""

Index = tuple[int, ...]


@dataclass(frozen=True)
class Reach:
    """What binary32 may make of one element, in steps of the output, the zero point not added.

    Attributes:
        value: exact, clipped by a fused activation.
        below, above: how far binary32's result may lie from it.
        own: how far the definition may lie from the value, clipped to the type's range, before it is rounded, where an
            integer algorithm is the definition.
    """

    value: Fraction
    below: Fraction
    above: Fraction
    own: Fraction = Fraction(0)


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer, and what it reads.

    Attributes:
        op, ctx: of the node.
        inputs: int64, as stored; None for an absent one.
        integer_kernel: onnxruntime accumulates integers and rescales the sum, instead of dequantising.
        real_bias: the model's bias is real: it was rounded to the accumulator's unit.
    """

    op: Operator[Any, Any]
    ctx: Context
    inputs: Sequence[Ints | None]
    integer_kernel: bool = False
    real_bias: bool = False

    def centred(self, index: int) -> Ints:
        """An input less its zero point."""
        value, q = self.inputs[index], self.ctx.input(index).qparams
        assert value is not None
        return value if q is None or len(q.zero_point) > 1 else value - q.zero_point[0]

    def ratio(self, *factors: int) -> Fraction:
        """The product of the scales of inputs, in steps of the output."""
        return product_scale([self.ctx.input(i).scale for i in factors], [self.ctx.output.scale])


Reaches = Callable[[Index], Reach]


def gamma(roundings: int) -> Fraction:
    """Higham's gamma: the relative error of so many roundings."""
    return roundings * U / (1 - roundings * U)


def reaches(layer: Layer) -> Reaches | None:
    """Return what tells an element's exact value and binary32's distance from it.

    None for operators that only move or compare integers, for which binary32 gives back what it was given, and where
    no bound is stated.
    """
    kinds = [t for t in (layer.ctx.output, *layer.ctx.inputs) if t is not None and t.qparams is not None]
    if not kinds or min(_scales(kinds[0])) < SCALES[0] or any(max(_scales(t)) > SCALES[1] for t in kinds):
        return None
    if isinstance(layer.op, UnaryOperator):
        return _unary(layer)
    make = _FAMILIES.get(layer.op.name)
    return None if make is None else make(layer)


def _scales(kind: TensorType) -> tuple[float, ...]:
    return kind.qparams.scale if kind.qparams is not None else ()


def exact_sums(layer: Layer, operands: Sequence[Ints | None], factor: int = 1) -> Ints | None:
    """A linear operator over integers, times a factor that makes it whole: int64; None beyond 53 bits.

    Float64 holds every partial sum exactly, so that the operator's own real meaning is exact on integers.
    """
    node = layer.ctx.node
    if hasattr(node.attrs, "clamp"):
        node = replace(node, attrs=replace(node.attrs, clamp=NO_CLAMP))
    ctx = replace(layer.ctx, node=node)
    reals = [None if x is None else x.astype(np.float64) * (factor if i == 0 else 1) for i, x in enumerate(operands)]
    largest = layer.op.reference(ctx, [None if x is None else np.abs(x) for x in reals])[0]
    if np.abs(largest).max(initial=0) >= 2**53:
        return None
    return layer.op.reference(ctx, reals)[0].astype(np.int64)


def _clipped(layer: Layer, value: Fraction) -> Fraction:
    """Clip by the fused activation. Clipping brings no two values further apart, so that bounds stay bounds."""
    clamp: Clamp = getattr(layer.ctx.node.attrs, "clamp", NO_CLAMP)
    scale = rational(layer.ctx.output.scale)
    if clamp.low is not None:
        value = max(value, rational(clamp.low) / scale)
    if clamp.high is not None:
        value = min(value, rational(clamp.high) / scale)
    return value


def _symmetric(layer: Layer, value: Fraction, bound: Fraction, own: Fraction = Fraction(0)) -> Reach:
    """A reach of equal distance on both sides; kernels of 8-bit integers add the zero point before they round."""
    bound += UNDERFLOW
    if layer.integer_kernel:
        bound += 2 * U * (abs(value) + bound + abs(layer.ctx.output.zero_point))
    return Reach(_clipped(layer, value), bound, bound, own)


def _linear(
    layer: Layer, sums: Ints, sizes: Ints, scales: Sequence[Fraction], roundings: int, extra: int = 0
) -> Reaches:
    """value = scale * sum, off by gamma(roundings) * scale * (sum of the terms' magnitudes).

    Args:
        sums, sizes: int64 of the output's shape.
        scales: one, or one per index of the last axis.
        extra: halves of a unit of the sum that are off beside.
    """
    factor = gamma(roundings)

    def reach(index: Index) -> Reach:
        scale = scales[index[-1]] if len(scales) > 1 else scales[0]
        bound = scale * (factor * int(sizes[index]) + extra * (Fraction(1, 2) + 2 * U))
        return _symmetric(layer, scale * int(sums[index]), bound)

    return reach


def _mac(layer: Layer) -> Reaches | None:
    """A convolution or matrix product with constant weights.

    n products and a bias. Dequantising rounds each factor once, the product and the sums at most n + 1 times, the
    division once; of a bias, its conversion, its scale (two units from the product of the others) and the product.
    Integer kernels convert the sum, multiply it with a scale of two roundings, and round once more.
    """
    operands = [layer.centred(0), layer.centred(1)]
    if layer.ctx.has(2):
        operands.append(layer.centred(2).ravel())
    sums, sizes = exact_sums(layer, operands), exact_sums(layer, [np.abs(o) for o in operands])
    if sums is None or sizes is None:
        return None
    x, out = layer.ctx.input(0), layer.ctx.output
    scales = [product_scale((x.scale, w), (out.scale,)) for w in weight_scales(layer.ctx)]
    if layer.integer_kernel:
        return _linear(layer, sums, np.abs(sums), scales, 4)
    return _linear(layer, sums, sizes, scales, operands[1].size // out.shape[-1] + 6, int(layer.real_bias))


def _products(layer: Layer) -> Reaches | None:
    """BatchMatMul: as `_mac`, without a bias."""
    operands = [layer.centred(0), layer.centred(1)]
    sums, sizes = exact_sums(layer, operands), exact_sums(layer, [np.abs(o) for o in operands])
    if sums is None or sizes is None:
        return None
    return _linear(layer, sums, sizes, [layer.ratio(0, 1)], max(layer.ctx.input(0).shape[-2:]) + 6)


def _means(layer: Layer) -> Reaches | None:
    """Pooling, Mean and Sum: n terms dequantised, added, divided by their number (or multiplied with its reciprocal),
    divided by the scale."""
    x = layer.centred(0)
    a = layer.ctx.node.attrs
    if layer.op.name == "AveragePool2D":
        terms = a.kernel[0] * a.kernel[1]
        factor = terms if a.count_include_pad else lcm(*np.unique(window_counts(x.shape, a)).tolist())
    else:
        terms = x.size // layer.ctx.output.elements
        factor = terms if layer.op.name == "Mean" else 1
    sums, sizes = exact_sums(layer, [x], factor), exact_sums(layer, [np.abs(x)], factor)
    if sums is None or sizes is None:
        return None
    return _linear(layer, sums, sizes, [layer.ratio(0) / factor], terms + 4)


def _resize(layer: Layer) -> Reaches | None:
    """Bilinear interpolation: binary32 also computes where a pixel lies, within gamma(4) of the image's size, and a
    place off by e changes the interpolation by at most e times the difference of two pixels, per axis."""
    a, x = layer.ctx.node.attrs, layer.centred(0)
    if a.mode != "bilinear":
        return None
    grid = [max(n - 1, 1) if a.align_corners else 2 * n if a.half_pixel else n for n in a.size]
    sums = exact_sums(layer, [x], grid[0] * grid[1])
    if sums is None:
        return None
    scale, largest = layer.ratio(0), int(np.abs(x).max(initial=0))
    off = gamma(4) * (x.shape[1] + x.shape[2] + 2) * 2 * largest + gamma(10) * largest
    return lambda index: _symmetric(layer, scale * int(sums[index]) / (grid[0] * grid[1]), scale * off)


def _sum_of_two(layer: Layer) -> Reaches:
    """Add and Sub: both terms dequantised, one sum, one division. The kernel of 8-bit integers multiplies the stored
    integers, and their zero points, with ratios of scales."""
    sign = -1 if layer.op.name == "Sub" else 1
    sides = [np.broadcast_to(layer.centred(i), layer.ctx.output.shape) for i in (0, 1)]
    scales = [layer.ratio(0), layer.ratio(1)]
    zeros = [abs(layer.ctx.input(i).zero_point) for i in (0, 1)] if layer.integer_kernel else [0, 0]
    # int16: the device's plane is off by 2**-15 of a step before the clip.
    own = Fraction(1, 2**15) if layer.ctx.input(0).dtype is DType.INT16 else Fraction(0)

    def reach(index: Index) -> Reach:
        first, second = (s * int(v[index]) for s, v in zip(scales, sides, strict=True))
        size = abs(first) + abs(second) + 2 * sum(s * z for s, z in zip(scales, zeros, strict=True))
        return _symmetric(layer, first + sign * second, gamma(6 if layer.integer_kernel else 3) * size, own)

    return reach


def _product_of_two(layer: Layer) -> Reaches:
    """Mul and Div: both dequantised, one product or quotient, one division; integer kernels two more for the scale."""
    sides = [np.broadcast_to(layer.centred(i), layer.ctx.output.shape) for i in (0, 1)]
    divides = layer.op.name == "Div"
    scale = layer.ratio(0) / rational(layer.ctx.input(1).scale) if divides else layer.ratio(0, 1)

    def reach(index: Index) -> Reach:
        first, second = (int(v[index]) for v in sides)
        value = scale * (Fraction(first, second) if divides else first * second)
        return _symmetric(layer, value, gamma(6 if layer.integer_kernel else 4) * abs(value))

    return reach


def _p_relu(layer: Layer) -> Reaches:
    """PRelu: both dequantised, one product, one division."""
    x, slopes = layer.centred(0), layer.centred(1).ravel()

    def reach(index: Index) -> Reach:
        v = int(x[index])
        slope = int(slopes[index[-1] if len(slopes) > 1 else 0])
        value = layer.ratio(0) * v if v >= 0 else layer.ratio(0, 1) * v * slope
        return _symmetric(layer, value, gamma(4) * abs(value))

    return reach


def _rescaled(layer: Layer) -> Reaches:
    """Quantize, and Concat of several scales: dequantised and divided by another scale."""
    count = len(layer.inputs)
    values = layer.op.reference(layer.ctx, [layer.centred(i).astype(np.float64) for i in range(count)])[0]
    origins = layer.op.reference(layer.ctx, [np.full(layer.ctx.input(i).shape, float(i)) for i in range(count)])[0]

    def reach(index: Index) -> Reach:
        value = layer.ratio(int(origins[index])) * int(values[index])
        return _symmetric(layer, value, gamma(4) * abs(value))

    return reach


def _unary(layer: Layer) -> Reaches | None:
    """f of one element: f of what dequantising with one rounding may give, then f's own error (one product where f is
    linear on either side of zero), then the division."""
    op, ctx = layer.op, layer.ctx
    assert isinstance(op, UnaryOperator)
    wide = ctx.input(0).dtype is DType.INT16 and not hasattr(op, "slopes")
    x, scale, out = layer.centred(0), rational(ctx.input(0).scale), rational(ctx.output.scale)

    def exact(points: NDArray[Any]) -> list[Fraction]:
        values = realmath.precise(
            lambda v, m: op.function(ctx.node.attrs, v, m), points, ctx.input(0).scale, ctx.output.scale
        )
        return [Fraction(v) for v in values.ravel()]

    def reach(index: Index) -> Reach:
        q = int(x[index])
        with localcontext() as context:
            context.prec = 60
            step = Decimal(abs(q)) / 2**24
            points = np.array([Decimal(q), q - step, q + step], object)
        value, *beside = exact(points)
        own_units = 0 if hasattr(op, "slopes") else FUNCTION_UNITS * (1 + abs(q) * scale + abs(value) * out) / out
        off = U * own_units + gamma(3) * abs(value) + UNDERFLOW
        below, above = value - min(value, *beside) + off, max(value, *beside) - value + off
        if layer.integer_kernel:
            added = 2 * U * (abs(value) + abs(ctx.output.zero_point) + 1)
            below, above = below + added, above + added
        own = _line_error(op, exact, q, ctx.input(0), ctx.output) if wide else Fraction(0)
        return Reach(value, below, above, own)

    return reach


def _line_error(
    op: UnaryOperator[Any], exact: Callable[[NDArray[Any]], list[Fraction]], q: int, x: TensorType, out: TensorType
) -> Fraction:
    """How far the lines of an int16 function may lie from f: a step for two roundings, and the larger of the distances
    of chord and function in the middle of this interval and of the next, whose node is shifted for its own.

    Args:
        exact: f of integers less the zero point, in steps of the output.
        q: such an integer.
        x, out: the types of input and output.
    """
    if op.octaves:
        size = abs(q) if op.odd else q
        if size <= 0:
            return Fraction(0)
        octave = Decimal(2) ** (size.bit_length() - 1)
        width = octave / 32
        low = octave + (size - octave) // width * width
    elif op.smooth:
        width = Decimal(128)
        low = Decimal((q + x.zero_point - x.dtype.low) // 128 * 128 + x.dtype.low - x.zero_point)
    else:
        return Fraction(0)
    real = exact(np.array([low + width * i / 2 for i in range(5)], object))
    a, b, c, d, e = (saturated(v, out) for v in real)
    if [a, b, c, d, e] != real:
        # The nodes are clipped, and what a chord misses beside the kink is not largest in the middle.
        return 1 + max(abs(a - c), abs(c - e))
    return 1 + Fraction(5, 4) * max(abs((a + c) / 2 - b), abs((c + e) / 2 - d))


def saturated(value: Fraction, kind: TensorType) -> Fraction:
    """Clip what is to be rounded, the zero point not added, to the type's range."""
    return min(max(value, Fraction(kind.dtype.low - kind.zero_point)), Fraction(kind.dtype.high - kind.zero_point))


def _softmax(layer: Layer) -> Reaches:
    """Softmax and LogSoftmax: dequantised, the largest subtracted, exponentials, their sum; then a quotient, or the
    logarithm subtracted."""
    ctx, axis = layer.ctx, layer.ctx.node.attrs.axis
    x, scale, out = layer.centred(0), rational(ctx.input(0).scale), rational(ctx.output.scale)
    scale *= rational(getattr(ctx.node.attrs, "beta", 1.0))
    logarithm = layer.op.name == "LogSoftmax"

    def reach(index: Index) -> Reach:
        row = np.moveaxis(x, axis, -1)[index[:axis] + index[axis + 1 :]]
        largest = int(row.max())
        with localcontext() as context:
            context.prec = 60
            unit = Decimal(scale.numerator) / Decimal(scale.denominator)
            powers = [((int(v) - largest) * unit).exp() for v in row]
            total = sum(powers, Decimal(0))
            ln = Fraction(total.ln())
            ratio = Fraction(powers[index[axis]] / total)
        # The exponent is off by its terms' roundings and its own; so, relatively, is the exponential.
        size = max(abs(int(v)) + abs(largest) + abs(int(v) - largest) for v in row)
        power = 2 * U * scale * size + FUNCTION_UNITS * U
        if not logarithm:
            value = ratio / out
            bound = value * (2 * power + gamma(len(row) + 3))
            return _symmetric(layer, value, bound, Fraction(1, 10000))
        value = ((int(x[index]) - largest) * scale - ln) / out
        bound = (2 * power + gamma(len(row)) + FUNCTION_UNITS * U * (2 + abs(ln))) / out + 4 * U * abs(value)
        return _symmetric(layer, value, bound, Fraction(2, 10000) + Fraction(2, 10**6) / out)

    return reach


_FAMILIES: dict[str, Callable[[Layer], Reaches | None]] = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2D", "FullyConnected", "TransposeConv2D"), _mac),
    "BatchMatMul": _products,
    **dict.fromkeys(("AveragePool2D", "Mean", "Sum"), _means),
    "Resize": _resize,
    **dict.fromkeys(("Add", "Sub"), _sum_of_two),
    **dict.fromkeys(("Mul", "Div"), _product_of_two),
    "PRelu": _p_relu,
    **dict.fromkeys(("Quantize", "Concat"), _rescaled),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
}
