"""Elu: x for x > 0, alpha * (exp(x) - 1) below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.ir import Attrs, DType
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import UnaryOperator
from intaglio.quantizer.realmath import Arithmetic


@dataclass(frozen=True)
class EluAttrs(Attrs):
    """alpha: how far below zero the output can go."""

    alpha: float = 1.0


@register
class Elu(UnaryOperator[EluAttrs]):
    """Input: x. Output: x for x > 0, alpha * (exp(x) - 1) below."""

    name = "Elu"
    attrs = EluAttrs
    litert = frozenset({DType.INT8})

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        return np.where(x > 0, x, m.number(attrs.alpha) * m.expm1(np.minimum(x, m.number(0))))
