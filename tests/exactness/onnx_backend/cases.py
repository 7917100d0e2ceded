"""onnx's backend node cases, as models that one would deploy: weights, shapes, axes and scales are constants."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]

ALL_COMPUTED = frozenset(("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean", "Concat", "MatMul"))
"""Operators all of whose inputs are activations; of the others only the first is."""

ALSO_BY_CONSTANT = frozenset(("Add", "Sub", "Mul", "Max", "Min", "MatMul"))
"""Operators that are run a second time with all inputs but the first constant."""


@dataclass(frozen=True, eq=False)
class Case:
    """A model and its data.

    Attributes:
        name: onnx's name of the case, with `_by_constant` behind it for the second form.
        operators: of its nodes, in order.
        data: the file.
        samples: per data set, the values of the inputs that are left.
        expected: per data set, what onnx gives as the values of the outputs.
    """

    name: str
    operators: tuple[str, ...]
    data: bytes
    samples: list[list[Any]]
    expected: list[list[Any]]

    @property
    def model(self) -> Any:
        return onnx.load_model_from_string(self.data)


@cache
def cases() -> tuple[Case, ...]:
    """Every case, those of ALSO_BY_CONSTANT twice."""
    from onnx.backend.test.case.node import collect_testcases

    # The generators print, and divide by zero on purpose.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    result = []
    for case in collected:
        name, model = case.name.removeprefix("test_"), case.model
        operators = tuple(n.op_type for n in model.graph.node)
        everything = len(operators) == 1 and operators[0] in ALL_COMPUTED
        result.append(_deployed(name, model, case.data_sets, len(model.graph.input) if everything else 1))
        if everything and operators[0] in ALSO_BY_CONSTANT and len(model.graph.input) > 1:
            result.append(_deployed(f"{name}_by_constant", model, case.data_sets, 1))
    return tuple(result)


def _deployed(name: str, original: Any, data_sets: Sequence[Any], computed: int) -> Case:
    """The case with all inputs but the first ones turned into constants of the model."""
    model = onnx.ModelProto()
    model.CopyFrom(original)
    inputs = [_value(v) for v in data_sets[0][0]]
    constants = [(i, v) for i, v in enumerate(inputs) if i >= computed and isinstance(v, np.ndarray | np.generic)]
    for i, value in constants:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), model.graph.input[i].name))
    for i, _ in reversed(constants):
        del model.graph.input[i]
    kept = [i for i in range(len(inputs)) if i not in dict(constants)]
    samples = [[_value(given[i]) for i in kept] for given, _ in data_sets]
    expected = [[_value(v) for v in wanted] for _, wanted in data_sets]
    return Case(name, tuple(n.op_type for n in model.graph.node), model.SerializeToString(), samples, expected)


def _value(given: Any) -> Any:
    """An array, as some cases hold them in ONNX's own form; sequences stay what they are."""
    return numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else given
