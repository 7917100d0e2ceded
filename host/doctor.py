"""What this machine has of the tools that Intaglio calls, and the command that installs each that is missing."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from intaglio.host.toolchain import INSTALL, run_tool
from intaglio.quantizer.errors import ToolError

_ASK_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Check:
    """One tool.

    Attributes:
        name: the tool, and what needs it.
        ok: it is there and answers.
        found: its version; None when it is missing or does not answer.
        fix: the command that installs it.
        optional: nothing in `compile`, `build`, `verify` and `simulate` needs it.
    """

    name: str
    ok: bool
    found: str | None
    fix: str
    optional: bool = False


def checks() -> Iterator[Check]:
    """Look for every tool, one after the other; what is optional comes last."""
    arm = _install("arm-none-eabi-gcc")
    yield _check("arm-none-eabi-gcc", arm, _version_of("arm-none-eabi-gcc"))
    yield _check("newlib for Arm (memcpy, memset)", arm, _newlib)
    yield _check("gcc (verify, run, eval on this machine)", _install("gcc"), _version_of("gcc"))
    yield _check("clang (verify)", _install("clang"), _version_of("clang"))
    yield _check("PlatformIO (build)", "pip install 'intaglio[firmware]'", _distribution("platformio"))
    yield _check("SCons (build)", "pip install 'intaglio[firmware]'", _distribution("scons"))
    yield _check("qemu-system-arm (verify, simulate)", _install("qemu-system-arm"), _version_of("qemu-system-arm"))
    yield _check("pyOCD (flash)", "pip install pyocd", _distribution("pyocd"), optional=True)
    yield _check("OpenOCD (flash)", "apt-get install openocd", _version_of("openocd"), optional=True)
    yield _check("ziglang (a second Arm compiler)", _install("zig"), _distribution("ziglang"), optional=True)
    yield _check("renode-test (boards without QEMU)", "https://renode.io", _renode, optional=True)


def _check(name: str, fix: str, ask: Callable[[], str | None], *, optional: bool = False) -> Check:
    found = ask()
    return Check(name, found is not None, found, fix, optional)


def _install(program: str) -> str:
    return INSTALL[program].removeprefix("install it with: ")


def _version_of(program: str) -> Callable[[], str | None]:
    """Asks a program on the PATH for its version: the first line that it prints."""

    def ask() -> str | None:
        path = shutil.which(program)
        if path is None:
            return None
        try:
            done = run_tool([path, "--version"], timeout=_ASK_TIMEOUT_S)
        except ToolError:
            return None
        return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), path)

    return ask


def _newlib() -> str | None:
    """The C library that the cross compiler links: it prints a bare name when it has none."""
    path = shutil.which("arm-none-eabi-gcc")
    if path is None:
        return None
    try:
        printed = run_tool([path, "-mcpu=cortex-m0", "-mthumb", "-print-file-name=libc.a"], timeout=_ASK_TIMEOUT_S)
    except ToolError:
        return None
    library = Path(printed.stdout.strip())
    return str(library.resolve()) if library.is_absolute() and library.is_file() else None


def _renode() -> str | None:
    # `renode-test --version` would start its test runner: that it is there is all that is asked.
    return shutil.which("renode-test")


def _distribution(name: str) -> Callable[[], str | None]:
    """The version of an installed Python distribution."""

    def ask() -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    return ask
