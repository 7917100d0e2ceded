"""Floor: the largest integer not above x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class FloorAttrs(Attrs):
    """None."""


@register
class Floor(UnaryOperator[FloorAttrs]):
    """Input: x. Output: the largest integer not above x."""

    name = "Floor"
    attrs = FloorAttrs
    smooth = False

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return m.floor(x)
