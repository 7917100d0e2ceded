"""The drivers under Clang, with the warnings of the build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intaglio.boards import board_names, load_board
from intaglio.host.build import FIRMWARE, plan_firmware
from intaglio.host.toolchain import STRICT_WARNINGS, core_flags, find_compiler, run_tool

from .conftest import requires_gcc

pytest.importorskip("ziglang", reason="pip install ziglang")
pytestmark = requires_gcc

# Between them they have every driver, every architecture and every option of startup.c.
BOARDS = (
    "microbit",
    "stm32f072b_discovery",
    "nrf52840dk",
    "stm32f4_discovery",
    "lm3s6965evb",
    "mps2_an385",
    "mps3_an547",
    "rpi_pico",
)


@pytest.mark.parametrize("name", BOARDS)
def test_clang_has_nothing_to_say_of_the_hal(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    plan = json.loads(plan_firmware([], board, tmp_path).read_text(encoding="utf-8"))
    clang = find_compiler("zig")
    flags = [*core_flags(clang, board.core), *STRICT_WARNINGS, "-Os", "-ffreestanding", f"-I{tmp_path / 'generated'}"]
    sources = [path for path in map(Path, plan["groups"][0]["sources"]) if path.parent.name in ("hal", "boot")]
    assert len(sources) >= 6
    for source in sources:
        output = str(tmp_path / f"{source.stem}.o")
        run_tool([*clang.command, *flags, f"-I{FIRMWARE / 'hal'}", "-c", str(source), "-o", output], timeout=120)


def test_these_boards_have_every_driver() -> None:
    def drivers(names: tuple[str, ...]) -> set[str]:
        boards = [load_board(name) for name in names]
        flash = {b.slots.driver for b in boards if b.slots is not None}
        return flash | {driver for b in boards for driver in (b.serial.driver, b.time.driver, b.watchdog.driver)}

    assert drivers(BOARDS) == drivers(board_names())
