"""Round: the nearest integer, ties to even."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class RoundAttrs(Attrs):
    """None."""


@register
class Round(UnaryOperator[RoundAttrs]):
    """Input: x. Output: the nearest integer, ties to even."""

    name = "Round"
    attrs = RoundAttrs
    smooth = False

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return m.rint(x)
