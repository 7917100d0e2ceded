"""onnx's backend node cases: each is run, exactly and within a stated error, or refused by an operator or a limit."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from exactness.onnx_backend.bounds import INTERPOLATED, error_bounds
from exactness.onnx_backend.cases import Array, Case, cases
from exactness.onnx_backend.limits import LIMITS
from exactness.onnx_backend.runs import Run, run_case

from intaglio.boards.cores import CORES
from intaglio.codegen.compile import write_library
from intaglio.codegen.emit import emit
from intaglio.host.hostrun import run_many_on_host
from intaglio.quantizer.errors import CalibrationError, IntaglioError, ModelError
from intaglio.quantizer.frontends.onnx import TRANSLATED
from intaglio.quantizer.frontends.onnx_folds import FOLDS
from intaglio.quantizer.frontends.onnx_qlinear import QLINEAR
from intaglio.quantizer.ir import Contract, DType, Graph
from intaglio.quantizer.reference import Evaluator, Mode, dequantise

OF_ONNX = frozenset(TRANSLATED - (QLINEAR.keys() - {"QLinearConv", "QLinearMatMul"}))
"""Operators with a translator that onnx itself defines."""


WRITTEN_TO = {"averagepool_2d_ceil_last_window_starts_on_pad": 0.5e-4}
"""Expected values that the case gives to so many decimals."""


@cache
def outcomes(dtype: DType = DType.INT8) -> dict[str, Run | IntaglioError]:
    """What became of each case, by its name."""
    result: dict[str, Run | IntaglioError] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            assert case.name not in result
            try:
                result[case.name] = run_case(case, Path(folder), dtype)
            except IntaglioError as error:
                result[case.name] = error
    return result


def runs(group: str, dtype: DType = DType.INT8) -> list[Run]:
    """The cases of one operator, or `expanded`: those of several nodes."""
    return [r for r in outcomes(dtype).values() if isinstance(r, Run) and group_of(r.case) == group]


def group_of(case: Case) -> str:
    return case.operators[0] if len(case.operators) == 1 else "expanded"


def test_every_case_is_run_or_refused_for_a_reason_that_is_listed() -> None:
    used = set()
    for case in cases():
        outcome = outcomes()[case.name]
        if isinstance(outcome, Run):
            continue
        message = str(outcome)
        # The data of a case that is about NaN are no calibration data.
        assert isinstance(outcome, ModelError | CalibrationError), message
        assert "\n" not in message and "our mistake" not in message
        foreign = re.search(r": (\S+) #(\d+).*: operator (\S+) \(node (\d+), ", message)
        if foreign is not None:
            op, index, full, again = foreign.groups()
            assert case.operators[int(index)] == op and full.endswith(op) and index == again, message
            assert op not in OF_ONNX or "on values computed at run time" in message, message
            continue
        supported = [op for op in case.operators if op in TRANSLATED | FOLDS]
        assert supported == list(case.operators), f"{case.name} should be refused by its operator: {message}"
        found = [text for text in LIMITS if text in message]
        assert found, f"{case.name} is refused for no reason that is listed: {message}"
        used.update(found)
    assert used == set(LIMITS), f"no case is refused by {set(LIMITS) - used}"


def test_every_operator_that_is_translated_is_run() -> None:
    ran = {r.case.operators[0] for r in outcomes().values() if isinstance(r, Run) and len(r.case.operators) == 1}
    # All data of Cast's cases hold NaN, or 4 bits.
    assert OF_ONNX - ran == {"Cast"}


GROUPS = sorted(OF_ONNX - {"Cast"})


@pytest.mark.parametrize("operator", GROUPS)
def test_cases_of_one_node(operator: str, tmp_path: Path) -> None:
    check(runs(operator), tmp_path, "-O0", sanitize=False)


@pytest.mark.slow
def test_cases_of_several_nodes(tmp_path: Path) -> None:
    check(runs("expanded"), tmp_path, "-O0", sanitize=False)


@pytest.mark.slow
@pytest.mark.parametrize("operator", [*GROUPS, "expanded"])
def test_cases_with_int16_activations(operator: str, tmp_path: Path) -> None:
    chosen = [r for r in runs(operator, DType.INT16) if r.graph.contract is Contract.EXACT]
    if chosen:
        check(chosen, tmp_path, "-O0", sanitize=False)
    else:
        assert all(not isinstance(r, Run) or r.graph.contract is Contract.ONNX for r in of_operator(operator))


def of_operator(operator: str) -> list[Run | IntaglioError]:
    return [outcomes(DType.INT16)[c.name] for c in cases() if group_of(c) == operator]


@pytest.mark.slow
@pytest.mark.parametrize(("compiler", "opt"), [("gcc", "-O2"), ("clang", "-O3")])
@pytest.mark.parametrize("operator", GROUPS)
def test_cases_under_sanitizers(operator: str, compiler: Literal["gcc", "clang"], opt: str, tmp_path: Path) -> None:
    check(runs(operator), tmp_path, opt, sanitize=True, compiler=compiler)


def check(
    chosen: list[Run], folder: Path, opt: str, *, sanitize: bool, compiler: Literal["gcc", "clang"] = "gcc"
) -> None:
    """Assert definition == integer reference == C on the host, and the values of the cases."""
    assert chosen
    for r in chosen:
        write_library(emit(r.graph, r.case.name, CORES["cortex-m0"]), folder / r.case.name)
    results = run_many_on_host(
        [folder / r.case.name for r in chosen], [r.inputs for r in chosen], compiler, opt, sanitize, trace=False
    )
    for r, result in zip(chosen, results, strict=True):
        integer, defined = Evaluator(r.graph, Mode.INTEGER), Evaluator(r.graph, Mode.DEFINED)
        for i, (inputs, expected) in enumerate(zip(r.inputs, r.expected, strict=True)):
            values, meaning = integer.run(inputs), defined.run(inputs)
            bounds = error_bounds(r.graph, values) if bounded(r.graph) else {}
            for j, (tensor, wanted) in enumerate(zip(r.graph.outputs, expected, strict=True)):
                assert np.array_equal(values[tensor], meaning[tensor]), f"{r.case.name}: reference != definition"
                assert np.array_equal(result.outputs[i][j], values[tensor]), f"{r.case.name}: C differs"
                if not bounds:
                    continue
                bound = bounds[tensor] + WRITTEN_TO.get(r.case.name, 0.0)
                compare(r.graph, tensor, values[tensor], wanted.reshape(values[tensor].shape), bound)


def bounded(graph: Graph) -> bool:
    """Whether a bound is stated: for all but interpolated functions."""
    return not any(n.op in INTERPOLATED and graph.types[n.inputs[0]].dtype is DType.INT16 for n in graph.nodes)


def compare(graph: Graph, tensor: str, stored: Array, wanted: Array, bound: Array) -> None:
    """Integers are equal; reals are within the bound, and those of quantised models equal."""
    kind = graph.types[tensor]
    if wanted.dtype.kind != "f":
        assert np.array_equal(stored, wanted), f"{graph.name}: '{tensor}' is not what onnx expects"
        return
    real = dequantise(stored, kind)
    if graph.contract is Contract.ONNX:
        assert np.array_equal(real.astype(wanted.dtype), wanted), f"{graph.name}: '{tensor}' is not what onnx expects"
        return
    # The case's own values are rounded, and so are the scales.
    largest = float(np.abs(wanted.astype(np.float64)).max(initial=1.0))
    rounding = largest * (float(np.finfo(wanted.dtype).eps) * 4 + 2.0**-20)
    over = np.abs(real - wanted.astype(np.float64)) - bound
    assert np.all(over <= rounding), f"{graph.name}: '{tensor}' is {over.max() / kind.scale:.3f} steps beyond its bound"
