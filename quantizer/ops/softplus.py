"""Softplus: log(1 + exp(x))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class SoftplusAttrs(Attrs):
    """None."""


@register
class Softplus(UnaryOperator[SoftplusAttrs]):
    """Input: x. Output: log(1 + exp(x))."""

    name = "Softplus"
    attrs = SoftplusAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.logaddexp(x, 0), x.dtype)
