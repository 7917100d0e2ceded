"""Split: parts of a tensor along an axis."""

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
class SplitAttrs(Attrs):
    """axis: along which x is cut; sizes: of the parts."""

    axis: int
    sizes: tuple[int, ...]


@register
class Split(MoveOperator[SplitAttrs]):
    """Input: x. Outputs: its parts along an axis."""

    name = "Split"
    attrs = SplitAttrs

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, a = inputs[0], node.attrs
        if x is None or not 0 <= a.axis < len(x.shape) or sum(a.sizes) != x.shape[a.axis] or min(a.sizes) < 1:
            raise UnsupportedError(str(node), f"sizes {list(a.sizes)} do not fill axis {a.axis}", "re-export the model")
        return tuple((*x.shape[: a.axis], n, *x.shape[a.axis + 1 :]) for n in a.sizes)

    def pairs(self, attrs: Any, sources: Sequence[Array], targets: Sequence[Array]) -> Pairs:
        at, result = 0, []
        for j, size in enumerate(attrs.sizes):
            part = sources[0][(slice(None),) * attrs.axis + (slice(at, at + size),)]
            result.append((targets[j], j, part, 0))
            at += size
        return result

    def examples(self) -> Iterator[Graph]:
        for shape, axis, sizes in (((1, 2, 3, 6), 3, (1, 3, 2)), ((1, 5, 2), 1, (2, 3)), ((4, 3), 0, (1, 1, 2))):
            for dtype in ("int8", "int16"):
                outs = [(dtype, 0.1, 0)] * len(sizes)
                yield single(self.name, SplitAttrs(axis, sizes), [quantised(dtype, shape, 0.1)], outs)
