"""Sqrt: the square root; 0 for x below 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class SqrtAttrs(Attrs):
    """None."""


@register
class Sqrt(UnaryOperator[SqrtAttrs]):
    """Input: x. Output: the square root; 0 for x below 0."""

    name = "Sqrt"
    attrs = SqrtAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.sqrt(np.maximum(x, 0)))
