"""Single-node graphs for examples and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import ops
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, QParams, TensorType, Variable


def quantised(dtype: DType | str, shape: Sequence[int], scale: float | None = None, zero_point: int = 0) -> TensorType:
    """A tensor type, quantised per tensor when a scale is given."""
    qparams = None if scale is None else QParams.of(scale, zero_point)
    return TensorType(DType(dtype), tuple(shape), qparams)


def attributes(op: str, *values: Any) -> Attrs:
    """The attributes of an operator that is known by its name."""
    make: Any = ops.operator(op).attrs
    made: Attrs = make(*values)
    return made


def single(
    op: str,
    attrs: Attrs,
    inputs: Sequence[TensorType | tuple[TensorType, NDArray[Any]] | None],
    outputs: Sequence[tuple[DType | str, float | None, int]],
    contract: Contract = Contract.EXACT,
    variables: Mapping[str, Variable] | None = None,
    name: str = "example",
) -> Graph:
    """Return a graph of one node.

    Args:
        inputs: a type for a runtime input, (type, value) for a constant, None for an absent one.
        outputs: (dtype, scale, zero point) of each; shapes come from the operator's shape rule.
    """
    types: dict[str, TensorType] = {}
    constants: dict[str, NDArray[Any]] = {}
    names: list[str] = []
    for i, item in enumerate(inputs):
        if item is None:
            names.append("")
            continue
        key = f"x{i}"
        names.append(key)
        if isinstance(item, tuple):
            types[key] = item[0]
            constants[key] = np.asarray(item[1]).astype(item[0].dtype.numpy).reshape(item[0].shape)
        else:
            types[key] = item
    outs = tuple(f"y{i}" for i in range(len(outputs)))
    node = Node(op, name, tuple(names), outs, attrs)
    shapes = ops.operator(op).infer(node, [types.get(n) for n in names])
    for out, (dtype, scale, zero_point), shape in zip(outs, outputs, shapes, strict=True):
        types[out] = quantised(dtype, shape, scale, zero_point)
    return Graph(
        name=name,
        nodes=(node,),
        types=types,
        constants=constants,
        inputs=tuple(n for n in names if n and n not in constants),
        outputs=outs,
        variables=variables or {},
        contract=contract,
    )
