"""Minimum: the smaller of two tensors' values, with broadcasting."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.extremum import Choice, ExtremumOperator


@dataclass(frozen=True)
class MinimumAttrs(Attrs):
    """None."""


@register
class Minimum(ExtremumOperator[MinimumAttrs]):
    """Inputs: x and y, one of them may be constant, on the scale of the output. Output: the smaller values."""

    name = "Minimum"
    attrs = MinimumAttrs
    choice = Choice("<")
