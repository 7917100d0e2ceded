"""Sub: the difference of two tensors, with broadcasting."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.quantizer.ops.add import AddAttrs, SumOperator
from intaglio.quantizer.ops.base import register


@dataclass(frozen=True)
class SubAttrs(AddAttrs):
    """clamp: the fused activation. shifts: LiteRT's flag `pot_scale_int16`, by which it subtracts int16 of scales that
    are powers of two with shifts (contract tflite)."""


@register
class Sub(SumOperator):
    """Inputs: x and y, one of them may be constant. Output: x - y, broadcast."""

    name = "Sub"
    attrs = SubAttrs
    sign = -1
