"""ArgMax: the place of the largest value along an axis."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.quantizer.ops.arg_extremum import ArgAttrs, ArgOperator
from intaglio.quantizer.ops.base import register


@dataclass(frozen=True)
class ArgMaxAttrs(ArgAttrs):
    """axis: searched; keep_dims: it stays with length 1; last: of equal values the last counts, not the first."""


@register
class ArgMax(ArgOperator[ArgMaxAttrs]):
    """Input: x. Output: the indices of its largest values along an axis, int32 or int64, without a scale."""

    name = "ArgMax"
    attrs = ArgMaxAttrs
    sign = 1
