"""Sin: the sine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class SinAttrs(Attrs):
    """None."""


@register
class Sin(UnaryOperator[SinAttrs]):
    """Input: x. Output: the sine."""

    name = "Sin"
    attrs = SinAttrs

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return m.sin(x)
