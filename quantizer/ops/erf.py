"""Erf: the error function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class ErfAttrs(Attrs):
    """None."""


@register
class Erf(UnaryOperator[ErfAttrs]):
    """Input: x. Output: the error function."""

    name = "Erf"
    attrs = ErfAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x), x.dtype)
