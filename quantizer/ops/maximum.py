"""Maximum: the larger of two tensors' values, with broadcasting."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.extremum import Choice, ExtremumOperator


@dataclass(frozen=True)
class MaximumAttrs(Attrs):
    """None."""


@register
class Maximum(ExtremumOperator[MaximumAttrs]):
    """Inputs: x and y, one of them may be constant, on the scale of the output. Output: the larger values."""

    name = "Maximum"
    attrs = MaximumAttrs
    choice = Choice(">")
