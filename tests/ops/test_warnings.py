"""The C of every operator leaves Clang nothing to say: for the host, and for Arm with its branches of #if."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.boards.cores import CORES
from intaglio.codegen.compile import write_library
from intaglio.codegen.emit import emit
from intaglio.host.toolchain import STRICT_WARNINGS, compile_objects, core_flags, find_compiler
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph
from intaglio.quantizer.passes.lower import lower

NAMES = [name for name, op in ops.registry().items() if not op.alias]


STRING_H = """#include <stddef.h>
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *at, int value, size_t size);
"""
"""What zig's freestanding target leaves to the platform."""


def generate(graphs: dict[str, Graph], core: str, folder: Path) -> list[Path]:
    """The sources of the libraries of such names."""
    for name, graph in graphs.items():
        write_library(emit(lower(graph), name, CORES[core]), folder / name)
    return sorted(folder.glob("*/*.c"))


def check(compiler: str, core: str, sources: list[Path], folder: Path) -> None:
    """A warning is an error."""
    tool, flags = find_compiler(compiler), (*STRICT_WARNINGS, "-O1")
    if compiler == "zig":
        (folder / "string.h").write_text(STRING_H)
        flags = (*core_flags(tool, CORES[core]), *flags, f"-I{folder}")
    assert sources
    assert len(compile_objects(tool, sources, folder / f"{compiler}-objects", flags)) == len(sources)


def first_examples() -> dict[str, Graph]:
    """One of each operator."""
    return {f"example_{name}": next(iter(ops.operator(name).examples())) for name in NAMES}


def all_examples(name: str) -> dict[str, Graph]:
    return {f"example_{i}": graph for i, graph in enumerate(ops.operator(name).examples())}


def test_clang_on_one_example_of_each(tmp_path: Path) -> None:
    check("clang", "cortex-m0", generate(first_examples(), "cortex-m0", tmp_path / "lib"), tmp_path)


def test_clang_for_arm_on_what_is_written_for_it(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="pip install ziglang")
    sources = generate(first_examples(), "cortex-m4", tmp_path / "lib")
    check("clang", "cortex-m4", sources, tmp_path)
    check("zig", "cortex-m4", [source for source in sources if "__ARM_FEATURE" in source.read_text()], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("name", NAMES)
def test_clang_on_every_example(name: str, core: str, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="pip install ziglang")
    sources = generate(all_examples(name), core, tmp_path / "lib")
    check("clang", core, sources, tmp_path)
    check("zig", core, sources, tmp_path)
