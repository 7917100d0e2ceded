"""Erf: the error function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class ErfAttrs(Attrs):
    """None."""


@register
class Erf(UnaryOperator[ErfAttrs]):
    """Input: x. Output: the error function."""

    name = "Erf"
    attrs = ErfAttrs

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return 1 - m.erfc(x)
