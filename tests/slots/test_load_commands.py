"""`intaglio load`, `unload` and `models` on a simulated micro:bit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from intaglio.boards.board import load_board
from intaglio.host.artefacts import ArtefactStore
from intaglio.host.build import FirmwareImage
from intaglio.host.cli import run
from intaglio.host.simulate import Simulation

from .conftest import Models, Packager

BOARD = "microbit"


@pytest.fixture
def port(firmware: Callable[[str], FirmwareImage]) -> Iterator[str]:
    with Simulation(load_board(BOARD), firmware(BOARD).elf, pty=True) as simulation:
        yield simulation.address


def fails(capsys: pytest.CaptureFixture[str], arguments: list[str], what: str, status: int = 1) -> None:
    capsys.readouterr()
    assert run(arguments) == status
    error = capsys.readouterr().err.strip()
    assert re.search(what, error), error
    assert len(error.splitlines()) == 1, error


def test_load_models_unload(
    port: str, digits: Models, tiny: Packager, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--port", port]
    package = digits.package(BOARD, "1.2.0", counter=2)
    file = tmp_path / package.file_name
    file.write_bytes(package.data)
    assert run(["load", str(file), *line]) == 0
    assert capsys.readouterr().out == "digits 1.2.0 is model 0, in slot 0\n"
    assert run(["load", str(file), *line, "--json"]) == 0  # it is there already
    assert json.loads(capsys.readouterr().out)["index"] == 0

    store = ArtefactStore(str(tmp_path / "store"))
    for version in ("1.3.0", "1.4.0"):
        store.push(digits.package(BOARD, version, counter=2))
    store.push(digits.package("mps2_an385", "9.0.0"))
    assert run(["load", "digits", "--store", str(tmp_path / "store"), *line]) == 0
    assert capsys.readouterr().out == "digits 1.4.0 is model 1, in slot 1\n"
    assert run(["models", *line, "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert (model["name"], model["index"], model["slot"]["version"]) == ("digits", 1, "1.4.0")
    assert model["digest"] == package.manifest.graph.hex()
    assert run(["models", *line]) == 0
    assert "whole" in capsys.readouterr().out

    old = digits.package(BOARD, "1.1.0", counter=1)
    (tmp_path / "old.ipkg").write_bytes(old.data)
    fails(capsys, ["load", str(tmp_path / "old.ipkg"), *line], r"refuses load: .*security counter is lower.*--counter")
    fails(capsys, ["load", "digits@9.0.0", "--store", str(tmp_path / "store"), *line], "is not in")
    other = tmp_path / "other.ipkg"
    other.write_bytes(digits.package("mps2_an385").data)
    fails(capsys, ["load", str(other), *line], "is for mps2_an385, this is a microbit")
    fails(capsys, ["load", str(tmp_path / "none.ipkg"), *line], "cannot be read")
    fails(capsys, ["unload", "kws", *line], "is in no slot of the device; loaded there: digits", status=2)

    assert run(["unload", "digits", *line]) == 0
    assert capsys.readouterr().out == "unloaded digits 1.4.0 from slot 1\n"
    assert run(["models", *line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
