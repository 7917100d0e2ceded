"""ArgMin: the place of the smallest value along an axis."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.quantizer.ops.arg_extremum import ArgAttrs, ArgOperator
from intaglio.quantizer.ops.base import register


@dataclass(frozen=True)
class ArgMinAttrs(ArgAttrs):
    """axis: searched; keep_dims: it stays with length 1; last: of equal values the last counts, not the first."""


@register
class ArgMin(ArgOperator[ArgMinAttrs]):
    """Input: x. Output: the indices of its smallest values along an axis, int32 or int64, without a scale."""

    name = "ArgMin"
    attrs = ArgMinAttrs
    sign = -1
