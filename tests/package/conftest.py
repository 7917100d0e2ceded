"""A package of the digits model for the micro:bit, made once, and the key that signed it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from intaglio.boards import load_board
from intaglio.codegen.compile import Compiled
from intaglio.host.keys import SigningKey, load_signing_key, new_key
from intaglio.host.lineage import lineage
from intaglio.host.package import Package
from intaglio.host.packager import make_package
from intaglio.host.sizing import add_sizes, temporary_library
from intaglio.quantizer.pipeline import Options

DIGITS = Path(__file__).parents[2] / "docs" / "examples" / "digits"
MODEL = DIGITS / "digits.onnx"
OPTIONS = Options(data=DIGITS / "digits_calibration.npz")
BOARD = "microbit"


@dataclass(frozen=True)
class Made:
    """What went into the package: the library, its sizes and the key."""

    compiled: Compiled
    key: SigningKey

    def package(self, version: str = "1.2.0", counter: int = 3, key: SigningKey | None = None) -> Package:
        return make_package(
            self.compiled.folder,
            self.compiled.manifest,
            BOARD,
            version,
            key or self.key,
            counter,
            lineage(MODEL, self.compiled.graph, OPTIONS),
        )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The digits model compiled for the micro:bit."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi")
    folder = tmp_path_factory.mktemp("keys")
    new_key("release", folder)
    core = load_board(BOARD).core
    with temporary_library(MODEL, core, None, OPTIONS, BOARD) as compiled:
        yield Made(add_sizes(compiled, core, BOARD), load_signing_key("release", folder))


@pytest.fixture(scope="session")
def package(made: Made) -> Package:
    return made.package()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a port of this machine where nothing listens."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
