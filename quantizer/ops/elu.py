"""Elu: x for x > 0, alpha * (exp(x) - 1) otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import Reals, register
from intaglio.quantizer.ops.lookup import UnaryOperator


@dataclass(frozen=True)
class EluAttrs(Attrs):
    """alpha: the value that the output tends to, negated."""

    alpha: float = 1.0


@register
class Elu(UnaryOperator[EluAttrs]):
    """Input: x. Output: x for x > 0, alpha * (exp(x) - 1) otherwise."""

    name = "Elu"
    attrs = EluAttrs

    def function(self, attrs: Any, x: Reals) -> Reals:
        alpha = x.dtype.type(attrs.alpha)
        return np.asarray(np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))
