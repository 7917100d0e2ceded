"""The compilers are found, name what installs them when missing, and all take the sample library without a warning."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import write_tiny

from intaglio.boards.cores import CORES
from intaglio.host.elfscan import scan_elf
from intaglio.host.library import open_library
from intaglio.host.toolchain import (
    STRICT_WARNINGS,
    compile_objects,
    core_flags,
    find_compiler,
    find_program,
    link,
    run_tool,
)
from intaglio.quantizer.errors import OutputError, ToolError


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("name", ["arm-none-eabi-gcc", "zig"])
def test_both_cross_compilers_accept_strict_warnings(tmp_path: Path, name: str, core: str) -> None:
    compiler = find_compiler(name)
    flags = [*core_flags(compiler, CORES[core]), *STRICT_WARNINGS, "-O2", "-ffreestanding"]
    (built,) = compile_objects(compiler, [write_tiny(tmp_path) / "tiny.c"], tmp_path / "out", flags)
    report = scan_elf(built, CORES[core])
    assert report.clean and report.instructions > 50


def test_a_missing_compiler_names_what_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("arm-none-eabi-gcc", "gcc", "clang"):
        with pytest.raises(ToolError, match=f"{name}: not found on the PATH; install it with: apt-get install"):
            find_compiler(name)
    with pytest.raises(ToolError, match="apt-get install qemu-system-arm"):
        find_program("qemu-system-arm")


def test_a_host_compiler_is_refused_for_a_core() -> None:
    with pytest.raises(ToolError, match="gcc: cannot compile for cortex-m0"):
        core_flags(find_compiler("gcc"), CORES["cortex-m0"])


def test_compile_and_link_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("int f(void) { return missing; }\n")
    (tmp_path / "open.c").write_text("int g(void); int main(void) { return g(); }\n")
    gcc = find_compiler("gcc")
    with pytest.raises(ToolError, match=r"bad\.c:1:22: error: .missing. undeclared") as caught:
        compile_objects(gcc, [tmp_path / "bad.c"], tmp_path, [])
    assert "\n" not in str(caught.value)
    objects = compile_objects(gcc, [tmp_path / "open.c"], tmp_path, [])
    with pytest.raises(ToolError, match="undefined reference to `g'"):
        link(gcc, objects, tmp_path / "program", [])


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(ToolError, match=r"sleep: still running after 0\.2 s"):
        run_tool(["sleep", "30"], timeout=0.2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.h": "", "b.h": "", "a.c": ""}, "holds 2 headers"),
        ({"a.h": ""}, r"holds no a\*\.c"),
        ({"a.h": "", "a.c": "", "a.json": "{"}, "is not a manifest"),
        ({"a.h": "", "a.c": "", "a.json": "[1]"}, "is not a manifest"),
    ],
)
def test_what_is_not_a_library_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(OutputError, match=message):
        open_library(tmp_path)


def test_the_manifest_adds_its_flags(tmp_path: Path) -> None:
    library = write_tiny(tmp_path)
    (library / "tiny.json").write_text('{"name": "tiny", "cflags": ["-O2", "-fno-schedule-insns"]}')
    assert open_library(library).cflags == ("-O2", "-fno-schedule-insns")
