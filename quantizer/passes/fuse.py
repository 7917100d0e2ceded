"""Rules of `canonicalise` that fuse a clip into the node before it and a pad into the convolution after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intaglio.quantizer import ops
from intaglio.quantizer.ir import Contract, Graph, Node
from intaglio.quantizer.ops.accumulate import Clamp
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.passes.rewrite import View, absorb


def fuse_clip(view: View, node: Node) -> Graph | None:
    """Fuse a Clip into the node that makes its input, when that node can clamp."""
    graph = view.graph
    clamp = getattr(node.attrs, "clamp", None)
    clip = view.only_reader(node.outputs[0]) if len(node.outputs) == 1 else None
    if not isinstance(clamp, Clamp) or clip is None or clip.op != "Clip":
        return None
    fused = compose(clamp, Clamp(clip.attrs.low, clip.attrs.high))
    if graph.contract is not None and not _clip_is_exact(graph, clip, clamp, fused, graph.contract):
        return None
    return absorb(graph, node, clip, replace(node, attrs=replace(node.attrs, clamp=fused)))


def compose(first: Clamp, second: Clamp) -> Clamp:
    """The clamp that equals one clamp after another."""

    def through(value: float | None, other: float | None) -> float | None:
        if value is None:
            return other
        low = -np.inf if second.low is None else second.low
        high = np.inf if second.high is None else second.high
        return float(min(max(value, low), high))

    return Clamp(through(first.low, second.low), through(first.high, second.high))


def _clip_is_exact(graph: Graph, clip: Node, before: Clamp, fused: Clamp, contract: Contract) -> bool:
    """Whether clamping by `fused` gives the integers of clamping by `before` and then running the Clip.

    Tried on every integer of the type, with the arithmetic that the Clip would use on the device.
    """
    source, target = graph.types[clip.inputs[0]], graph.types[clip.outputs[0]]
    if source != target or source.qparams is None or source.dtype.bytes > 2:
        return False
    every = np.arange(source.dtype.low, source.dtype.high + 1, dtype=np.int64)
    op, ctx = ops.operator(clip.op, str(clip)), context(graph, clip)
    line = replace(source, shape=every.shape)
    ctx = replace(ctx, inputs=(line,), outputs=(line,))
    op.check(ctx)
    separate = op.evaluate(ctx, op.lower(ctx), [np.clip(every, *before.integers(source, contract))])[0]
    return bool(np.array_equal(separate, np.clip(every, *fused.integers(target, contract))))


def fuse_pad(view: View, node: Node) -> Graph | None:
    """Fuse a Pad of real zeros into the convolution that reads it."""
    graph = view.graph
    reader = view.only_reader(node.outputs[0]) if len(node.outputs) == 1 else None
    if node.op != "Pad" or reader is None or reader.op not in ("Conv2D", "DepthwiseConv2D"):
        return None
    a = node.attrs
    source, padded = graph.types[node.inputs[0]], graph.types[node.outputs[0]]
    if a.mode != "constant" or a.value != 0.0 or len(a.pads) != 4 or any(a.pads[0]) or any(a.pads[3]):
        return None
    # Equal scales and zero points make the real zero that Pad writes the integer that the convolution pads with.
    if source.qparams != padded.qparams or source.dtype != padded.dtype or min(map(min, a.pads)) < 0:
        return None
    pads = tuple(p + q for p, q in zip((*a.pads[1], *a.pads[2]), reader.attrs.pads, strict=True))
    fused = replace(
        reader,
        inputs=(node.inputs[0], *reader.inputs[1:]),
        attrs=replace(reader.attrs, pads=pads),
    )
    return absorb(graph, node, reader, fused)
