"""Sqrt: the square root; of 0 for x below 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, DType
from intaglio.quantizer.ops.base import Context, register
from intaglio.quantizer.ops.lookup import UnaryOperator, stored_values
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class SqrtAttrs(Attrs):
    """None."""


@register
class Sqrt(UnaryOperator[SqrtAttrs]):
    """Input: x. Output: the square root; of 0 for x below 0.

    Contract tflite: of int8; for int16 LiteRT computes in binary32 on the device.
    """

    name = "Sqrt"
    attrs = SqrtAttrs
    smooth = False
    octaves = True
    litert = frozenset({DType.INT8})

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return m.sqrt(np.maximum(x, m.number(0)))

    def litert_table(self, ctx: Context) -> Ints:
        """LiteRT divides in binary32 and truncates; it fails on inputs below the zero point, which here count as it."""
        x, out = ctx.input(0), ctx.output
        real = np.float32(x.scale) * np.maximum(stored_values(x) - x.zero_point, 0).astype(np.float32)
        quotient = np.trunc(np.sqrt(real) / np.float32(out.scale))
        return fp.saturate(
            np.minimum(quotient, 2.0**30).astype(np.int64) + out.zero_point, out.dtype.low, out.dtype.high
        )
