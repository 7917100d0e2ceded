"""Every board's firmware, built by PlatformIO: the bare agent, where the chip looks for it, without float."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from intaglio.boards.board import board_names, load_board
from intaglio.host.build import build_firmware

USUAL = ("microbit", "nucleo_l073rz", "bluepill_f103", "nrf52840dk", "nucleo_h753zi", "mps2_an505", "mps3_an547")

pytestmark = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc: apt-get install gcc-arm-none-eabi"
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in USUAL else [pytest.mark.slow]) for name in board_names()]
)
def test_the_bare_agent(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    image = build_firmware([], board, tmp_path)

    assert image.float_report.clean, image.float_report.findings
    assert image.flash_bytes <= min(board.flash_bytes, 12 * 1024)
    assert image.ram_bytes <= board.ram_bytes

    origin = board.memory.flash.origin
    vectors = origin + (board.boot.length if board.boot else 0)
    with image.elf.open("rb") as file:
        elf = ELFFile(file)
        sections = {section.name: section for section in elf.iter_sections()}
        assert sections[".vectors"]["sh_addr"] == vectors
        table = sections[".vectors"].data()
        stack, reset = (int.from_bytes(table[at : at + 4], "little") for at in (0, 4))
        assert reset == elf["e_entry"]
        assert reset & 1, "Thumb"
        ram = board.memory.ram
        assert ram.origin < stack <= ram.origin + ram.length
        assert stack % 8 == 0
        loaded = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
        assert min(s["p_paddr"] for s in loaded) == origin
        end = max(s["p_paddr"] + s["p_filesz"] for s in loaded)
        assert end <= origin + board.flash_bytes

    binary = image.bin.read_bytes()
    assert len(binary) == end - origin
    assert binary[vectors - origin :][: len(table)] == table
    assert lowest_address(image.hex) == origin


def lowest_address(path: Path) -> int:
    """The first address that an Intel HEX file writes; its checksums are checked."""
    base, lowest = 0, 1 << 32
    for line in path.read_text().splitlines():
        record = bytes.fromhex(line.removeprefix(":"))
        assert sum(record) % 256 == 0, line
        kind, data = record[3], record[4:-1]
        if kind == 4:
            base = int.from_bytes(data, "big") << 16
        elif kind == 2:
            base = int.from_bytes(data, "big") << 4
        elif kind == 0:
            lowest = min(lowest, base + int.from_bytes(record[1:3], "big"))
    return lowest


def crc_of_the_boot_rom(data: bytes) -> int:
    """RP2040 data sheet, 2.8.1.3.1, bit by bit."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C1_1DB7 if crc & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return crc


def test_the_second_stage_carries_the_checksum_that_the_boot_rom_wants(tmp_path: Path) -> None:
    assert crc_of_the_boot_rom(b"123456789") == 0x0376_E6E7  # the published check value
    image = build_firmware([], load_board("rpi_pico"), tmp_path)
    binary = image.bin.read_bytes()
    stage, checksum = binary[:252], int.from_bytes(binary[252:256], "little")
    assert crc_of_the_boot_rom(stage) == checksum
    assert stage.rstrip(b"\0"), "there is code in it"
    # Building again, with nothing to do, leaves it sealed.
    assert build_firmware([], load_board("rpi_pico"), tmp_path).bin.read_bytes() == binary
