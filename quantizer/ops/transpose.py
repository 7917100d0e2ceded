"""Transpose: the axes in another order."""

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
class TransposeAttrs(Attrs):
    """perm: output axis i is input axis perm[i]."""

    perm: tuple[int, ...]


@register
class Transpose(MoveOperator[TransposeAttrs]):
    """Input: x. Output: x with its axes permuted."""

    name = "Transpose"
    attrs = TransposeAttrs

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, perm = inputs[0], node.attrs.perm
        if x is None or sorted(perm) != list(range(len(x.shape))):
            raise UnsupportedError(str(node), f"{list(perm)} does not permute the axes", "re-export the model")
        return (tuple(x.shape[p] for p in perm),)

    def pairs(self, attrs: Any, sources: Sequence[Array], targets: Sequence[Array]) -> Pairs:
        return [(targets[0], 0, sources[0].transpose(attrs.perm), 0)]

    def examples(self) -> Iterator[Graph]:
        cases = (((1, 4, 3, 2), (0, 3, 1, 2)), ((1, 4, 3, 2), (0, 2, 1, 3)), ((5, 4), (1, 0)), ((2, 3, 4), (0, 1, 2)))
        for dtype in ("int8", "int16", "int32"):
            for shape, perm in cases:
                yield single(self.name, TransposeAttrs(perm), [quantised(dtype, shape, 0.1)], [(dtype, 0.1, 0)])
