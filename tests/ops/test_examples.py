"""Every example of every operator: definition == integer reference == generated C.

The examples of an operator are one program; example_7 in a message is its eighth.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ops_harness import assert_same, check_all_exact, drawn, reference

from intaglio.boards.cores import CORES
from intaglio.codegen.compile import write_library
from intaglio.codegen.emit import emit
from intaglio.host.simcore import run_on_core
from intaglio.host.verify import HOST_BUILDS
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph
from intaglio.quantizer.passes.lower import lower


def examples(name: str) -> dict[str, Graph]:
    return {f"example_{i}": graph for i, graph in enumerate(ops.operator(name).examples())}


WITH_EXAMPLES = [n for n in sorted(ops.registry()) if not ops.operator(n).alias]


@pytest.mark.parametrize("name", sorted(ops.registry()))
def test_examples_are_exact(name: str, tmp_path: Path) -> None:
    graphs = examples(name)
    assert ops.operator(name).alias or graphs
    if graphs:
        check_all_exact(graphs, tmp_path, CORES["cortex-m0"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_exact_in_every_build(name: str, tmp_path: Path) -> None:
    check_all_exact(examples(name), tmp_path, CORES["cortex-m0"], builds=HOST_BUILDS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_exact_on_the_core(name: str, core: str, tmp_path: Path) -> None:
    """Without a long multiply, and with the DSP extension."""
    for label, graph in examples(name).items():
        lowered = lower(graph)
        inputs = drawn(lowered, 5)
        write_library(emit(lowered, label, CORES[core]), tmp_path / label)
        result = run_on_core(tmp_path / label, CORES[core], inputs, count=False)
        assert_same(reference(lowered, inputs, label), result.outputs, f"{label}: {lowered.nodes[0]}: C on {core}")
