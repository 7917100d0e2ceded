"""The library as its user meets it: names, C++, several in one program, no state of its own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from frontends.tflite.builder import ModelBuilder, options

from intaglio.boards.cores import CORES
from intaglio.codegen import cident
from intaglio.codegen.compile import compile_model
from intaglio.host.library import open_library
from intaglio.host.toolchain import STRICT_WARNINGS, compile_objects, core_flags, find_compiler

FUSED = "net/act_1/Relu;net/bn_1/FusedBatchNormV3;net/dense_1/BiasAdd/ReadVariableOp/resource;net/dense_1/MatMul"


def model(path: Path, scale: float) -> Path:
    """Two fully connected layers, the first under a name that TFLite's converter would give."""
    rng = np.random.default_rng(1)
    builder = ModelBuilder()
    g = builder.main
    x = g.tensor((1, 16), scale=scale, name="x")
    hidden = g.tensor((1, 8), scale=0.1, name=FUSED)
    y = g.tensor((1, 4), scale=0.1, name="y")
    for source, target, shape in ((x, hidden, (8, 16)), (hidden, y, (4, 8))):
        w = g.tensor(shape, scale=0.01, data=rng.integers(-127, 128, shape, dtype=np.int8))
        g.op("FULLY_CONNECTED", [source, w], [target], options("FullyConnectedOptions"), version=4)
    g.ports([x], [y])
    path.write_bytes(builder.bytes())
    return path


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two libraries with functions and arrays of the same shapes."""
    tmp_path, folders = tmp_path_factory.mktemp("libraries"), []
    for name, scale in (("first", 0.1), ("second", 0.2)):
        folder = tmp_path / name
        compile_model(model(tmp_path / f"{name}.tflite", scale), "cortex-m4", folder)
        folders.append(folder)
    return folders


def test_a_fused_name_is_cut_to_what_names_the_layer(libraries: list[Path]) -> None:
    text = (libraries[0] / "first.c").read_text()
    assert "first_act_1_Relu_weights[" in text
    assert "/* 0: FullyConnected net/act_1/Relu (FULLY_CONNECTED #0) */" in text
    assert "FusedBatchNorm" not in text + (libraries[0] / "first_data.c").read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv1", "conv1"),
        ("a/b/c/d", "c_d"),
        ("functional_1/dense/BiasAdd;functional_1/dense/MatMul", "dense_BiasAdd"),
        ("", "layer"),
        ("/;x", "layer"),
        ("1/2", "m1_2"),
        ("int", "int_"),
        ("x" * 300, "x" * 40),
    ],
)
def test_layer_identifier(name: str, expected: str) -> None:
    assert cident.layer_identifier(name) == expected


def test_lines_are_broken_behind_commas() -> None:
    assert (
        cident.wrapped("f(aaa, bbb,\n  g(ccc, ddd, eee);", 10) == "f(aaa,\n    bbb,\n  g(ccc,\n      ddd,\n      eee);"
    )
    assert cident.wrapped("f(aaa, bbb);", 13) == "f(aaa, bbb);"


def test_no_line_is_longer_than_120(libraries: list[Path]) -> None:
    for path in (path for folder in libraries for path in folder.glob("*.[ch]")):
        assert max(map(len, path.read_text().splitlines())) <= 120, path.name


def test_two_libraries_and_cpp_in_one_program(libraries: list[Path], tmp_path: Path) -> None:
    main = tmp_path / "main.cpp"
    main.write_text(
        '#include "first.h"\n#include "second.h"\n#include "first.h"\n'
        "alignas(8) static unsigned char a[FIRST_ARENA_BYTES], b[SECOND_ARENA_BYTES];\n"
        "int main() {\n"
        "    first_reset(a);\n"
        "    second_reset(b);\n"
        "    return first_invoke(a) | second_invoke(b) | (first_model.abi_version != second_model.abi_version);\n"
        "}\n"
    )
    sources = [str(path) for folder in libraries for path in folder.glob("*.c")]
    includes = [f"-I{folder}" for folder in libraries]
    subprocess.run(
        ["gcc", *STRICT_WARNINGS, "-Wshadow", *includes, "-c", *sources], cwd=tmp_path, check=True, timeout=120
    )
    objects = [f"{Path(source).stem}.o" for source in sources]
    cpp = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", *includes, str(main), *objects]
    subprocess.run([*cpp, "-o", "main"], cwd=tmp_path, check=True, timeout=120)
    assert subprocess.run([str(tmp_path / "main")], timeout=60, check=False).returncode == 0


def test_libraries_of_different_abi_versions_do_not_compile_together(libraries: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.h"
    other.write_text((libraries[1] / "second.h").read_text().replace("ABI_VERSION 1", "ABI_VERSION 2"))
    command = ["gcc", "-std=c11", "-fsyntax-only", "-include", str(other), str(libraries[0] / "first.h")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "different ABI versions" in done.stderr


def test_nothing_of_a_library_can_be_written_to(libraries: list[Path], tmp_path: Path) -> None:
    """No mutable globals: two arenas are two instances, whatever interrupts what."""
    compiler, core = find_compiler("arm-none-eabi-gcc"), CORES["cortex-m4"]
    library = open_library(libraries[0])
    flags = [*core_flags(compiler, core), "-O2", f"-I{library.folder}"]
    for path in compile_objects(compiler, library.sources, tmp_path / "objects", flags):
        with path.open("rb") as file:
            writable = [s for s in ELFFile(file).iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_WRITE]
            assert sum(s["sh_size"] for s in writable) == 0


def test_every_function_says_which_layers_it_computes(libraries: list[Path]) -> None:
    text = (libraries[0] / "first.c").read_text()
    named = [
        int(n) for group in re.findall(r"^/\* \w+: layers? ([\d, ]+)\. \*/$", text, re.M) for n in group.split(", ")
    ]
    assert sorted(named) == [0, 1]
