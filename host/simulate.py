"""Start a board's firmware in its simulator, with its serial line on a socket and, if wanted, a pseudo-terminal."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from intaglio.boards.board import Board, load_board
from intaglio.host.sharedline import SharedLine
from intaglio.host.toolchain import find_program
from intaglio.quantizer.errors import ToolError

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """In the child: be killed when the process that started the simulator dies, however it dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Simulation:
    """A running board; a context manager.

    Args:
        board: the board, or its name.
        elf: its firmware; the newest one under build/firmware/BOARD when not given.
        icount: tie the board's time to the instructions it executes, about one a clock cycle, so that runs repeat;
            the time in which it sleeps is skipped, so its clock runs ahead of the host's.
        pty: offer the serial line as a pseudo-terminal beside the socket, and the socket to several at once.
        paused: do not run before `resume`, so that whoever connects first misses nothing.

    Attributes:
        address: `socket://127.0.0.1:PORT`, once started.
        pty_path: of the pseudo-terminal; None without.
        instruction_ns: with `icount`, the board's nanoseconds that pass with an instruction: the power of two
            nearest to a cycle of its clock.
    """

    def __init__(
        self,
        board: Board | str,
        elf: Path | None = None,
        *,
        icount: bool = False,
        pty: bool = False,
        paused: bool = False,
    ) -> None:
        self.board = load_board(board) if isinstance(board, str) else board
        self.elf = elf or newest_elf(self.board.name)
        self.address = ""
        self.pty_path: str | None = None
        self._shift = max(0, round(math.log2(1e9 / self.board.clock.hz)))
        self.instruction_ns = 1 << self._shift
        self._icount = icount
        self._pty = pty
        self._shared: SharedLine | None = None
        self._paused = paused
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Simulation:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> str:
        """Start the simulator; return the address of the serial line.

        Raises:
            ToolError: QEMU is not installed, knows no such machine, or ends at once.
        """
        program, machine = find_simulator(self.board)
        self._folder = tempfile.TemporaryDirectory(prefix="intaglio-sim-")
        monitor = Path(self._folder.name) / "qmp"
        command = [
            program,
            "-M",
            machine,
            "-display",
            "none",
            "-monitor",
            "none",
            "-kernel",
            str(self.elf),
            "-qmp",
            f"unix:{monitor},server=on,wait=off",
            "-chardev",
            "socket,id=line,host=127.0.0.1,port=0,server=on,wait=off,nodelay=on,ipv4=on",
            "-serial",
            "chardev:line",
        ]
        if self._icount:
            command += ["-icount", f"shift={self._shift},sleep=off"]
        if self._paused:
            command += ["-S"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
            start_new_session=True,
        )
        try:
            self._find_lines(monitor)
        except BaseException:
            self.close()
            raise
        return self.address

    def _find_lines(self, monitor: Path) -> None:
        """Ask QEMU where it put the serial line; share it if that is wanted."""
        with Monitor(monitor, self._alive) as qmp:
            for device in qmp.command("query-chardev"):
                if device["label"] != "line":
                    continue
                port = re.search(r"127\.0\.0\.1:(\d+)", str(device["filename"]))
                if port:
                    self.address = f"socket://127.0.0.1:{port[1]}"
        if not self.address:
            raise ToolError("qemu-system-arm", "did not say where the serial line is", "report this")
        if self._pty:
            host, _, number = self.address.removeprefix("socket://").partition(":")
            self._shared = SharedLine(socket.create_connection((host, int(number)), timeout=10))
            self.address, self.pty_path = self._shared.address, self._shared.pty_path

    def _alive(self) -> None:
        """Raise when the simulator has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            text = self._process.stdout.read().decode(errors="replace") if self._process.stdout else ""
            first = next((line for line in text.splitlines() if line.strip()), "ended at once")
            raise ToolError("qemu-system-arm", first.removeprefix("qemu-system-arm: "), "try another board")

    def reset(self) -> None:
        """Reset the board as its reset line would; flash keeps what it holds."""
        self._command("system_reset")

    def pause(self) -> None:
        """Stop the board's clock; its serial line goes on taking bytes until its FIFO is full."""
        self._command("stop")

    def resume(self) -> None:
        """Let a board run that was paused, or started so."""
        self._command("cont")

    def _command(self, name: str) -> None:
        assert self._folder is not None
        with Monitor(Path(self._folder.name) / "qmp", self._alive) as qmp:
            qmp.command(name)

    def wait(self) -> None:
        """Return when the simulator ends."""
        if self._process is not None:
            self._process.wait()

    def close(self) -> None:
        """End the simulator."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.close()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class Monitor:
    """A connection to QEMU's machine protocol (QMP).

    Args:
        path: of its Unix socket.
        alive: raises when QEMU has ended.
    """

    def __init__(self, path: Path, alive: Any, timeout: float = 20.0) -> None:
        end = time.monotonic() + timeout
        while True:
            alive()
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(timeout)
            try:
                self._socket.connect(os.fspath(path))
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > end:
                    raise ToolError("qemu-system-arm", "does not answer", "run the command again") from None
                time.sleep(0.02)
        self._alive = alive
        self._lines = self._socket.makefile("rw", encoding="utf-8")
        self._receive()
        self.command("qmp_capabilities")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._lines.close()
        self._socket.close()

    def command(self, name: str, **arguments: Any) -> Any:
        """Execute a command and return its value.

        Raises:
            ToolError: QEMU refuses it.
        """
        with contextlib.suppress(ConnectionError):
            self._lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
            self._lines.flush()
        while True:
            answer = self._receive()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise ToolError("qemu-system-arm", str(answer["error"].get("desc", name)), "report this")

    def _receive(self) -> dict[str, Any]:
        """The next message; when QEMU ends instead, the reason that it gave."""
        try:
            if line := self._lines.readline():
                message: dict[str, Any] = json.loads(line)
                return message
        except TimeoutError:
            raise ToolError("qemu-system-arm", "does not answer", "run the command again") from None
        except ConnectionError:
            pass
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            self._alive()
            time.sleep(0.02)
        raise ToolError("qemu-system-arm", "closed its monitor", "run the command again")


def find_simulator(board: Board) -> tuple[str, str]:
    """The program that simulates a board, and the name of the machine there.

    Raises:
        ToolError: QEMU does not simulate it.
        MissingToolError: QEMU is not installed.
    """
    if board.simulators.qemu is None:
        raise ToolError(f"board {board.name}", "QEMU has no such machine", "`intaglio doctor --boards` lists what has")
    return find_program("qemu-system-arm"), board.simulators.qemu.machine


def newest_elf(board: str) -> Path:
    """The firmware that `intaglio build --board BOARD` made last in this folder.

    Raises:
        ToolError: there is none.
    """
    found = sorted((Path("build") / "firmware" / board).rglob("firmware.elf"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise ToolError(f"sim:{board}", "no firmware was built here", f"intaglio build MODEL --board {board}")
    return found[-1]
