"""Cos: the cosine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class CosAttrs(Attrs):
    """None."""


@register
class Cos(UnaryOperator[CosAttrs]):
    """Input: x. Output: the cosine."""

    name = "Cos"
    attrs = CosAttrs

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return m.cos(x)
