"""Rsqrt: 1 / sqrt(x); x below 2**-126 counts as 2**-126."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedexp import inverse_sqrt
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Context, register
from intaglio.quantizer.ops.lookup import SIGNED, Floats, UnaryOperator, stored_values
from intaglio.quantizer.realmath import SMALLEST, Arithmetic


@dataclass(frozen=True)
class RsqrtAttrs(Attrs):
    """None."""


@register
class Rsqrt(UnaryOperator[RsqrtAttrs]):
    """Input: x. Output: 1 / sqrt(x); x below 2**-126 counts as 2**-126."""

    name = "Rsqrt"
    attrs = RsqrtAttrs
    smooth = False
    octaves = True
    litert = SIGNED

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return 1 / m.sqrt(np.maximum(x, m.number(SMALLEST)))

    def litert_function(self, ctx: Context, x: Floats) -> Floats:
        largest = np.float32(ctx.output.dtype.high) * np.float32(ctx.output.scale)
        return np.where(x > 0, super().litert_function(ctx, x), largest)

    def litert_table(self, ctx: Context) -> Ints:
        """LiteRT's fixed point; it fails on inputs below the zero point, which here count as it."""
        x, out = ctx.input(0), ctx.output
        root = np.sqrt(np.float32(x.scale)) * np.float32(out.scale)
        multiplier, shift = fp.quantize_multiplier(1.0 / float(root))
        result = []
        for value in (stored_values(x) - x.zero_point).tolist():
            if value <= 0:
                result.append(out.dtype.high)
                continue
            inverse, right = inverse_sqrt(value)
            raised = fp.multiply_double_rounding(np.array(1), inverse, 20 - right)
            result.append(int(fp.multiply_double_rounding(raised, multiplier, shift - 20)) + out.zero_point)
        return np.clip(np.array(result, np.int64), out.dtype.low, out.dtype.high)
