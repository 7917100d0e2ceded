"""Abs: the absolute value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import PiecewiseOperator


@dataclass(frozen=True)
class AbsAttrs(Attrs):
    """None."""


@register
class Abs(PiecewiseOperator[AbsAttrs]):
    """Input: x. Output: the absolute value."""

    name = "Abs"
    attrs = AbsAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.abs(x))

    def slopes(self, attrs: Any) -> tuple[float, float]:
        return 1.0, -1.0
