"""Concat: tensors one after the other along an axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.ir import Attrs, Graph, Node, TensorType
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.movement import Array, MoveOperator, Pairs


@dataclass(frozen=True)
class ConcatAttrs(Attrs):
    """axis: along which the inputs are joined."""

    axis: int


@register
class Concat(MoveOperator[ConcatAttrs]):
    """Inputs: tensors that differ only in the size of one axis. Output: all of them along it."""

    name = "Concat"
    attrs = ConcatAttrs

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        axis, shapes = node.attrs.axis, [list(t.shape) for t in inputs if t is not None]
        rests = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
        if not shapes or not 0 <= axis < len(shapes[0]) or len(rests) != 1:
            raise UnsupportedError(str(node), f"shapes {shapes} do not join along axis {axis}", "re-export the model")
        shape = list(shapes[0])
        shape[axis] = sum(s[axis] for s in shapes)
        return (tuple(shape),)

    def pairs(self, attrs: Any, sources: Sequence[Array], targets: Sequence[Array]) -> Pairs:
        at, result = 0, []
        for i, source in enumerate(sources):
            end = at + source.shape[attrs.axis]
            part = targets[0][(slice(None),) * attrs.axis + (slice(at, end),)]
            result.append((part, 0, source, i))
            at = end
        return result

    def examples(self) -> Iterator[Graph]:
        for axis, shapes in (
            (3, ((1, 2, 3, 2), (1, 2, 3, 5))),
            (1, ((1, 2, 3), (1, 4, 3), (1, 1, 3))),
            (0, ((2, 3), (1, 3))),
        ):
            for dtype in ("int8", "int16", "uint8"):
                kinds = [quantised(dtype, s, 0.1) for s in shapes]
                yield single(self.name, ConcatAttrs(axis), kinds, [(dtype, 0.1, 0)])
