"""The line to a device at its worst, from the command line: one line on standard error, exit status 1, no hanging."""

from __future__ import annotations

import os
import pty
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from asking import TEST, fails

from intaglio.host.client import Client
from intaglio.host.transport import open_transport

PATIENCE = 0.1


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are repeated every 0.1 s instead of every second."""
    defaults = Client.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "timeout", PATIENCE)


@contextmanager
def line(device: Callable[[int], None]) -> Iterator[str]:
    """A serial port with `device` at its other end, given the file descriptor; it ends when the line does."""
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    thread = threading.Thread(target=device, args=(master,))
    thread.start()
    try:
        yield name
    finally:
        os.close(slave)
        with suppress(OSError):
            os.close(master)
        thread.join()


def commands(port: str, folder: Path) -> list[list[str]]:
    """Every command that speaks to a device."""
    return [
        ["models", "--port", port],
        ["describe", "--port", port],
        ["predict", "--port", port, "--samples", TEST, "--store", str(folder / "captures.db")],
        ["capture", "--port", port, "--store", str(folder / "captures.db")],
    ]


def test_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with line(lambda master: None) as port:
        for arguments in commands(port, tmp_path):
            fails(capsys, arguments, "no answer; check the port and the cable, and flash the board")
    assert list(tmp_path.iterdir()) == []


def test_garbage_as_of_a_wrong_baud_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(2)

    def babble(master: int) -> None:
        with suppress(OSError):
            while True:
                os.read(master, 1)
                os.write(master, rng.randbytes(3))

    with line(babble) as port:
        for arguments in commands(port, tmp_path):
            fails(capsys, [*arguments, "--baud", "9600"], r"\d+ bytes arrived, but no message in them; check --baud")
    assert list(tmp_path.iterdir()) == []


def test_a_busy_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with line(lambda master: None) as port:
        held = open_transport(port)
        for arguments in commands(port, tmp_path):
            fails(capsys, arguments, "the port is busy; close the program that holds it")
        held.close()
    assert list(tmp_path.iterdir()) == []


def test_unplugged_while_it_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def unplug(master: int) -> None:
        os.read(master, 1)
        os.close(master)

    with line(unplug) as port:
        fails(capsys, commands(port, tmp_path)[3], "the line broke.*plug the board in again")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for port, pattern in (
        (str(tmp_path / "ttyNONE"), "no such port; `intaglio devices` lists the ports"),
        ("socket://127.0.0.1:9", "cannot connect: connection refused"),
        ("sim:microbitt", "no such board; did you mean microbit"),
        (str(tmp_path), "cannot be opened"),
    ):
        for arguments in commands(port, tmp_path):
            fails(capsys, arguments, pattern)
    fails(capsys, ["models", "--port", "socket://nowhere"], "socket://HOST:PORT", status=2)
    assert list(tmp_path.iterdir()) == []
