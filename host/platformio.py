"""Run PlatformIO offline: what it would download is satisfied by what is installed."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

from intaglio.host.toolchain import run_tool
from intaglio.quantizer.errors import ToolError

_SCONS = """\
import sys
from SCons.Script import main
sys.exit(main())
"""


def scons_version() -> str:
    """The version of tool-scons that the installed PlatformIO asks for."""
    from platformio.dependencies import get_core_dependencies

    wanted = str(get_core_dependencies()["tool-scons"])
    return re.sub(r"[^0-9.]", "", wanted.split(",")[0])


def provide_scons(core_dir: Path) -> None:
    """Make the SCons that pip installed PlatformIO's package `tool-scons`."""
    package = core_dir / "packages" / "tool-scons"
    if (package / ".piopm").exists():
        return
    version = scons_version()
    facts = {"name": "tool-scons", "version": version, "description": "SCons as installed beside PlatformIO"}
    package.mkdir(parents=True, exist_ok=True)
    (package / "package.json").write_text(json.dumps(facts), encoding="utf-8")
    (package / "scons.py").write_text(_SCONS, encoding="utf-8")
    spec = {"owner": "platformio", "id": None, "name": "tool-scons", "requirements": None, "uri": None}
    marker = {"type": "tool", "name": "tool-scons", "version": version, "spec": spec}
    (package / ".piopm").write_text(json.dumps(marker), encoding="utf-8")


def run_platformio(project: Path, out: Path, board: str, timeout: float = 600.0) -> Path:
    """Build a project's environment `board`.

    Args:
        project: folder of platformio.ini.
        out: for everything that PlatformIO writes; `boards/BOARD.json` lies in it.

    Returns:
        The folder with firmware.elf, .bin and .hex.

    Raises:
        ToolError: PlatformIO is not installed, runs out of time, or the build failed (the message is the line of its
            output that says most).
    """
    if importlib.util.find_spec("platformio") is None or importlib.util.find_spec("SCons") is None:
        raise ToolError("PlatformIO", "is not installed", "pip install 'intaglio[firmware]'")
    core_dir = out / "core"
    provide_scons(core_dir)
    environment = {
        "INTAGLIO_BOARD": board,
        "PLATFORMIO_CORE_DIR": str(core_dir),
        "PLATFORMIO_WORKSPACE_DIR": str(out / "workspace"),
        "PLATFORMIO_BUILD_DIR": str(out / "build"),
        "PLATFORMIO_BOARDS_DIR": str(out / "boards"),
        "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "No",
        "PLATFORMIO_SETTING_CHECK_PLATFORMIO_INTERVAL": "10000",
        "PLATFORMIO_NO_ANSI": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "platformio", "run", "-s", "-d", str(project), "-e", "board"]
    done = run_tool(command, timeout=timeout, env=environment, allow_failure=True)
    if done.returncode != 0:
        raise ToolError("PlatformIO", _first_error(done.stdout + done.stderr), "correct that and build again")
    return out / "build" / "board"


_COMPLAINTS = (r"overflowed by", r"undefined reference", r"\berror\b|will not fit", r"error")


def _first_error(text: str) -> str:
    """The line that says most: what the linker says last of a region is by how much it overflows."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern in _COMPLAINTS:
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return line[:400]
    return (lines or ["failed without a message"])[0][:400]
