"""The serial line on a pseudo-terminal and on a TCP port at once."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from intaglio.host.sharedline import SharedLine
from intaglio.host.transport import SerialTransport, SocketTransport, Transport

OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, SharedLine]]:
    """The board's end, and the shared line."""
    board, ours = socket.socketpair()
    board.settimeout(20)
    shared = SharedLine(ours)
    with board:
        yield board, shared
    shared.close()


def take(transport: Transport, count: int) -> bytes:
    data, end = b"", time.monotonic() + 20
    while len(data) < count and time.monotonic() < end:
        data += transport.read(0.2)
    return data


def take_from(board: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += board.recv(count - len(data))
    return data


def test_all_hear_and_all_may_speak(line: tuple[socket.socket, SharedLine]) -> None:
    board, shared = line
    everything = bytes(range(256)) * 4
    with contextlib.ExitStack() as stack:
        terminal = SerialTransport(shared.pty_path, 115200)
        first, second = (SocketTransport.connect(shared.address) for _ in range(2))
        for transport in (terminal, first, second):
            stack.callback(transport.close)
            transport.write(everything)
            assert take_from(board, len(everything)) == everything
        board.sendall(everything)
        for transport in (terminal, first, second):
            assert take(transport, len(everything)) == everything


def test_listeners_come_and_go(line: tuple[socket.socket, SharedLine]) -> None:
    board, shared = line
    for turn in range(5):
        with contextlib.closing(SocketTransport.connect(shared.address)) as client:
            client.write(b"%d" % turn)
            assert take_from(board, 1) == b"%d" % turn
        with contextlib.closing(SerialTransport(shared.pty_path, 115200)) as terminal:
            terminal.write(b"t")
            assert take_from(board, 1) == b"t"
        board.sendall(b"nobody listens")
    with contextlib.closing(SocketTransport.connect(shared.address)) as client:
        client.write(b"?")
        assert take_from(board, 1) == b"?"
        board.sendall(b"!")
        assert take(client, 1) == b"!"


def test_who_does_not_read_holds_up_nobody(line: tuple[socket.socket, SharedLine]) -> None:
    board, shared = line
    data = random.Random(4).randbytes(1 << 20)
    with contextlib.closing(SocketTransport.connect(shared.address)) as idle:
        assert idle.read(0.1) == b""
        sender = threading.Thread(target=board.sendall, args=(data,))
        sender.start()
        sender.join(20)
        assert not sender.is_alive()
        idle.write(b"still here")
        assert take_from(board, 10) == b"still here"


def test_a_slow_board_takes_everything_in_order(line: tuple[socket.socket, SharedLine]) -> None:
    board, shared = line
    data = random.Random(5).randbytes(1 << 20)
    with contextlib.closing(SocketTransport.connect(shared.address)) as client:
        sender = threading.Thread(target=client.write, args=(data,))
        sender.start()
        assert take_from(board, len(data)) == data
        sender.join(20)
        assert not sender.is_alive()


def test_it_ends_with_the_board_and_closes_what_it_opened() -> None:
    before = len(list(OPEN_FILES.iterdir()))
    board, ours = socket.socketpair()
    shared = SharedLine(ours)
    board.close()
    shared.close()
    assert len(list(OPEN_FILES.iterdir())) == before
    with pytest.raises(OSError, match=r"refused"):
        socket.create_connection(("127.0.0.1", int(shared.address.rpartition(":")[2])), timeout=5)
