"""The simulator as a process: its lines, its end, and what is said when it cannot start."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from intaglio.boards.board import load_board
from intaglio.host.build import FirmwareImage, build_firmware
from intaglio.host.cli import run
from intaglio.host.client import Client
from intaglio.host.simulate import Simulation
from intaglio.quantizer.errors import LinkError, ToolError

from .conftest import requires_gcc, requires_qemu

pytestmark = [requires_gcc, requires_qemu]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> FirmwareImage:
    return build_firmware([], load_board("mps2_an385"), tmp_path_factory.mktemp("agent"))


def children(pid: int) -> list[int]:
    text = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(word) for word in text.split()]


def gone(pid: int, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def simulate_command(image: FirmwareImage) -> Iterator[tuple[subprocess.Popen[str], str, str, int]]:
    """`intaglio simulate` in a process of its own; its two lines, and the process of QEMU."""
    folder = str(image.elf.parents[2])  # where it is built already
    command = [sys.executable, "-m", "intaglio.host.cli", "simulate", "--board", "mps2_an385", "-o", folder]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        # A shell that runs tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            while "Ctrl-C" not in said:
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else said
                said += line
            address, terminal = re.search(r"socket://\S+", said), re.search(r"/dev/\S+", said)
            assert address is not None
            assert terminal is not None
            (emulator,) = children(process.pid)
            yield process, address[0], terminal[0], emulator
        finally:
            process.kill()


def test_both_lines_lead_to_the_board_and_nothing_outlives_a_kill(image: FirmwareImage) -> None:
    with simulate_command(image) as (process, address, terminal, emulator):
        with Client.open(address) as over_tcp, Client.open(terminal) as over_terminal:
            assert over_tcp.hello.board == over_terminal.hello.board == "mps2_an385"
            assert over_tcp.hello.boot == over_terminal.hello.boot
            assert over_tcp.heartbeat()["up"] < over_terminal.heartbeat()["up"]
        process.send_signal(signal.SIGKILL)
        assert gone(emulator)
        with pytest.raises(LinkError):
            Client.open(address)


def test_ctrl_c_is_the_way_to_end_it(image: FirmwareImage) -> None:
    with simulate_command(image) as (process, _, _, emulator):
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
        assert (process.returncode, error) == (0, ""), out
        assert gone(emulator)


def test_a_simulation_that_is_closed_leaves_nothing(image: FirmwareImage) -> None:
    before = children(os.getpid())
    with Simulation("mps2_an385", image.elf, pty=True) as simulation:
        (emulator,) = set(children(os.getpid())) - set(before)
        assert simulation.pty_path is not None
    assert gone(emulator)
    with pytest.raises(LinkError):
        Client.open(simulation.address)


def test_two_boards_at_once_are_two_boards(image: FirmwareImage) -> None:
    with Simulation("mps2_an385", image.elf) as first, Simulation("mps2_an385", image.elf) as second:
        assert first.address != second.address
        with Client.open(first.address) as one, Client.open(second.address) as other:
            assert one.hello.boot != other.hello.boot


def test_what_cannot_be_simulated(image: FirmwareImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolError, match=r"board rpi_pico: QEMU has no such machine; .*doctor --boards"):
        Simulation("rpi_pico", image.elf).start()
    with pytest.raises(ToolError, match=r"qemu-system-arm: .*not\.elf"):
        Simulation("mps2_an385", tmp_path / "missing" / "not.elf").start()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="qemu-system-arm: not found on the PATH; install it with: apt-get install"):
        Simulation("mps2_an385", image.elf).start()


def test_predicting_without_firmware_says_what_to_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["models", "--port", "sim:microbit"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no firmware" in line
    assert "intaglio build MODEL --board microbit" in line
