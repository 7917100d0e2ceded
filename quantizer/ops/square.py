"""Square: x squared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class SquareAttrs(Attrs):
    """None."""


@register
class Square(UnaryOperator[SquareAttrs]):
    """Input: x. Output: x squared."""

    name = "Square"
    attrs = SquareAttrs

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return x * x
