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
from intaglio.quantizer.ops.movement import Array, MoveOperator, Pairs


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
        inner = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, attrs.pads, strict=True))
        result: Pairs = [(y[inner], 0, x, 0)]
        if attrs.mode == "constant":
            return result
        choices = [_runs(n, pad, attrs.mode) for n, pad in zip(x.shape, attrs.pads, strict=True)]
        for index in np.ndindex(*(len(c) for c in choices)):
            picked = [c[i] for c, i in zip(choices, index, strict=True)]
            target, source = y[tuple(t for t, _ in picked)], x[tuple(s for _, s in picked)]
            if any(index):
                result.append((target, 0, np.broadcast_to(source, target.shape), 0))
        return result

    def examples(self) -> Iterator[Graph]:
        for dtype, zero in (("int8", -5), ("int16", 0)):
            for mode in ("constant", "reflect", "symmetric", "edge"):
                for shape, pads in (((1, 4, 5, 2), ((0, 0), (1, 2), (2, 0), (0, 0))), ((4, 3), ((2, 1), (0, 2)))):
                    attrs = PadAttrs(pads, mode, 0.3 if mode == "constant" else 0.0)
                    yield single(self.name, attrs, [quantised(dtype, shape, 0.1, zero)], [(dtype, 0.1, zero)])


def _runs(n: int, pad: tuple[int, int], mode: str) -> list[tuple[slice, slice]]:
    """How an axis is written: (target, source) slices, the input itself first; a source of one element is repeated."""
    before, after = pad
    result = [(slice(before, before + n), slice(0, n))]
    skip = 1 if mode == "reflect" else 0
    if before:
        first = before - 1 + skip
        mirrored = slice(first, skip - 1 if skip else None, -1)
        result.append((slice(0, before), slice(0, 1) if mode == "edge" else mirrored))
    if after:
        last = n - 1 - skip
        stop = last - after
        mirrored = slice(last, stop if stop >= 0 else None, -1)
        result.append((slice(before + n, before + n + after), slice(n - 1, n) if mode == "edge" else mirrored))
    return result
