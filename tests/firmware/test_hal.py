"""The drivers of every QEMU board, by a program on the HAL alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from intaglio.boards import Board, load_board
from intaglio.host.build import FirmwareImage

from .conftest import QEMU_BOARDS, requires_gcc, requires_qemu, running

pytestmark = [requires_gcc, requires_qemu]

Build = Callable[[Board], FirmwareImage]
HARD, WATCHDOG, PANIC = 1, 2, 3


@pytest.mark.parametrize("name", QEMU_BOARDS)
def test_a_whole_window_is_kept_while_the_core_computes_and_what_overruns_it_is_counted(
    name: str, probe_image: Build
) -> None:
    board = load_board(name)
    window = board.serial.rx_window
    data = random.Random(1).randbytes(window + 77)
    with running(board, probe_image(board)) as (_, probe):
        assert probe.answer()["kind"] == 0
        probe.send(b"B" + bytes([77]))
        assert probe.take(5) == b"busy\n"
        probe.send(data)
        assert probe.take(window) == data[:window]
        assert probe.answer() == {"echoed": window, "lost": 77}


@pytest.mark.parametrize("name", QEMU_BOARDS)
@pytest.mark.parametrize("icount", [False, True])
def test_a_stream_is_echoed_without_loss_and_the_core_sleeps_between(
    name: str, icount: bool, probe_image: Build
) -> None:
    board = load_board(name)
    data = random.Random(3).randbytes(16 * 256)
    with running(board, probe_image(board), icount=icount) as (_, probe):
        probe.answer()
        probe.send(b"E\x10")
        echoed = b""
        for start in range(0, len(data), 200):  # within the smallest window
            probe.send(data[start : start + 200])
            echoed += probe.take(len(data[start : start + 200]))
        assert echoed == data
        assert probe.answer() == {"lost": 0}


@pytest.mark.parametrize("name", QEMU_BOARDS)
@pytest.mark.parametrize("icount", [False, True])
def test_time_never_goes_back_and_passes_in_sleep(name: str, icount: bool, probe_image: Build) -> None:
    board = load_board(name)
    with running(board, probe_image(board), icount=icount) as (_, probe):
        probe.answer()
        answer = probe.ask(b"T")
        assert answer["backwards"] == 0
        assert answer["high"] == 0
        # Three ticks of 10 ms, the first of them begun already; more when the emulator's host was busy.
        assert answer["idled"] > 15_000


@pytest.mark.parametrize("name", QEMU_BOARDS)
def test_a_fault_is_reported_once_at_the_next_boot(name: str, probe_image: Build) -> None:
    board = load_board(name)
    image = probe_image(board)
    with running(board, image) as (_, probe):
        assert probe.answer()["kind"] == 0
        probe.send(b"F")
        report = probe.answer()
        assert report["kind"] == HARD
        assert report["pc"] == _symbol(image, "planted_fault")
        ram = board.memory.ram
        assert ram.origin < report["sp"] <= ram.origin + ram.length
        assert report["again"] == 0
        probe.send(b"R")
        assert probe.answer()["kind"] == 0


@pytest.mark.parametrize("name", QEMU_BOARDS)
def test_a_stack_overflow_faults_before_it_overwrites_anything(name: str, probe_image: Build) -> None:
    board = load_board(name)
    with running(board, probe_image(board)) as (_, probe):
        probe.answer()
        probe.send(b"S")
        assert probe.answer()["kind"] == HARD


@pytest.mark.parametrize("name", ["microbit", "mps2_an385"])
def test_a_panic_names_its_caller(name: str, probe_image: Build) -> None:
    board = load_board(name)
    image = probe_image(board)
    with running(board, image) as (_, probe):
        probe.answer()
        report = probe.ask(b"P")
        assert report["kind"] == PANIC
        assert _symbol(image, "main") < report["pc"] < _symbol(image, "main") + 0x1000


@pytest.mark.parametrize("name", ["lm3s6965evb", "mps2_an385", "mps3_an547"])  # warned by interrupt, and by NMI
def test_a_watchdog_that_nothing_feeds_resets_and_says_so(name: str, probe_image: Build) -> None:
    board = load_board(name)
    hasty = board.model_copy(update={"watchdog": board.watchdog.model_copy(update={"period_ms": 1000})})
    with running(hasty, probe_image(hasty)) as (_, probe):
        probe.answer()
        # Fed while it computes for 200 ms and sleeps: no reset.
        assert "backwards" in probe.ask(b"T")
        probe.send(b"W")
        assert probe.answer()["kind"] == WATCHDOG


@pytest.mark.parametrize("name", QEMU_BOARDS)
def test_the_unique_id_is_cut_to_the_room_and_the_stack_peak_is_plausible(name: str, probe_image: Build) -> None:
    board = load_board(name)
    length = board.unique_id.length if board.unique_id else 0
    with running(board, probe_image(board)) as (_, probe):
        probe.answer()
        answer = probe.ask(b"I")
        assert answer["id"] == length
        assert answer["short"] == min(3, length)
        assert 64 < answer["stack"] <= board.stack_bytes


def _symbol(image: FirmwareImage, name: str) -> int:
    from elftools.elf.elffile import ELFFile

    with image.elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return int(table.get_symbol_by_name(name)[0]["st_value"]) & ~1
