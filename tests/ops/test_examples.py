"""Every example of every operator: definition == integer reference == generated C on the host.

The examples of an operator are one program; example_7 in a message is its eighth.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ops_harness import check_all_exact

from intaglio.boards.cores import CORES
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph


def examples(name: str) -> dict[str, Graph]:
    return {f"example_{i}": graph for i, graph in enumerate(ops.operator(name).examples())}


@pytest.mark.parametrize("name", sorted(ops.registry()))
def test_examples_are_exact(name: str, tmp_path: Path) -> None:
    graphs = examples(name)
    assert ops.operator(name).alias or graphs
    if graphs:
        check_all_exact(graphs, tmp_path, CORES["cortex-m0"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in sorted(ops.registry()) if not ops.operator(n).alias])
def test_examples_are_exact_under_clang(name: str, tmp_path: Path) -> None:
    check_all_exact(examples(name), tmp_path, CORES["cortex-m0"], compiler="clang", opt="-O3")
