"""Ceil: the smallest integer not below x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class CeilAttrs(Attrs):
    """None."""


@register
class Ceil(UnaryOperator[CeilAttrs]):
    """Input: x. Output: the smallest integer not below x."""

    name = "Ceil"
    attrs = CeilAttrs
    smooth = False

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return -m.floor(-x)
