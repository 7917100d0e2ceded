"""What the pages name exists: files, passes, operators."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from intaglio.quantizer import ops
from intaglio.quantizer.pipeline import PASSES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("quantizer", "codegen", "host", "firmware", "boards", "renode", "docs", "tests", "tools", "benchmarks")
# The board that docs/add-a-board.md has its reader write, and Renode's test runner.
NOT_OURS = {"boards/nucleo_f446re.toml", "tests/tests_engine.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    """Paths from the root or from tests/, in backticks; a word in capitals (NAME, BOARD) stands for one of many."""
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", page.read_text(encoding="utf-8"))
    ours = [path for path in named if path not in NOT_OURS and not re.search(r"[A-Z]{4,}", path)]
    missing = [path for path in ours if not ((ROOT / path).exists() or (ROOT / "tests" / path).exists())]
    assert missing == []


def test_the_table_of_passes_is_the_pipeline() -> None:
    page = (ROOT / "docs" / "quantisation.md").read_text(encoding="utf-8")
    table = page[page.index("| pass | does |") : page.index("Constants are folded before")]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.M) == [name for name, _ in PASSES]


@pytest.mark.parametrize("name", sorted(ops.registry()))
def test_numerics_speaks_of_every_operator(name: str) -> None:
    page = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{name}\b", page, re.IGNORECASE)


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []
