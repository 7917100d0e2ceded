"""Pad: a border around a tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.ir import Attrs, Graph, Node, TensorType
from intaglio.quantizer.ops.base import Context, register
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.movement import OUTPUT, Array, MoveOperator, Pairs


@dataclass(frozen=True)
class PadAttrs(Attrs):
    """pads: (before, after) of every axis. mode: constant, reflect, symmetric or edge. value: the constant, a real."""

    pads: tuple[tuple[int, int], ...]
    mode: str = "constant"
    value: float = 0.0


@register
class Pad(MoveOperator[PadAttrs]):
    """Input: x. Output: x with a border."""

    name = "Pad"
    attrs = PadAttrs

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, a = inputs[0], node.attrs
        if x is None or len(a.pads) != len(x.shape) or any(p < 0 for pair in a.pads for p in pair):
            raise UnsupportedError(str(node), f"pads {list(a.pads)} do not fit the input", "re-export the model")
        room = {"reflect": -1, "symmetric": 0}.get(a.mode)
        if room is not None and any(max(p) > n + room for p, n in zip(a.pads, x.shape, strict=True)):
            raise UnsupportedError(str(node), f"pads {list(a.pads)} are wider than the input", "re-export the model")
        return (tuple(n + before + after for n, (before, after) in zip(x.shape, a.pads, strict=True)),)

    def fill(self, ctx: Context) -> float | None:
        return float(ctx.node.attrs.value) if ctx.node.attrs.mode == "constant" else None

    def pairs(self, attrs: Any, sources: Sequence[Array], targets: Sequence[Array]) -> Pairs:
        x, y = sources[0], targets[0]
        region = [slice(before, before + n) for n, (before, _) in zip(x.shape, attrs.pads, strict=True)]
        result: Pairs = [(y[tuple(region)], 0, x, 0)]
        if attrs.mode == "constant":
            return result
        # Axis by axis, what is there already is continued on both sides: few copies, however many axes there are.
        for axis in reversed(range(x.ndim)):
            for part, source in _borders(x.shape[axis], attrs.pads[axis], attrs.mode):
                target = y[(*region[:axis], part, *region[axis + 1 :])]
                view = y[(*region[:axis], source, *region[axis + 1 :])]
                result.append((target, 0, np.broadcast_to(view, target.shape), OUTPUT))
            region[axis] = slice(None)
        return result

    def examples(self) -> Iterator[Graph]:
        for dtype, zero in (("int8", -5), ("int16", 0)):
            for mode in ("constant", "reflect", "symmetric", "edge"):
                for shape, pads in (((1, 4, 5, 2), ((0, 0), (1, 2), (2, 0), (0, 0))), ((4, 3), ((2, 1), (0, 2)))):
                    attrs = PadAttrs(pads, mode, 0.3 if mode == "constant" else 0.0)
                    yield single(self.name, attrs, [quantised(dtype, shape, 0.1, zero)], [(dtype, 0.1, zero)])


def _borders(n: int, pad: tuple[int, int], mode: str) -> list[tuple[slice, slice]]:
    """The (target, source) slices of an axis on both sides of the input; a source of one element is repeated."""
    before, after = pad
    end = before + n
    if mode == "edge":
        sources = slice(before, before + 1), slice(end - 1, end)
    else:
        skip = 1 if mode == "reflect" else 0
        sources = _down(2 * before - 1 + skip, before), _down(end - 1 - skip, after)
    parts = [(slice(0, before), sources[0]), (slice(end, end + after), sources[1])]
    return [part for part, size in zip(parts, pad, strict=True) if size]


def _down(first: int, count: int) -> slice:
    """So many elements from one downwards."""
    return slice(first, first - count if first >= count else None, -1)
