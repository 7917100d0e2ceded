"""Byte streams to a device: a serial port, a TCP socket, a simulated board."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import select
import socket
import time
from pathlib import Path
from typing import Any, Protocol

from intaglio.quantizer.errors import LinkError, UsageError

READ_BYTES = 65536
_SLICE = 0.02  # seconds; pyserial reconfigures the port when its time-out changes, so that stays


class Transport(Protocol):
    """What the client needs of a line.

    `name` stands in error messages. `read` returns what has arrived, waiting at most `timeout` seconds for the
    first byte; b"" when none came. `read` and `write` raise LinkError when the line is gone.
    """

    name: str

    def read(self, timeout: float) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


def open_transport(port: str, baud: int = 115200) -> Transport:
    """Opens the line to a device.

    Args:
        port: `/dev/tty...`, `COM3`, `socket://host:port`, or another URL that pyserial knows (`rfc2217://...`).
            `sim:BOARD` starts the board in the simulator with the image that `intaglio build` made last in
            `build/firmware/BOARD`, `sim:BOARD:ELF` with the one given; `close` ends it.
        baud: bits per second, 8N1; of no meaning to a socket.

    Raises:
        LinkError: the port is missing, busy or not permitted; nobody listens; the simulator does not start.
        UsageError: a malformed URL.
    """
    if port.startswith("sim:"):
        return _open_simulation(port)
    if port.startswith("socket://"):
        return SocketTransport.connect(port)
    return SerialTransport(port, baud)


class SerialTransport:
    """A serial port, held exclusively."""

    def __init__(self, port: str, baud: int) -> None:
        import serial

        self.name = port
        # On Windows a port is exclusive without being asked to.
        options: dict[str, Any] = {"exclusive": True} if os.name == "posix" and "://" not in port else {}
        try:
            self._serial = serial.serial_for_url(port, baudrate=baud, timeout=_SLICE, write_timeout=10, **options)
            # What the driver has kept belongs to another conversation.
            self._serial.reset_input_buffer()
        except ValueError as error:
            raise UsageError(port, f"cannot be opened at {baud} baud: {error}", "check --port and --baud") from None
        except _line_errors() as error:
            raise _open_error(port, error) from None

    def read(self, timeout: float) -> bytes:
        end = time.monotonic() + timeout
        with self._unplugged():
            while True:
                first: bytes = self._serial.read(1)
                if first:
                    return first + bytes(self._serial.read(self._serial.in_waiting))
                if time.monotonic() >= end:
                    return b""

    def write(self, data: bytes) -> None:
        with self._unplugged():
            self._serial.write(data)
            self._serial.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._serial.close()

    @contextlib.contextmanager
    def _unplugged(self) -> Any:
        try:
            yield
        except _line_errors() as error:
            raise _gone(self.name, error) from None


class SocketTransport:
    """A connected stream socket.

    Attributes:
        owned: closed after the socket; what runs at the other end.
    """

    def __init__(self, connected: socket.socket, name: str) -> None:
        self.name = name
        self.owned = contextlib.ExitStack()
        self._socket = connected
        connected.setblocking(True)
        if connected.family in (socket.AF_INET, socket.AF_INET6):
            # Requests are small and each waits for its answer: do not collect them.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def connect(cls, url: str) -> SocketTransport:
        """Connects to `socket://host:port`."""
        host, _, port = url.removeprefix("socket://").rstrip("/").rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise UsageError(url, "not of the form socket://HOST:PORT", "for example socket://127.0.0.1:5555")
        try:
            return cls(socket.create_connection((host.strip("[]"), int(port)), timeout=5), url)
        except OSError as error:
            hint = "start the simulator or server that listens there"
            raise LinkError(url, f"cannot connect: {_reason(error)}", hint) from None

    def read(self, timeout: float) -> bytes:
        try:
            if not select.select([self._socket], [], [], max(timeout, 0.0))[0]:
                return b""
            data = self._socket.recv(READ_BYTES)
        except (OSError, ValueError) as error:
            raise _gone(self.name, error) from None
        if not data:
            raise _gone(self.name, None)
        return data

    def write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise _gone(self.name, error) from None

    def close(self) -> None:
        self._socket.close()
        self.owned.close()


def _line_errors() -> tuple[type[Exception], ...]:
    """What pyserial lets through besides its SerialException, which is an OSError: TypeError of a port that was
    closed under it, and that of termios, which Windows does not have."""
    try:
        import termios
    except ImportError:
        return (OSError, TypeError)
    return (OSError, TypeError, termios.error)


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower().rstrip(".")


def _gone(name: str, error: BaseException | None) -> LinkError:
    why = "the other side closed the connection" if error is None else _reason(error)
    return LinkError(name, f"the line broke: {why}", "plug the board in again, or restart the simulator")


def _open_error(port: str, error: Exception) -> LinkError:
    number = getattr(error, "errno", None)
    text = str(error)
    if number == errno.ENOENT or "FileNotFoundError" in text or "No such file" in text:
        return LinkError(port, "there is no such port", "`intaglio devices` lists the ports")
    if number in (errno.EACCES, errno.EPERM) and "lock" not in text:
        return LinkError(
            port, "permission denied", "join the group that owns it, often dialout: sudo usermod -aG dialout $USER"
        )
    busy = number in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK) or "lock" in text or "Access is denied" in text
    if busy:
        return LinkError(port, "the port is busy", "close the program that holds it (a terminal, another intaglio)")
    return LinkError(port, f"cannot be opened: {_reason(error)}", "`intaglio devices` lists the ports")


def _open_simulation(port: str) -> Transport:
    name, _, given = port.removeprefix("sim:").partition(":")
    # By name, since this module may not depend on what the simulator depends on.
    board = importlib.import_module("intaglio.boards.board").load_board(name)
    elf = Path(given) if given else _built_for(name, port)
    if not elf.is_file():
        raise LinkError(port, f"there is no {elf}", f"`intaglio build MODEL --board {name}`")
    with contextlib.ExitStack() as stack:
        simulate = importlib.import_module("intaglio.host.simulate")
        simulation = stack.enter_context(simulate.Simulation(board, elf))
        line = SocketTransport.connect(simulation.address)
        line.name, line.owned = port, stack.pop_all()
        return line


def _built_for(board: str, port: str) -> Path:
    """The newest image in the folder that `intaglio build` writes to."""
    folder = Path("build") / "firmware" / board
    images = sorted(folder.rglob("*.elf"), key=lambda path: path.stat().st_mtime)
    if not images:
        raise LinkError(port, f"no firmware in {folder}", f"`intaglio build MODEL --board {board}`")
    return images[-1]
