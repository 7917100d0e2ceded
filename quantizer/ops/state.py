"""What ReadVariable and AssignVariable share."""

from __future__ import annotations

import numpy as np

from intaglio.quantizer.errors import GraphError
from intaglio.quantizer.ir import Contract, Graph, Node, Variable
from intaglio.quantizer.ops.base import Context
from intaglio.quantizer.ops.build import attributes, quantised


def kept_by_evaluator(ctx: Context) -> GraphError:
    """The error of evaluating an operator whose effect is on the evaluator's state."""
    return GraphError(str(ctx.node), "variables are kept by the evaluator", "report this model: it is our mistake")


def counter(dtype: str, initial: int) -> Graph:
    """A graph with state: the output is the larger of x and the state, and becomes the new state."""
    scale = None if dtype == "int32" else 0.1
    kind, stack = quantised(dtype, (1, 5), scale), quantised(dtype, (2, 5), scale)
    return Graph(
        name="counter",
        nodes=(
            Node("ReadVariable", "read", (), ("old",), attributes("ReadVariable", "memory")),
            Node("Concat", "stack", ("x", "old"), ("both",), attributes("Concat", 0)),
            Node("ReduceMax", "largest", ("both",), ("new",), attributes("ReduceMax", (0,), True)),
            Node("AssignVariable", "keep", ("new",), (), attributes("AssignVariable", "memory")),
        ),
        types={"x": kind, "old": kind, "both": stack, "new": kind},
        constants={},
        inputs=("x",),
        outputs=("new",),
        variables={"memory": Variable(kind, np.full(kind.shape, initial, kind.dtype.numpy))},
        contract=Contract.EXACT,
    )
