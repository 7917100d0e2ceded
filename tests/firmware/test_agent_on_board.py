"""The agent on simulated boards: nothing lost while a model runs, resets, faults, the watchdog."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.boards.board import Board, load_board
from intaglio.host import protocol
from intaglio.host.build import FirmwareImage, build_firmware
from intaglio.host.client import Client
from intaglio.host.framing import FrameReader, encode_frame
from intaglio.host.session import RestartedError
from intaglio.host.simulate import Simulation
from intaglio.host.transport import SocketTransport, Transport

from .conftest import requires_gcc, requires_qemu

sys.path.append(str(Path(__file__).parents[1] / "measure"))

from tiny import write_tiny

pytestmark = [requires_gcc, requires_qemu]

# The first input byte says what invoke does beside computing.
FAULT, HANG, LONG = 1, 2, 3
# The low bits of EXC_RETURN when an exception interrupted another one (ARM DDI 0403, B1.5.8).
HANDLER_MODE = 0x1
HELPERS = """
static void __attribute__((noinline)) misbehave(int8_t how)
{
    if (how == 1) {
        __asm__ volatile(".globl tiny_fault\\ntiny_fault: udf #0");
    }
    while (how == 2) {
        __asm__ volatile("" ::: "memory");
    }
    if (how == 3) {
        for (int32_t i = 0; i < 4000000; i++) {
            __asm__ volatile("" ::: "memory");
        }
    }
}
"""

Build = Callable[[Board], FirmwareImage]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds firmware with the model that misbehaves on request, once a board."""
    library = write_tiny(
        tmp_path_factory.mktemp("tiny"), helpers=HELPERS, extra="misbehave(((const int8_t *)arena)[4]);"
    )
    images: dict[str, FirmwareImage] = {}

    def once(board: Board) -> FirmwareImage:
        key = board.model_dump_json()
        if key not in images:
            images[key] = build_firmware([library], board, tmp_path_factory.mktemp(board.name))
        return images[key]

    return once


@contextlib.contextmanager
def running(board: Board, image: FirmwareImage) -> Iterator[tuple[Simulation, SocketTransport]]:
    """The board, which runs from when the line is there: its boot event is not missed."""
    with Simulation(board, image.elf, paused=True) as simulation:
        line = SocketTransport.connect(simulation.address)
        with contextlib.closing(line):
            simulation.resume()
            yield simulation, line


def sample(how: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    x = np.zeros((1, 8), np.int8)
    x[0, 0] = how
    return x


class Unclosed:
    """The line, which outlives the clients on it: QEMU's port takes one connection at a time."""

    def __init__(self, line: Transport) -> None:
        self.name, self.read, self.write = line.name, line.read, line.write

    def close(self) -> None:
        """The line stays."""


def fault_of(client: Client) -> dict[str, Any]:
    """The fields of the fault event; it may have come before or behind the answer to hello."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for event in client.events:
            if event.name == "fault event":
                return event.fields
        client.listen(0.2)
    raise AssertionError(f"no fault event among {list(client.events)}")


def symbol(image: FirmwareImage, name: str) -> int:
    from elftools.elf.elffile import ELFFile

    with image.elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return int(table.get_symbol_by_name(name)[0]["st_value"]) & ~1


@pytest.mark.parametrize("name", ["microbit", "mps2_an385", "netduinoplus2"])
def test_requests_that_fill_the_window_during_a_prediction_are_all_answered(name: str, build: Build) -> None:
    board = load_board(name)
    with running(board, build(board)) as (_, line):
        Client(Unclosed(line), tries=30).close()
        reader, answers = FrameReader(), []
        request = {"model": 0, "off": 0, "data": sample(LONG).tobytes(), "capture": False}
        line.write(encode_frame(protocol.pack_request(protocol.PREDICT, 100, request)))
        time.sleep(0.1)
        # The prediction is running, or runs before any of these is read: they have to fit.
        burst, count = b"", 0
        while True:
            frame = encode_frame(protocol.pack_request(protocol.TIME_GET, (101 + count) % 256, {}))
            if len(burst) + len(frame) > board.serial.rx_window:
                break
            burst += frame
            count += 1
        line.write(burst)
        end = time.monotonic() + 60
        while len(answers) < count + 1 and time.monotonic() < end:
            for message in reader.feed(line.read(0.2)):
                header, _ = protocol.unpack(message)
                if header.op != protocol.Op.WRITE:
                    answers.append(header.sequence)
        assert answers == [(100 + i) % 256 for i in range(count + 1)]
        assert count > board.serial.rx_window // 20
        with contextlib.closing(Client(Unclosed(line))) as client:
            beat = client.heartbeat()
        assert (beat["lost"], beat["bad"], beat["oversize"]) == (0, 0, 0)


@pytest.mark.parametrize("name", ["microbit", "mps2_an385"])
def test_a_reset_begins_another_boot(name: str, build: Build) -> None:
    board = load_board(name)
    with running(board, build(board)) as (simulation, line):
        with contextlib.closing(Client(Unclosed(line), tries=30)) as client:
            before = client.hello.boot
            assert [event.name for event in client.events] == ["boot event"]
            client.predict(0, [sample(0)], capture=True)
            assert client.ring.status()["pending"] == 1
            simulation.reset()
            with pytest.raises(RestartedError, match="the device restarted meanwhile"):
                for _ in range(50):
                    client.heartbeat()
                    time.sleep(0.1)
        with contextlib.closing(Client(Unclosed(line), tries=30)) as client:
            assert client.hello.boot != before
            assert client.heartbeat()["faults"] == 0
            assert client.ring.status()["pending"] == 0


@pytest.mark.parametrize("name", ["microbit", "lm3s6965evb", "netduinoplus2"])
def test_bytes_from_before_a_reset_do_not_deafen_the_line(name: str, build: Build) -> None:
    board = load_board(name)
    with running(board, build(board)) as (simulation, line):
        with contextlib.closing(Client(Unclosed(line), tries=30)) as client:
            before = client.hello.boot
        simulation.pause()
        line.write(bytes(range(1, 33)))
        time.sleep(0.3)
        simulation.reset()
        simulation.resume()
        with contextlib.closing(Client(Unclosed(line), tries=30)) as client:
            assert client.hello.boot != before


@pytest.mark.parametrize("name", ["microbit", "mps2_an385", "netduinoplus2", "mps3_an547"])
def test_a_fault_in_a_model_is_an_event_of_the_next_boot(name: str, build: Build) -> None:
    board = load_board(name)
    image = build(board)
    with running(board, image) as (_, line):
        with (
            contextlib.closing(Client(Unclosed(line), tries=30)) as client,
            pytest.raises(RestartedError),
        ):
            client.predict(0, [sample(FAULT)])
        with contextlib.closing(Client(Unclosed(line), tries=30)) as client:
            fault = fault_of(client)
            assert protocol.FAULT_KINDS[fault["kind"]] == "hard fault"
            assert fault["registers"][protocol.FAULT_REGISTERS.index("pc")] == symbol(image, "tiny_fault")
            assert client.heartbeat()["faults"] == 1
            assert client.predict(0, [sample(0)]).outputs[0].shape == (1, 3)


@pytest.mark.parametrize("name", ["mps2_an385", "lm3s6965evb"])
def test_a_model_that_hangs_is_ended_by_the_watchdog(name: str, build: Build) -> None:
    board = load_board(name)
    hasty = board.model_copy(update={"watchdog": board.watchdog.model_copy(update={"period_ms": 2000})})
    image = build(hasty)
    with running(hasty, image) as (_, line):
        # The warning may come while the tick's handler runs; the frame is the model's in thread mode alone.
        for _ in range(5):
            with (
                contextlib.closing(Client(Unclosed(line), tries=30)) as client,
                pytest.raises(RestartedError),
            ):
                client.predict(0, [sample(HANG)])
            with contextlib.closing(Client(Unclosed(line), tries=30)) as client:
                fault = fault_of(client)
            assert protocol.FAULT_KINDS[fault["kind"]] == "watchdog"
            registers = dict(zip(protocol.FAULT_REGISTERS, fault["registers"], strict=False))
            if registers["exc_return"] & 0xF != HANDLER_MODE:
                break
        start = symbol(image, "misbehave")
        assert start <= registers["pc"] < start + 64
