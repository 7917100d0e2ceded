"""Firmware built once a run, and a board that runs it in QEMU."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from intaglio.boards import Board, board_names, load_board
from intaglio.host.build import FirmwareImage, build_firmware
from intaglio.host.simulate import Simulation
from intaglio.host.transport import Transport, open_transport

PROBE = Path(__file__).with_name("probe.c")
QEMU_BOARDS = [name for name in board_names() if load_board(name).simulators.qemu is not None]

requires_gcc = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc: apt-get install gcc-arm-none-eabi"
)
requires_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None, reason="qemu-system-arm: apt-get install qemu-system-arm"
)


class Probe:
    """The probe program on a line: commands of one letter, answers in lines `word name=hex ...`."""

    def __init__(self, line: Transport) -> None:
        self.line = line
        self._seen = b""

    def send(self, data: bytes) -> None:
        self.line.write(data)

    def take(self, count: int, seconds: float = 20.0) -> bytes:
        """The next `count` bytes."""
        self._until(lambda: len(self._seen) >= count, seconds)
        data, self._seen = self._seen[:count], self._seen[count:]
        return data

    def answer(self, seconds: float = 20.0) -> dict[str, int]:
        """The numbers of the next line."""
        self._until(lambda: b"\n" in self._seen, seconds)
        line, _, self._seen = self._seen.partition(b"\n")
        return {name.decode(): int(value, 16) for name, value in re.findall(rb"(\w+)=([0-9a-f]{8})", line)}

    def ask(self, command: bytes) -> dict[str, int]:
        self.send(command)
        return self.answer()

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        waited = 0.0
        while not done():
            more = self.line.read(0.1)
            self._seen += more
            waited += 0.0 if more else 0.1
            assert waited < seconds, f"nothing more after {self._seen!r}"


@pytest.fixture(scope="session")
def probe_image(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Board], FirmwareImage]:
    """Builds the probe program for a board, once."""
    images: dict[str, FirmwareImage] = {}

    def build(board: Board) -> FirmwareImage:
        key = board.model_dump_json()
        if key not in images:
            images[key] = build_firmware([], board, tmp_path_factory.mktemp(board.name), program=[PROBE])
        return images[key]

    return build


@contextlib.contextmanager
def running(board: Board, image: FirmwareImage, *, icount: bool = False) -> Iterator[tuple[Simulation, Probe]]:
    """The board in QEMU, and the probe on its serial line, which is there before the board runs."""
    with Simulation(board, image.elf, icount=icount, paused=True) as simulation:
        line = open_transport(simulation.address)
        with contextlib.closing(line):
            simulation.resume()
            yield simulation, Probe(line)
