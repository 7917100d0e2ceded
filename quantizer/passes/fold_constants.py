"""Evaluate nodes whose inputs are all constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph, Node
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.reference import dequantise


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes whose inputs are all constant by their results.

    Real results come from the operator's float64 reference, rounded to binary32; integers from its integer
    reference, so that a quantised model keeps its integers. Nodes that read or write state stay.
    """
    kept: list[Node] = []
    for node in graph.nodes:
        names = [name for name in node.inputs if name]
        stateful = getattr(node.attrs, "variable", None) is not None
        if stateful or not names or not all(name in graph.constants for name in names):
            kept.append(node)
            continue
        values = _evaluate(graph, node)
        if values is None:
            kept.append(node)
            continue
        stored = {
            out: np.asarray(value).reshape(graph.types[out].shape).astype(graph.types[out].dtype.numpy)
            for out, value in zip(node.outputs, values, strict=True)
        }
        graph = graph.with_(constants={**graph.constants, **stored})
    return graph.with_(nodes=tuple(kept)).pruned()


def _evaluate(graph: Graph, node: Node) -> Sequence[NDArray[Any]] | None:
    """The outputs of a node of constants; None for a mixture of reals and integers that is not ours to define."""
    op, ctx = ops.operator(node.op, str(node)), context(graph, node)
    operands = [graph.constants[name] if name else None for name in node.inputs]
    if all(t.dtype.is_float for t in ctx.outputs):
        reals = [dequantise(graph.constants[name], graph.types[name]) if name else None for name in node.inputs]
        return op.reference(ctx, reals)
    if any(t is not None and t.dtype.is_float for t in (*ctx.inputs, *ctx.outputs)):
        return None
    op.check(ctx)
    return op.evaluate(ctx, op.lower(ctx), [None if v is None else v.astype(np.int64) for v in operands])
