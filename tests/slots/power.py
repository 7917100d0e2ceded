"""Cuts the power of a simulated nRF51 at one of its flash operations, which QEMU's gdb server finds by watchpoints.

An operation is a write to the flash, or one to ERASEPAGE of its controller (nRF51 Series Reference Manual v3.0, 7.1).
QEMU stops the core right before it. A cut leaves it done, or torn: of a word some bits that should be 0 are still 1; a
page holds what it held, with more ones.
"""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

from intaglio.host.simulate import Monitor, Simulation

ERASEPAGE = 0x4001_E508
_TIMEOUT = 60.0


class Power:
    """The power of a running board.

    Args:
        simulation: the board; it has flash from `origin` to `end` that the agent programs.

    Attributes:
        operations: flash operations since `arm`, or since the last cut.
        erased: addresses of the pages erased, or about to be, over all times that it was armed.
    """

    def __init__(self, simulation: Simulation, origin: int, end: int, page: int) -> None:
        self.operations = 0
        self.erased: list[int] = []
        self._simulation = simulation
        self._origin, self._end, self._page = origin, end, page
        folder = simulation._folder
        assert folder is not None
        path = Path(folder.name) / "gdb"
        with Monitor(Path(folder.name) / "qmp", simulation._alive) as monitor:
            line = f"gdbserver unix:{path},server=on,wait=off"
            monitor.command("human-monitor-command", **{"command-line": line})
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._line.settimeout(_TIMEOUT)
        self._line.connect(str(path))
        self._seen = b""
        self._thread: threading.Thread | None = None
        self._made = 0
        self._disarmed = threading.Event()
        self._over = threading.Event()
        # The core stops because of the connection, and QEMU may say so by itself: what it says to a question that has
        # one answer only comes behind that.
        self._send("qAttached")
        while self._answer() not in ("0", "1"):
            pass
        self._resume()

    def close(self) -> None:
        self._line.close()

    def poke(self, address: int, data: bytes) -> None:
        """Change what the flash holds behind the agent's back."""
        self._interrupt()
        self._write(address, data)
        self._resume()

    def arm(self, *cuts: tuple[int, int | None]) -> None:
        """Cut the power at certain operations.

        Args:
            cuts: for each the number of the operation, counted from 1 since `arm` or the cut before it, and the seed of
                how the operation is torn; None leaves it done. No cuts: operations are counted only.
        """
        self._interrupt()
        self._watch("Z")
        self.operations = self._made = 0
        self._disarmed.clear()
        self._over.clear()
        self._resume()
        self._thread = threading.Thread(target=self._follow, args=(cuts,), daemon=True)
        self._thread.start()

    def disarm(self) -> int:
        """Leave the power on, once what was to be cut has ended; returns the cuts made since `arm`."""
        assert self._thread is not None
        if not self._over.is_set():
            self._disarmed.set()
            self._line.sendall(b"\x03")
        self._thread.join(_TIMEOUT)
        assert not self._thread.is_alive()
        self._thread = None
        return self._made

    def _follow(self, cuts: tuple[tuple[int, int | None], ...]) -> None:
        while True:
            stop = self._answer()
            if "watch:" not in stop:
                assert self._disarmed.is_set(), stop
                self._watch("z")
                self._resume()
                return
            self.operations += 1
            number, seed = cuts[self._made] if cuts else (0, None)
            self._watch("z")
            if f"watch:{ERASEPAGE:x};" in stop:
                self.erased.append(self._store()[1])
            if self.operations == number and seed is not None:
                self._tear(random.Random(seed))
            else:
                self._ask("s")
            if self.operations == number:
                self._made += 1
                self.operations = 0
                if self._made == len(cuts):
                    self._over.set()
                self._simulation.reset()
            if not self._over.is_set():
                self._watch("Z")
            self._resume()
            if self._over.is_set():
                return

    def _tear(self, chance: random.Random) -> None:
        address, value = self._store()
        if address != ERASEPAGE:
            self._write(address, (value | chance.getrandbits(32)).to_bytes(4, "little"))
            return
        held = self._read(value, self._page)
        self._write(value, bytes(byte | chance.getrandbits(8) & chance.getrandbits(8) for byte in held))

    def _store(self) -> tuple[int, int]:
        """Address and value of the store that comes next (ARM DDI 0419, A5.2)."""
        data = bytes.fromhex(self._ask("g"))
        r = [int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(16)]
        code = int.from_bytes(self._read(r[15], 2), "little")
        if code >> 11 == 0b01100:  # STR Rt, [Rn, #imm5 * 4]
            return r[code >> 3 & 7] + 4 * (code >> 6 & 31), r[code & 7]
        assert code >> 9 == 0b0101000, f"{code:04x} at {r[15]:#x} is no store of a word"
        return r[code >> 3 & 7] + r[code >> 6 & 7], r[code & 7]

    def _watch(self, letter: str) -> None:
        for address, length in ((self._origin, self._end - self._origin), (ERASEPAGE, 4)):
            assert self._ask(f"{letter}2,{address:x},{length:x}") == "OK"

    def _interrupt(self) -> None:
        self._line.sendall(b"\x03")
        self._answer()

    def _resume(self) -> None:
        self._send("c")

    def _read(self, address: int, length: int) -> bytes:
        return b"".join(
            bytes.fromhex(self._ask(f"m{at:x},{min(1024, address + length - at):x}"))
            for at in range(address, address + length, 1024)
        )

    def _write(self, address: int, data: bytes) -> None:
        for at in range(0, len(data), 1024):
            piece = data[at : at + 1024]
            assert self._ask(f"M{address + at:x},{len(piece):x}:{piece.hex()}") == "OK"

    # The remote serial protocol of GDB (its manual, appendix E).

    def _ask(self, text: str) -> str:
        self._send(text)
        return self._answer()

    def _send(self, text: str) -> None:
        self._line.sendall(f"${text}#{sum(text.encode()) % 256:02x}".encode())

    def _answer(self) -> str:
        while True:
            start, end = self._seen.find(b"$"), self._seen.find(b"#")
            if 0 <= start < end and len(self._seen) >= end + 3:
                text, self._seen = self._seen[start + 1 : end].decode(), self._seen[end + 3 :]
                self._line.sendall(b"+")
                return text
            try:
                data = self._line.recv(65536)
            except TimeoutError:
                if self._thread is threading.current_thread() and not self._disarmed.is_set():
                    continue  # nothing happens to the flash
                raise
            assert data, "QEMU's gdb server has gone"
            self._seen += data
