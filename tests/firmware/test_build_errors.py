"""What a firmware build refuses, and in what words; builds by PlatformIO alone and side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from intaglio.boards import board_names, load_board
from intaglio.host.build import FIRMWARE, build_firmware
from intaglio.host.platformio import provide_scons
from intaglio.quantizer.errors import DoesNotFitError, IntaglioError, OutputError, ToolError

from .conftest import requires_gcc

pytestmark = requires_gcc

ADDER = """\
#include "adder.h"
void adder_reset(void *arena) { (void)arena; }
void *adder_input(void *arena, int index) { (void)index; return arena; }
int adder_invoke(void *arena) {
    int8_t *x = arena;
    x[0] = (int8_t)(@BODY@);
    return 0;
}
const void *adder_output(const void *arena, int index) { (void)index; return arena; }
static const int32_t shape[1] = {1};
static const struct intaglio_tensor tensor = {"x", shape, 1, 0, 0, INTAGLIO_INT8, 1};
const struct intaglio_model adder_model = {
    .abi_version = INTAGLIO_ABI_VERSION, .arena_bytes = ADDER_ARENA_BYTES, .input_count = 1, .output_count = 1,
    .name = "adder", .inputs = &tensor, .outputs = &tensor, .reset = adder_reset, .input = adder_input,
    .invoke = adder_invoke, .output = adder_output,
};
"""


@pytest.fixture
def library(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Writes a library like those of the code generator, with its one expression and arena size."""
    from intaglio.host.protocol import generate_codec

    def write(body: str = "x[0] + x[1]", arena: int = 16, table: int = 0) -> Path:
        folder = tmp_path / "adder"
        folder.mkdir(exist_ok=True)
        abi = next(p for p in generate_codec(tmp_path / "codec") if p.name == "intaglio_abi.h").read_text()
        declarations = "extern const struct intaglio_model adder_model;\n"
        (folder / "adder.h").write_text(
            f"#ifndef ADDER_H\n#define ADDER_H\n#include <stdint.h>\n{abi}\n"
            f"#define ADDER_ARENA_BYTES {arena}\n{declarations}void adder_reset(void *arena);\n"
            "void *adder_input(void *arena, int index);\nint adder_invoke(void *arena);\n"
            "const void *adder_output(const void *arena, int index);\n#endif\n"
        )
        weights = f"static const int8_t weights[{table}] = {{1}};\n" if table else ""
        text = ADDER.replace("@BODY@", body).replace('#include "adder.h"\n', f'#include "adder.h"\n{weights}')
        (folder / "adder.c").write_text(text)
        (folder / "adder.json").write_text('{"cflags": ["-O2"], "stack_bytes": 64}')
        return folder

    return write


def test_a_library_is_linked_and_found_free_of_float(library, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    image = build_firmware([library()], load_board("microbit"), tmp_path / "out")
    assert image.float_report.clean
    assert b"adder\0" in image.bin.read_bytes()


@pytest.mark.parametrize(
    ("board", "body"),
    [
        ("microbit", "(float)x[0] * 1.5f"),
        ("mps3_an547", "(int)((float)x[0] + (float)x[1])"),
        pytest.param("mps2_an386", "(double)x[0] / (double)x[1]", marks=pytest.mark.slow),
        pytest.param("microbit", "(double)x[0] / (double)x[1]", marks=pytest.mark.slow),
        pytest.param("mps3_an547", "(double)x[0] / (double)x[1]", marks=pytest.mark.slow),
    ],
)
def test_float_in_a_library_does_not_link(library, board: str, body: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ToolError, match=r"computes in floating point: it wants __\w+"):
        build_firmware([library(body)], load_board(board), tmp_path / "out")


def test_more_ram_than_there_is_says_by_how_much(library, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    board = load_board("microbit")
    fits = build_firmware([library(arena=8)], board, tmp_path / "small")
    beyond = board.ram_bytes - fits.ram_bytes + 8 + 800
    with pytest.raises(DoesNotFitError, match=r"needs 800 bytes of RAM more than the board has"):
        build_firmware([library(arena=beyond)], board, tmp_path / "out")


def test_more_flash_than_there_is_says_by_how_much(library, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    board = load_board("bluepill_f103")
    with pytest.raises(DoesNotFitError, match=r"needs [\d,]+ bytes of flash more than the board has.*adder"):
        build_firmware([library("x[0] + weights[(uint8_t)x[1] * 256]", table=65536)], board, tmp_path / "out")


def test_a_warning_in_a_library_fails_the_build_with_its_line(library, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ToolError, match=r"adder\.c:\d+:\d+: error: unused variable") as caught:
        folder = library()
        (folder / "adder.c").write_text((folder / "adder.c").read_text() + "void f(void);\nvoid f(void) { int i; }\n")
        build_firmware([folder], load_board("microbit"), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_two_models_of_one_name_are_refused(library, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = library()
    other = shutil.copytree(folder, tmp_path / "second" / "adder")
    with pytest.raises(ToolError, match="two libraries have one name"):
        build_firmware([folder, other], load_board("microbit"), tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        build_firmware([], load_board("microbit"), tmp_path / "file" / "out")


def test_no_compiler_names_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IntaglioError, match="apt-get install gcc-arm-none-eabi"):
        build_firmware([], load_board("microbit"), tmp_path / "out")


def test_builds_side_by_side_do_not_meet(tmp_path: Path) -> None:
    names = ("microbit", "stm32vldiscovery")
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda n: build_firmware([], load_board(n), tmp_path / n), names))
    for name, image in zip(names, images, strict=True):
        assert name.encode() in image.bin.read_bytes()
        assert image.elf.is_relative_to(tmp_path / name)


def test_an_unchanged_build_compiles_nothing(tmp_path: Path) -> None:
    board = load_board("microbit")
    first = build_firmware([], board, tmp_path)
    made = first.elf.stat().st_mtime_ns
    again = build_firmware([], board, tmp_path)
    assert again.elf.stat().st_mtime_ns == made


def test_platformio_alone_builds_the_same_program(library, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = library()
    board = load_board("nucleo_l073rz")
    ours = build_firmware([folder], board, tmp_path / "ours")
    provide_scons(tmp_path / "core")
    environment = os.environ | {
        "INTAGLIO_BOARD": board.name,
        "INTAGLIO_LIBRARIES": str(folder),
        "PLATFORMIO_CORE_DIR": str(tmp_path / "core"),
        "PLATFORMIO_WORKSPACE_DIR": str(tmp_path / "workspace"),
    }
    command = [sys.executable, "-m", "platformio", "run", "-s", "-d", str(FIRMWARE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "workspace" / "build" / "board" / "firmware.bin").read_bytes() == ours.bin.read_bytes()
    assert sorted(path.name for path in (tmp_path / "workspace" / "boards").iterdir()) == [f"{board.name}.json"]


def test_platformio_lists_every_board(tmp_path: Path) -> None:
    script = (
        "import sys; from platformio.project.config import ProjectConfig\n"
        "from platformio.platform.factory import PlatformFactory\n"
        "print(*PlatformFactory.new(sys.argv[1]).get_boards())"
    )
    environment = os.environ | {"PLATFORMIO_CORE_DIR": str(tmp_path), "PLATFORMIO_BOARDS_DIR": str(tmp_path / "boards")}
    boards = str(FIRMWARE.parent / "boards")
    done = subprocess.run(
        [sys.executable, "-c", script, boards], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert sorted(done.stdout.split()) == list(board_names())


def test_no_slots_gives_the_program_what_the_slots_take(library, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    board = load_board("microbit")
    large = [library(body="weights[x[0] & 3] + x[1]", table=board.program_flash.length)]
    with pytest.raises(
        DoesNotFitError, match=r"needs [\d,]+ bytes of flash more.*--no-slots to have the 151,552 bytes"
    ):
        build_firmware(large, board, tmp_path / "slots")
    image = build_firmware(large, board.without_slots(), tmp_path / "out")
    assert image.flash_bytes > board.program_flash.length
