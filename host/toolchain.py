"""Find and call the C compilers: GCC for Arm and for the host, Clang for the host, Clang from `ziglang`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from intaglio.boards.cores import Core
from intaglio.host.files import NO_ROOM
from intaglio.quantizer.errors import MissingToolError, ToolError

STRICT_WARNINGS = (
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wdouble-promotion",
    "-pedantic",
    "-Werror",
)

INSTALL = {
    "arm-none-eabi-gcc": "install it with: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "gcc": "install it with: apt-get install gcc",
    "clang": "install it with: apt-get install clang",
    "zig": "install it with: pip install ziglang",
    "qemu-system-arm": "install it with: apt-get install qemu-system-arm",
}

COMPILE_TIMEOUT_S = 300.0

# The line that says what is wrong, among those that say where.
_COMPLAINT = re.compile(r"\berror: |\bError: |undefined reference|multiple definition|will not fit|overflowed by")


@dataclass(frozen=True)
class Compiler:
    """A C compiler driver: the words that start its command line and the name used in messages."""

    name: str
    command: tuple[str, ...]


def find_program(name: str) -> str:
    """Path of a program.

    Raises:
        MissingToolError: it is not on the PATH; the hint is the command that installs it.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(name, "not found on the PATH", INSTALL.get(name, "install it"))
    return path


def find_compiler(name: str) -> Compiler:
    """The compiler called `arm-none-eabi-gcc`, `gcc`, `clang` or `zig`.

    Raises:
        MissingToolError: it is missing.
    """
    if name == "zig":
        if importlib.util.find_spec("ziglang") is None:
            raise MissingToolError(name, "the ziglang package is missing", INSTALL[name])
        return Compiler(name, (sys.executable, "-m", "ziglang", "cc"))
    return Compiler(name, (find_program(name),))


def core_flags(compiler: Compiler, core: Core) -> tuple[str, ...]:
    """What selects `core` for a cross compiler.

    Raises:
        ToolError: the compiler has no Arm target.
    """
    if compiler.name == "arm-none-eabi-gcc":
        return core.cflags
    if compiler.name == "zig":
        return ("-target", "thumb-freestanding-eabi", f"-mcpu={core.zig_cpu}")
    raise ToolError(compiler.name, f"cannot compile for {core.name}", "use arm-none-eabi-gcc or zig")


def run_tool(
    command: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    allow_failure: bool = False,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; it dies with its time-out and with this process.

    Args:
        timeout: seconds.
        allow_failure: leave a non-zero exit status to the caller.
        env: set beside the variables of this process.

    Raises:
        ToolError: it cannot start, runs out of time or, unless `allow_failure`, exits non-zero.
    """
    name = Path(command[0]).name
    keeper = shutil.which("setpriv")
    prefix = (keeper, "--pdeathsig", "KILL") if keeper else ()
    try:
        done = subprocess.run(
            [*prefix, *command],
            cwd=cwd,
            timeout=timeout,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        late = f"still running after {timeout:g} s"
        raise ToolError(name, late, "raise the time-out or use fewer samples") from None
    except OSError as error:
        hint = INSTALL.get(name, "check that it is installed")
        raise ToolError(name, f"cannot start: {error.strerror}", hint) from None
    if done.returncode != 0 and not allow_failure:
        complaint = _first_complaint(done)
        full = "No space left on device" in complaint
        raise ToolError(name, complaint, NO_ROOM if full else "the command was: " + " ".join(map(str, command)))
    return done


def _first_complaint(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    marked = [line for line in lines if _COMPLAINT.search(line)]
    text = (marked or lines or ["no message"])[0]
    return f"exit status {done.returncode}: {text[:400]}"


def compile_objects(
    compiler: Compiler,
    sources: Sequence[Path],
    out: Path,
    flags: Sequence[str],
    *,
    timeout: float = COMPILE_TIMEOUT_S,
) -> list[Path]:
    """Compile each source to an object in `out`, as many at a time as there are processors.

    Returns:
        The objects in the order of the sources.

    Raises:
        ToolError: a source does not compile; the message is the compiler's first error.
    """
    out.mkdir(parents=True, exist_ok=True)

    def build(source: Path) -> Path:
        target = out / f"{source.stem}.o"
        # In `out`, so that what the compiler leaves beside an object (.su, .ci) lands there.
        command = [*compiler.command, *flags, "-c", str(source.resolve()), "-o", str(target.resolve())]
        run_tool(command, timeout=timeout, cwd=out)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(build, sources))


def link(
    compiler: Compiler,
    objects: Sequence[Path],
    output: Path,
    flags: Sequence[str],
    *,
    timeout: float = COMPILE_TIMEOUT_S,
) -> Path:
    """Link objects to `output`.

    Raises:
        ToolError: the link fails; the message is the linker's first error.
    """
    run_tool([*compiler.command, *map(str, objects), "-o", str(output), *flags], timeout=timeout, cwd=output.parent)
    return output


def cache_folder() -> Path:
    """Where built helpers are kept: `$XDG_CACHE_HOME/intaglio`, else `~/.cache/intaglio`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "intaglio"
