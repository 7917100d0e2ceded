"""Sub: the difference of two tensors, with broadcasting."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.quantizer.ops.add import SumOperator
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.elementwise import ClampAttrs


@dataclass(frozen=True)
class SubAttrs(ClampAttrs):
    """clamp: the fused activation."""


@register
class Sub(SumOperator):
    """Inputs: x and y, one of them may be constant. Output: x - y, broadcast."""

    name = "Sub"
    attrs = SubAttrs
    sign = -1
