"""Refuse a model that holds NaN or infinity."""

from __future__ import annotations

import numpy as np

from intaglio.quantizer.errors import ModelError
from intaglio.quantizer.ir import Graph


def check_finite(graph: Graph) -> Graph:
    """Return the graph unchanged.

    Raises:
        ModelError: a constant holds NaN or infinity; names the node that reads it.
    """
    bad = {n for n, v in graph.constants.items() if v.dtype.kind == "f" and not np.all(np.isfinite(v))}
    for node in graph.nodes:
        for name in node.inputs:
            if name in bad:
                raise ModelError(str(node), f"'{name}' holds NaN or infinity", "train or export the model again")
    return graph
