"""Gelu: x times the normal distribution function of x."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class GeluAttrs(Attrs):
    """approximate: by tanh."""

    approximate: bool = False


@register
class Gelu(UnaryOperator[GeluAttrs]):
    """Input: x. Output: x times the normal distribution function of x."""

    name = "Gelu"
    attrs = GeluAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        if attrs.approximate:
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            return np.asarray(0.5 * x * (1 + np.tanh(inner)), x.dtype)
        erf = np.vectorize(math.erf, otypes=[np.float64])
        return np.asarray(0.5 * x * (1 + erf(x.astype(np.float64) / math.sqrt(2))), x.dtype)

    def example_attrs(self) -> list[Any]:
        return [GeluAttrs(), GeluAttrs(approximate=True)]
