"""Every example of every operator: definition == integer reference == generated C on the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops_harness import check_exact

from intaglio.boards.cores import CORES
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph

EXAMPLES = [
    pytest.param(graph, id=f"{name}-{i}-{graph.contract}")
    for name, op in ops.registry().items()
    for i, graph in enumerate(op.examples())
]


@pytest.mark.parametrize("graph", EXAMPLES)
def test_example_is_exact(graph: Graph, tmp_path: Path) -> None:
    check_exact(graph, tmp_path / "lib", CORES["cortex-m0"])


@pytest.mark.parametrize("name", sorted(ops.registry()))
def test_every_operator_has_examples(name: str) -> None:
    op = ops.operator(name)
    assert op.alias or next(op.examples(), None) is not None
