"""Abs: the absolute value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import SIGNED, PiecewiseOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class AbsAttrs(Attrs):
    """None."""


@register
class Abs(PiecewiseOperator[AbsAttrs]):
    """Input: x. Output: the absolute value."""

    name = "Abs"
    attrs = AbsAttrs
    litert = SIGNED

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return abs(x)

    def slopes(self, attrs: Any) -> tuple[float, float]:
        return 1.0, -1.0
