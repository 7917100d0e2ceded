"""Neg: the value with its sign turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class NegAttrs(Attrs):
    """None."""


@register
class Neg(UnaryOperator[NegAttrs]):
    """Input: x. Output: -x."""

    name = "Neg"
    attrs = NegAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(-x)
