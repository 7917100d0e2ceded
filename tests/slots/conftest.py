"""Firmware that trusts a key, and packages for its slots, each made once a run."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from intaglio.boards.board import Board, load_board
from intaglio.codegen.compile import Compiled
from intaglio.host.build import FirmwareImage, build_firmware
from intaglio.host.client import Client
from intaglio.host.keys import SigningKey, load_signing_key, new_key
from intaglio.host.package import CDDL, SIGNED_PREFIX, Package
from intaglio.host.packager import make_package
from intaglio.host.schema import load_schema
from intaglio.host.simulate import Simulation
from intaglio.host.sizing import add_sizes, temporary_library
from intaglio.host.transport import SocketTransport, Transport
from intaglio.quantizer.pipeline import Options
from intaglio.quantizer.reference import Evaluator, Mode

sys.path.append(str(Path(__file__).parents[1] / "measure"))

from tiny import write_tiny

DIGITS = Path(__file__).parents[2] / "docs" / "examples" / "digits"
OPTIONS = Options(data=DIGITS / "digits_calibration.npz")
BOARDS = ("microbit", "mps2_an385")


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is missing: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm")


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    folder = tmp_path_factory.mktemp("keys")
    new_key("release", folder)
    return load_signing_key("release", folder)


@pytest.fixture(scope="session")
def firmware(key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FirmwareImage]:
    """Builds an agent that trusts the key, without compiled-in models."""
    made: dict[str, FirmwareImage] = {}

    def build(name: str) -> FirmwareImage:
        if name not in made:
            made[name] = build_firmware([], load_board(name), tmp_path_factory.mktemp(name), trust=[key.public])
        return made[name]

    return build


Packager = Callable[..., Package]


class Models:
    """A model file, compiled once for each core and packaged at will."""

    def __init__(self, model: Path, options: Options, key: SigningKey, stack: contextlib.ExitStack) -> None:
        self._model, self._options, self._key, self._stack = model, options, key, stack
        self._compiled: dict[str, Compiled] = {}

    def compiled(self, board: str) -> Compiled:
        core = load_board(board).core
        if core.name not in self._compiled:
            library = self._stack.enter_context(temporary_library(self._model, core, None, self._options, board))
            self._compiled[core.name] = add_sizes(library, core, board)
        return self._compiled[core.name]

    def package(
        self, board: str, version: str = "1.0.0", counter: int = 1, signer: SigningKey | None = None
    ) -> Package:
        library = self.compiled(board)
        return make_package(library.folder, library.manifest, board, version, signer or self._key, counter, {})

    def reference(self, board: str, x: Any) -> Any:
        """The first output of the integer evaluator."""
        graph = self.compiled(board).graph
        return Evaluator(graph, Mode.INTEGER).run([x])[graph.outputs[0]]


@pytest.fixture(scope="session")
def digits(key: SigningKey) -> Iterator[Models]:
    with contextlib.ExitStack() as stack:
        yield Models(DIGITS / "digits.onnx", OPTIONS, key, stack)


@pytest.fixture(scope="session")
def tiny(key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Packager:
    """Packages a model that counts its calls, which is its state."""

    def package(board: str, version: str = "1.0.0", counter: int = 0) -> Package:
        folder = write_tiny(tmp_path_factory.mktemp("tiny"))
        facts = {
            "core": load_board(board).core.name,
            "stack_bytes": 128,
            "contract": "exact",
            "arena_bytes": 24,
            "state_bytes": 4,
            "digest": "00" * 32,
            **dict.fromkeys(("inputs", "outputs", "layers", "macs", "live_macs", "flash_bytes"), 0),
        }
        return make_package(folder, facts, board, version, key, counter, {})

    return package


def signed_again(package: Package, key: SigningKey, **changes: Any) -> Package:
    """The package with other fields in its manifest, signed by a key that the device trusts."""
    schema = load_schema(CDDL)
    fields = schema.decode("manifest-map", package.signed) | changes
    signed = schema.encode("manifest-map", fields)
    return replace(package, signed=signed, signature=key.sign(SIGNED_PREFIX + signed))


class Unclosed:
    """The line, which outlives the clients on it: QEMU's port takes one connection at a time."""

    def __init__(self, line: Transport) -> None:
        self.name, self.read, self.write = line.name, line.read, line.write

    def close(self) -> None:
        """The line stays."""


class Device:
    """A board in QEMU, and clients on its line."""

    def __init__(self, simulation: Simulation, line: SocketTransport) -> None:
        self.simulation = simulation
        self._line = line

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        with contextlib.closing(Client(Unclosed(self._line), tries=30)) as client:
            yield client

    def reset(self) -> None:
        self.simulation.reset()


@contextlib.contextmanager
def running(board: str | Board, image: FirmwareImage) -> Iterator[Device]:
    with Simulation(load_board(board) if isinstance(board, str) else board, image.elf, paused=True) as simulation:
        line = SocketTransport.connect(simulation.address)
        with contextlib.closing(line):
            simulation.resume()
            yield Device(simulation, line)
