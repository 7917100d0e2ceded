"""Reciprocal: 1 / x; 0 counts as 2**-126."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import SMALLEST, Arithmetic


@dataclass(frozen=True)
class ReciprocalAttrs(Attrs):
    """None."""


@register
class Reciprocal(UnaryOperator[ReciprocalAttrs]):
    """Input: x. Output: 1 / x; 0 counts as 2**-126."""

    name = "Reciprocal"
    attrs = ReciprocalAttrs
    smooth = False
    octaves = True
    odd = True

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return 1 / np.where(x == 0, m.number(SMALLEST), x)
