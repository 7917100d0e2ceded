"""Square: x squared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class SquareAttrs(Attrs):
    """None."""


@register
class Square(UnaryOperator[SquareAttrs]):
    """Input: x. Output: x squared."""

    name = "Square"
    attrs = SquareAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(x * x)
