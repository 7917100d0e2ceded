"""Log: the natural logarithm; x below 2**-126 counts as 2**-126."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Context, register
from intaglio.quantizer.ops.lookup import SIGNED, Floats, UnaryOperator
from intaglio.quantizer.realmath import SMALLEST, Arithmetic


@dataclass(frozen=True)
class LogAttrs(Attrs):
    """None."""


@register
class Log(UnaryOperator[LogAttrs]):
    """Input: x. Output: the natural logarithm; x below 2**-126 counts as 2**-126."""

    name = "Log"
    attrs = LogAttrs
    smooth = False
    octaves = True
    litert = SIGNED

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return m.log(np.maximum(x, m.number(SMALLEST)))

    def litert_function(self, ctx: Context, x: Floats) -> Floats:
        out = ctx.output
        lowest = np.float32(out.dtype.low - out.zero_point) * np.float32(out.scale)
        return np.where(x > 0, super().litert_function(ctx, x), lowest)
