"""Sin: the sine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class SinAttrs(Attrs):
    """None."""


@register
class Sin(UnaryOperator[SinAttrs]):
    """Input: x. Output: the sine."""

    name = "Sin"
    attrs = SinAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.sin(x))
