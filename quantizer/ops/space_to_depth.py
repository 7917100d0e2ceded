"""SpaceToDepth: blocks of pixels become channels."""

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
class SpaceToDepthAttrs(Attrs):
    """block: side of the blocks, in pixels."""

    block: int


@register
class SpaceToDepth(MoveOperator[SpaceToDepthAttrs]):
    """Input: x (1, H, W, C). Output: (1, H / block, W / block, block * block * C)."""

    name = "SpaceToDepth"
    attrs = SpaceToDepthAttrs

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, b = inputs[0], node.attrs.block
        if x is None or len(x.shape) != 4 or b < 1 or x.shape[1] % b or x.shape[2] % b:
            raise UnsupportedError(str(node), f"blocks of {b} do not tile the image", "re-export the model")
        n, h, w, c = x.shape
        return ((n, h // b, w // b, b * b * c),)

    def pairs(self, attrs: Any, sources: Sequence[Array], targets: Sequence[Array]) -> Pairs:
        b = attrs.block
        n, h, w, c = sources[0].shape
        view = sources[0].reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5)
        return [(targets[0].reshape(view.shape), 0, view, 0)]

    def examples(self) -> Iterator[Graph]:
        for dtype in ("int8", "int16"):
            for shape, block in (((1, 4, 6, 3), 2), ((1, 3, 3, 1), 3)):
                attrs = SpaceToDepthAttrs(block)
                yield single(self.name, attrs, [quantised(dtype, shape, 0.1)], [(dtype, 0.1, 0)])
