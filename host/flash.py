"""Write firmware into a board's flash: with pyOCD, with OpenOCD, or by copying it to the probe's volume.

A board names the ways that it can be flashed; the first whose tool is here and that finds the board is taken.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from intaglio.boards.board import Board
from intaglio.host.build import FirmwareImage
from intaglio.host.toolchain import run_tool
from intaglio.quantizer.errors import LinkError, OutputError, ToolError

FLASH_TIMEOUT_S = 300.0
SETTLE_S = 5.0

_MOUNT_FOLDERS = ("/media", "/run/media", "/Volumes", "/mnt")

# What the tools say when there is nothing to talk to.
_NO_PROBE = re.compile(
    r"No connected debug probes|No target device available|unable to find a matching|no device found|"
    r"No J-Link device found|open failed|unable to open ftdi|no probes? (?:found|matching)",
    re.IGNORECASE,
)


class _AbsentError(LinkError):
    """This way cannot be taken here; another may."""


def flash(board: Board, image: FirmwareImage, probe: str | None = None) -> str:
    """Write an image, verify it, reset the board.

    Args:
        probe: serial number of the probe, where several are plugged in.

    Returns:
        What did it: "pyOCD", "OpenOCD" or the path of the volume.

    Raises:
        ToolError: the board names no way to flash it, no tool for any is installed, or the tool failed.
        LinkError: a tool is here, the board is not: no probe found, volume absent.
        OutputError: the volume cannot be written, or the probe refused what was copied.
    """
    absences: list[_AbsentError] = []
    for way in ways_to_flash(board):
        try:
            return way(board, image, probe)
        except _AbsentError as absence:
            absences.append(absence)
    tried = ", ".join(absence.what for absence in absences)
    raise LinkError(f"board {board.name}", tried, "plug the board in, and close what holds its probe")


def ways_to_flash(board: Board) -> list[Callable[[Board, FirmwareImage, str | None], str]]:
    """What can flash a board from this machine, in the order in which it is tried.

    Raises:
        ToolError: the board names no way to flash it, or no tool for any is installed.
    """
    ways: list[Callable[[Board, FirmwareImage, str | None], str]] = []
    missing: list[str] = []
    if board.program.pyocd is not None:
        if pyocd_command():
            ways.append(_with_pyocd)
        else:
            missing.append("pyOCD (pip install pyocd)")
    if board.program.openocd:
        if shutil.which("openocd"):
            ways.append(_with_openocd)
        else:
            missing.append("OpenOCD (apt-get install openocd)")
    if board.program.volume is not None:
        ways.append(_by_volume)
    if not ways and not missing:
        raise ToolError(f"board {board.name}", "cannot be flashed: it exists in simulators", "use `intaglio simulate`")
    if not ways:
        raise ToolError(f"board {board.name}", "no tool to flash it is installed", f"install {' or '.join(missing)}")
    return ways


def pyocd_command() -> list[str] | None:
    """How pyOCD is called here; None when it is not installed."""
    if importlib.util.find_spec("pyocd") is not None:
        return [sys.executable, "-m", "pyocd"]
    program = shutil.which("pyocd")
    return [program] if program else None


def _with_pyocd(board: Board, image: FirmwareImage, probe: str | None) -> str:
    command = pyocd_command()
    assert command is not None and board.program.pyocd is not None
    arguments = ["load", "--no-wait", "--target", board.program.pyocd]
    if probe is not None:
        arguments += ["--uid", probe]
    _run([*command, *arguments, str(image.hex)], "pyOCD", probe)
    return "pyOCD"


def _with_openocd(board: Board, image: FirmwareImage, probe: str | None) -> str:
    program = shutil.which("openocd")
    assert program is not None
    command = [program]
    for script in board.program.openocd:
        command += ["-f", script]
    if probe is not None:
        command += ["-c", f"adapter serial {probe}"]
    # Braces keep Tcl from reading the path.
    _run([*command, "-c", f"program {{{image.hex}}} verify reset exit"], "OpenOCD", probe)
    return "OpenOCD"


def _run(command: list[str], name: str, probe: str | None) -> None:
    done = run_tool(command, timeout=FLASH_TIMEOUT_S, allow_failure=True)
    if done.returncode == 0:
        return
    said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    if any(_NO_PROBE.search(line) for line in said):
        which = "no probe" if probe is None else f"no probe {probe}"
        raise _AbsentError(name, f"{name} finds {which}", "plug the board in")
    wrong = [line for line in said if re.search(r"\berror\b| E | C |failed", line, re.IGNORECASE)]
    text = (wrong or said or [f"exit status {done.returncode}"])[0]
    raise ToolError(name, text[:300], "the command was: " + " ".join(command))


def _by_volume(board: Board, image: FirmwareImage, probe: str | None) -> str:
    """Copy the image to the probe's volume, as DAPLink offers one (its FAIL.TXT says what went wrong)."""
    label = board.program.volume
    assert label is not None
    volume = next((path for path in volumes(label) if probe is None or _belongs_to(path, probe)), None)
    if volume is None:
        raise _AbsentError(label, f"no volume {label} is mounted", "plug the board in and mount it")
    verdict = volume / "FAIL.TXT"
    before = _text(verdict)
    try:
        with (volume / "firmware.hex").open("wb") as target:
            target.write(image.hex.read_bytes())
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise OutputError(str(volume), f"cannot be written ({error.strerror})", "plug the board in again") from None
    # The probe takes its volume away when it has programmed the chip, and comes back with its verdict.
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end and volume.exists():
        failure = _text(verdict)
        if failure is not None and failure != before:
            raise OutputError(str(volume), f"the probe refused the image: {failure}", "flash it with pyOCD")
        time.sleep(0.05)
    return str(volume)


def volumes(label: str) -> Iterator[Path]:
    """Mounted volumes of that label: on Linux below /media, /run/media and /mnt, on macOS below /Volumes."""
    for folder in map(Path, _MOUNT_FOLDERS):
        for path in (folder / label, *sorted(folder.glob(f"*/{label}"))):
            if path.is_dir():
                yield path


def _belongs_to(volume: Path, probe: str) -> bool:
    return probe in (_text(volume / "DETAILS.TXT") or "")


def _text(path: Path) -> str | None:
    try:
        return " ".join(path.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return None
