"""Flashing without a board: which tool is taken, what it is told, and what is said when nothing is there."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from intaglio.boards.board import Board, board_names, load_board
from intaglio.host import flash as module
from intaglio.host.build import FirmwareImage
from intaglio.host.elfscan import FloatReport
from intaglio.host.flash import flash
from intaglio.quantizer.errors import LinkError, OutputError, ToolError


@pytest.fixture
def image(tmp_path: Path) -> FirmwareImage:
    folder = tmp_path / "with space"
    folder.mkdir()
    hexfile = folder / "firmware.hex"
    hexfile.write_text(":00000001FF\n")
    return FirmwareImage(folder / "firmware.elf", folder / "firmware.bin", hexfile, 0, 0, FloatReport(True, [], 1, 1))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH, no pyOCD, no volumes; returns the folder of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(module, "pyocd_command", lambda: None)
    monkeypatch.setattr(module, "_MOUNT_FOLDERS", (str(tmp_path / "media"),))
    return folder


def put_tool(folder: Path, name: str, body: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


def only(board: str, **program: object) -> Board:
    """A board with one way to flash it."""
    loaded = load_board(board)
    empty = {"pyocd": None, "openocd": (), "volume": None}
    return loaded.model_copy(update={"program": loaded.program.model_copy(update=empty | program)})


def test_a_simulated_board_is_not_flashed(image: FirmwareImage) -> None:
    with pytest.raises(ToolError, match=r"mps2_an385: cannot be flashed.*intaglio simulate"):
        flash(load_board("mps2_an385"), image)


def test_no_tool_names_each_and_its_installation(image: FirmwareImage, tools: Path) -> None:
    with pytest.raises(ToolError, match=r"pip install pyocd.* or OpenOCD \(apt-get install openocd\)"):
        flash(load_board("nrf52840dk"), image)


def test_openocd_is_told_scripts_probe_and_image(image: FirmwareImage, tools: Path, tmp_path: Path) -> None:
    put_tool(tools, "openocd", f'for word in "$@"; do echo "$word"; done > "{tmp_path}/said"')
    assert flash(load_board("bluepill_f103"), image, probe="0123AB") == "OpenOCD"
    said = (tmp_path / "said").read_text().splitlines()
    assert said == [
        *("-f", "interface/stlink.cfg", "-f", "target/stm32f1x.cfg"),
        *("-c", "adapter serial 0123AB", "-c", f"program {{{image.hex}}} verify reset exit"),
    ]


def test_a_failing_tool_is_quoted(image: FirmwareImage, tools: Path) -> None:
    put_tool(tools, "openocd", "echo 'Info : hello'; echo 'Error: flash write failed at 0x08000000' >&2; exit 1")
    with pytest.raises(ToolError, match="OpenOCD: Error: flash write failed at 0x08000000"):
        flash(load_board("bluepill_f103"), image)


@pytest.mark.parametrize("board", [name for name in board_names() if load_board(name).program.openocd])
def test_openocd_without_a_probe(board: str, image: FirmwareImage) -> None:
    """The real tool, up to the point where it looks for the probe."""
    loaded = load_board(board)
    with pytest.raises(LinkError, match=f"^board {board}: OpenOCD finds no probe; plug the board in"):
        flash(only(board, openocd=loaded.program.openocd), image)


@pytest.mark.parametrize("board", [name for name in board_names() if load_board(name).program.pyocd])
def test_pyocd_without_a_probe(board: str, image: FirmwareImage) -> None:
    loaded = load_board(board)
    with pytest.raises(LinkError, match=f"^board {board}: pyOCD finds no probe nothere; plug the board in"):
        flash(only(board, pyocd=loaded.program.pyocd), image, probe="nothere")


def test_volume_absent(image: FirmwareImage, tools: Path) -> None:
    with pytest.raises(LinkError, match="no volume MICROBIT is mounted; plug the board in"):
        flash(only("microbit", volume="MICROBIT"), image)


def test_another_way_is_taken_when_the_first_finds_nothing(image: FirmwareImage, tools: Path, tmp_path: Path) -> None:
    put_tool(tools, "openocd", "echo 'Error: unable to find a matching CMSIS-DAP device' >&2; exit 1")
    volume = tmp_path / "media" / "MICROBIT"
    volume.mkdir(parents=True)
    taker = threading.Thread(target=take_away, args=(volume,))
    taker.start()
    assert flash(load_board("microbit"), image) == str(volume)
    taker.join()
    assert (tmp_path / "taken" / "firmware.hex").read_text() == ":00000001FF\n"


def take_away(volume: Path) -> None:
    """What a probe does: when the file is there, program it, and take the volume away."""
    end = time.monotonic() + 20
    while time.monotonic() < end and not (volume / "firmware.hex").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    volume.rename(volume.parents[1] / "taken")


def test_the_probe_s_verdict_is_passed_on(image: FirmwareImage, tools: Path, tmp_path: Path) -> None:
    volume = tmp_path / "media" / "user" / "MICROBIT"
    volume.mkdir(parents=True)
    (volume / "DETAILS.TXT").write_text("Unique ID: 9900000012344e45\n")

    def refuse() -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end and not (volume / "firmware.hex").exists():
            time.sleep(0.01)
        (volume / "FAIL.TXT").write_text("error: The hex file cannot be decoded.\r\n")

    board = only("microbit", volume="MICROBIT")
    with pytest.raises(LinkError, match="no volume"):
        flash(board, image, probe="another")
    refuser = threading.Thread(target=refuse)
    refuser.start()
    with pytest.raises(OutputError, match="the probe refused the image: error: The hex file cannot be decoded"):
        flash(board, image, probe="9900000012344e45")
    refuser.join()
