"""The mock board: the agent's own sources on a HAL of standard input and output, built with the sanitizers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from intaglio.host.protocol import CODEC_FLAGS, generate_codec
from intaglio.host.transport import SocketTransport

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "firmware" / "agent"
HAL = ROOT / "firmware" / "hal"
BOARD = Path(__file__).with_name("board")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror", "-pedantic")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


def agent_sources() -> list[Path]:
    return sorted(AGENT.glob("*.c"))


def include_flags(codec: Path) -> list[str]:
    return [f"-I{AGENT}", f"-I{HAL}", "-isystem", str(codec), *CODEC_FLAGS]


def require(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        pytest.fail(f"{tool} is missing: apt-get install gcc clang gcc-arm-none-eabi")
    return path


def compile_c(
    compiler: str, sources: list[Path], codec: Path, out: Path, *flags: str, extra: Sequence[Path] = ()
) -> Path:
    """One executable of `sources` under the project's warnings, linked with the codec and `extra`, compiled
    without them."""
    objects = []
    common = [require(compiler), "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-g", "-O1", *flags]
    out.parent.mkdir(parents=True, exist_ok=True)
    for source in (*sources, *extra, *sorted(codec.glob("*.c"))):
        ours = source in sources
        target = out.with_name(f"{out.name}.{source.stem}.o")
        command = [*common, *(WARNINGS if ours else ()), *include_flags(codec), "-c", str(source), "-o", str(target)]
        run(command)
        objects.append(str(target))
    run([*common, *objects, "-o", str(out)])
    return out


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done


class MockBoard:
    """A running board; `reboot` starts it anew on the same line, as a reset does."""

    def __init__(self, program: Path, **environment: str) -> None:
        self._program = program
        self._environment = {**os.environ, "MOCK_ID": "mock-1", **environment}
        self.host, self._device = socket.socketpair()
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [str(self._program)],
            stdin=self._device,
            stdout=self._device,
            stderr=subprocess.PIPE,
            env=self._environment,
        )

    def transport(self) -> SocketTransport:
        """A fresh end of the line; closing it leaves the board running."""
        return SocketTransport(self.host.dup(), "mock")

    def reboot(self, **environment: str) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)
        self._environment |= environment
        self._start()

    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the board; a report of the sanitizers fails the test."""
        self._device.close()
        self.host.close()
        _, report = self._process.communicate(timeout=10)
        assert self._process.returncode == 0, report.decode()


def abi_template() -> str:
    return (files("intaglio.codegen") / "templates" / "abi.h.j2").read_text(encoding="utf-8")


@cache
def codec_in(folder: Path) -> Path:
    generate_codec(folder)
    return folder
