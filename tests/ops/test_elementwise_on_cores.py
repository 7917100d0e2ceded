"""Elementwise kernels on simulated cores: without a long multiply (M0) and with saturating instructions (M4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ops_harness import samples

from intaglio.boards.cores import CORES
from intaglio.codegen.compile import write_library
from intaglio.codegen.emit import emit
from intaglio.host.simcore import run_on_core
from intaglio.quantizer import ops
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode

EXAMPLES = [
    ("Add", 0),
    ("Add", 2),
    ("Add", 9),
    ("Mul", 0),
    ("Mul", 9),
    ("PRelu", 0),
    ("PRelu", 2),
    ("BatchNorm", 0),
    ("Sqrt", -1),
    ("Tanh", 2),
    ("Softmax", 0),
    ("Softmax", -1),
    ("Floor", -1),
    ("Reciprocal", -1),
    ("Sub", -1),
    ("LogSoftmax", -1),
]


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
@pytest.mark.parametrize(("name", "number"), EXAMPLES)
def test_a_core_computes_the_integer_reference(name: str, number: int, core: str, tmp_path: Path) -> None:
    graph = lower(list(ops.operator(name).examples())[number])
    rng = np.random.default_rng(1)
    drawn = [samples(graph.types[tensor], rng, 4) for tensor in graph.inputs]
    inputs = [list(sample) for sample in zip(*drawn, strict=True)]
    write_library(emit(graph, "example", CORES[core]), tmp_path / "example")
    result = run_on_core(tmp_path / "example", CORES[core], inputs, count=False)
    reference = Evaluator(graph, Mode.INTEGER)
    for sample, (output,) in zip(inputs, result.outputs, strict=True):
        assert np.array_equal(reference.run(sample)[graph.outputs[0]].ravel(), output.ravel())
