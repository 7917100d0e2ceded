"""Slice: a strided part of a tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.ir import Attrs, Graph, Node, TensorType
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.movement import Array, MoveOperator, Pairs


@dataclass(frozen=True)
class SliceAttrs(Attrs):
    """starts, ends, steps: of every axis, as Python's `slice` with explicit bounds; a step may be negative, its end
    then -1 to reach index 0."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    steps: tuple[int, ...]


def _index(attrs: Any) -> tuple[slice, ...]:
    ends = (None if step < 0 and end < 0 else end for end, step in zip(attrs.ends, attrs.steps, strict=True))
    return tuple(slice(s, e, t) for s, e, t in zip(attrs.starts, ends, attrs.steps, strict=True))


@register
class Slice(MoveOperator[SliceAttrs]):
    """Input: x. Output: x[starts:ends:steps]."""

    name = "Slice"
    attrs = SliceAttrs

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, a = inputs[0], node.attrs
        if x is None or len(a.starts) != len(x.shape) or 0 in a.steps:
            raise UnsupportedError(str(node), "starts, ends and steps do not fit the input", "re-export the model")
        shape = np.broadcast_to(np.uint8(0), x.shape)[_index(a)].shape
        if 0 in shape:
            raise UnsupportedError(str(node), "the slice is empty", "re-export the model")
        return (shape,)

    def pairs(self, attrs: Any, sources: Sequence[Array], targets: Sequence[Array]) -> Pairs:
        return [(targets[0], 0, sources[0][_index(attrs)], 0)]

    def examples(self) -> Iterator[Graph]:
        cases = [
            ((1, 6, 5, 4), SliceAttrs((0, 1, 0, 0), (1, 5, 5, 4), (1, 2, 1, 1))),
            ((1, 6, 5, 4), SliceAttrs((0, 0, 1, 1), (1, 6, 4, 3), (1, 1, 1, 1))),
            ((4, 5), SliceAttrs((3, 4), (-1, -1), (-1, -2))),
            ((9,), SliceAttrs((2,), (9,), (1,))),
        ]
        for shape, attrs in cases:
            for dtype in ("int8", "int16"):
                yield single(self.name, attrs, [quantised(dtype, shape, 0.1)], [(dtype, 0.1, 0)])
