"""Silu: x / (1 + exp(-x)), also called Swish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class SiluAttrs(Attrs):
    """None."""


@register
class Silu(UnaryOperator[SiluAttrs]):
    """Input: x. Output: x / (1 + exp(-x)), also called Swish."""

    name = "Silu"
    attrs = SiluAttrs

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return x / (1 + m.exp(-x))
