"""Exp: e to the power x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class ExpAttrs(Attrs):
    """None."""


@register
class Exp(UnaryOperator[ExpAttrs]):
    """Input: x. Output: e to the power x."""

    name = "Exp"
    attrs = ExpAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.exp(x))
