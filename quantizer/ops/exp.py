"""Exp: e to the power of x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import SIGNED, UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class ExpAttrs(Attrs):
    """None."""


@register
class Exp(UnaryOperator[ExpAttrs]):
    """Input: x. Output: e to the power of x."""

    name = "Exp"
    attrs = ExpAttrs
    litert = SIGNED
    example_scales = (0.03, 0.05, -128)

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return m.exp(x)
