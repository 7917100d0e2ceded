"""Every example of every operator: definition == integer reference == generated C on the host.

The examples of an operator are one program; example_7 in a message is its eighth.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ops_harness import check_all_exact

from intaglio.boards.cores import CORES
from intaglio.quantizer import ops


@pytest.mark.parametrize("name", sorted(ops.registry()))
def test_examples_are_exact(name: str, tmp_path: Path) -> None:
    op = ops.operator(name)
    graphs = {f"example_{i}": graph for i, graph in enumerate(op.examples())}
    assert op.alias or graphs
    if graphs:
        check_all_exact(graphs, tmp_path, CORES["cortex-m0"])
