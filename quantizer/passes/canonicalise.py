"""Bring a graph into one form: no-ops gone, neighbours merged, affine maps folded, activations and pads fused.

Each rule looks at one node and returns the changed graph, or None. The rules run until none applies. On a
real-valued graph they hold up to the rounding of the folded binary32 constants. On a quantised graph only
those apply that leave every integer as it is: fusing a clip is proven over all integers of the tensor's type,
and a pad is fused when it pads with the integer that the convolution itself would pad with.
"""

from __future__ import annotations

from collections.abc import Callable

from intaglio.quantizer.ir import Graph, Node
from intaglio.quantizer.passes.fold_affine import affine_to_depthwise, fold_after, fold_before
from intaglio.quantizer.passes.fuse import fuse_clip, fuse_pad
from intaglio.quantizer.passes.rewrite import View
from intaglio.quantizer.passes.tidy import drop_no_op, merge_reshapes, merge_transposes, transpose_to_reshape

Rule = Callable[[View, Node], Graph | None]

RULES: tuple[Rule, ...] = (
    drop_no_op,
    merge_reshapes,
    merge_transposes,
    transpose_to_reshape,
    fold_after,
    fold_before,
    fuse_clip,
    fuse_pad,
)


LAST: tuple[Rule, ...] = (*RULES, affine_to_depthwise)
"""Also for what the others have left over."""


def canonicalise(graph: Graph) -> Graph:
    """Apply the rules until none applies; drop what no output needs."""
    return _apply(_apply(graph.pruned(), RULES), LAST)


def _apply(graph: Graph, rules: tuple[Rule, ...]) -> Graph:
    position, view = 0, View(graph)
    while position < len(graph.nodes):
        node = graph.nodes[position]
        changed = next((g for rule in rules if (g := rule(view, node)) is not None), None)
        if changed is None:
            position += 1
        else:
            # A rule may open an opportunity at the nodes before; three back covers every rule's reach.
            graph = changed.pruned()
            position, view = max(0, position - 3), View(graph)
    return graph
