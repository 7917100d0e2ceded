"""Log: the natural logarithm; inputs at or below 0 give the smallest output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class LogAttrs(Attrs):
    """None."""


@register
class Log(UnaryOperator[LogAttrs]):
    """Input: x. Output: the natural logarithm; inputs at or below 0 give the smallest output."""

    name = "Log"
    attrs = LogAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.log(np.maximum(x, np.finfo(x.dtype).tiny)))
