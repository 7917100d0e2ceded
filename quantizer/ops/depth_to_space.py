"""DepthToSpace: channels become blocks of pixels."""

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
class DepthToSpaceAttrs(Attrs):
    """block: side of the blocks, in pixels. mode: dcr (block before channel; TFLite, ONNX's default) or crd."""

    block: int
    mode: str = "dcr"


@register
class DepthToSpace(MoveOperator[DepthToSpaceAttrs]):
    """Input: x (1, H, W, C). Output: (1, H * block, W * block, C / (block * block))."""

    name = "DepthToSpace"
    attrs = DepthToSpaceAttrs

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, b = inputs[0], node.attrs.block
        if x is None or len(x.shape) != 4 or b < 1 or x.shape[3] % (b * b) or node.attrs.mode not in ("dcr", "crd"):
            raise UnsupportedError(str(node), f"channels do not make blocks of {b}", "re-export the model")
        n, h, w, c = x.shape
        return ((n, h * b, w * b, c // (b * b)),)

    def pairs(self, attrs: Any, sources: Sequence[Array], targets: Sequence[Array]) -> Pairs:
        b = attrs.block
        n, h, w, c = sources[0].shape
        deep = c // (b * b)
        if attrs.mode == "dcr":
            view = sources[0].reshape(n, h, w, b, b, deep).transpose(0, 1, 3, 2, 4, 5)
        else:
            view = sources[0].reshape(n, h, w, deep, b, b).transpose(0, 1, 4, 2, 5, 3)
        return [(targets[0].reshape(view.shape), 0, view, 0)]

    def examples(self) -> Iterator[Graph]:
        for dtype in ("int8", "int16"):
            for shape, attrs in (((1, 2, 3, 12), DepthToSpaceAttrs(2)), ((1, 2, 3, 12), DepthToSpaceAttrs(2, "crd"))):
                yield single(self.name, attrs, [quantised(dtype, shape, 0.1)], [(dtype, 0.1, 0)])
