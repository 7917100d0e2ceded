"""HardSwish: x * clip(x + 3, 0, 6) / 6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Context, register
from intaglio.quantizer.ops.lookup import EIGHT_BITS, UnaryOperator, stored_values
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class HardSwishAttrs(Attrs):
    """None."""


def _saturating_left_shift16(value: Ints, amount: int) -> Ints:
    return fp.saturate(value << amount, -(2**15), 2**15 - 1)


def _doubling_high_mul16(a: Ints, b: Ints | int) -> Ints:
    """Saturating (a * b) / 2**15, truncated (`SaturatingDoublingHighMul` of TFLite's hard_swish.h)."""
    product = a * b
    return np.asarray(np.minimum(np.sign(product) * (np.abs(product) // (1 << 15)), 2**15 - 1), np.int64)


def _rounding_doubling_high_mul16(a: Ints, b: Ints | int) -> Ints:
    """gemmlowp's saturating rounding doubling high multiplication of int16."""
    return np.asarray(np.minimum((a * b + (1 << 14)) >> 15, 2**15 - 1), np.int64)


@register
class HardSwish(UnaryOperator[HardSwishAttrs]):
    """Input: x. Output: x * clip(x + 3, 0, 6) / 6."""

    name = "HardSwish"
    attrs = HardSwishAttrs

    litert = EIGHT_BITS

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return x * np.minimum(np.maximum(x + 3, m.number(0)), m.number(6)) / 6

    def litert_table(self, ctx: Context) -> Ints:
        """The 16-bit fixed-point steps of TFLite's `reference/hard_swish.h`."""
        x, out = ctx.input(0), ctx.output
        hires = 1.0 / 128.0 * np.float32(x.scale)
        output, output_exponent = fp.quantize_multiplier(float(np.float32(hires) / np.float32(out.scale)))
        relu, relu_exponent = fp.quantize_multiplier(float(np.float32(hires) / np.float32(3.0 / 32768.0)))
        output16, relu16 = fp.reduce_multiplier(output), fp.reduce_multiplier(relu)
        value = stored_values(x) - x.zero_point
        on_hires = value << 7
        preshift = _rounding_doubling_high_mul16(on_hires, output16)
        reluish = on_hires
        if relu_exponent > 0:
            reluish = _saturating_left_shift16(reluish, relu_exponent - 1)
        reluish = _rounding_doubling_high_mul16(reluish, relu16)
        if relu_exponent > 0:
            reluish = _saturating_left_shift16(reluish, 1)
        if relu_exponent < 0:
            reluish = fp.rounding_divide_by_pot(reluish, -relu_exponent)
        reluish = (reluish + (1 << 15)) >> 1
        result = _doubling_high_mul16(reluish, preshift)
        result = (
            fp.rounding_divide_by_pot(result, -output_exponent) if output_exponent <= 0 else result << output_exponent
        )
        return fp.saturate(result + out.zero_point, out.dtype.low, out.dtype.high)
