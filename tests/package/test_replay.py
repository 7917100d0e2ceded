"""Captured predictions recomputed by the package's own image: every difference found and named."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intaglio.boards import load_board
from intaglio.host.build import build_firmware
from intaglio.host.cli import run
from intaglio.host.client import Client
from intaglio.host.emulate import EmulatedModel
from intaglio.host.package import Manifest, Package
from intaglio.host.replay import replay
from intaglio.host.simulate import Simulation
from intaglio.host.store import Record, Store
from intaglio.host.tensors import TensorMeta
from intaglio.quantizer.errors import PackageError
from intaglio.quantizer.reference import Evaluator, Mode

from .conftest import BOARD, Made

IMAGE = TensorMeta("image", "int8", (1, 8, 8, 1), 0, -128, 64)
SCORES = TensorMeta("scores", "int8", (1, 10), 0, 0, 10)


@pytest.fixture(scope="module")
def records(made: Made) -> list[Record]:
    """What devices captured: random images, the scores by the integer reference."""
    graph = made.compiled.graph
    evaluator = Evaluator(graph, Mode.INTEGER)
    rng = np.random.default_rng(3)
    digest = made.compiled.manifest["digest"]
    found = []
    for i in range(8):
        x = rng.integers(-128, 128, graph.types[graph.inputs[0]].shape, np.int8)
        y = evaluator.run([x])[graph.outputs[0]].astype(np.int8)
        key = (f"d{i % 2}", "00" * 8, i)
        found.append(Record(*key, "digits", digest, None, i, 0, (IMAGE,), (SCORES,), x.tobytes(), y.tobytes()))
    return found


def altered(record: Record, *places: int) -> Record:
    """The record with some of its output's integers one greater, or one less where that is the greatest."""
    data = bytearray(record.outputs)
    for place in places:
        data[place] += -1 if data[place] == 127 else 1
    return replace(record, outputs=bytes(data))


def test_what_was_captured_is_what_is_computed(records: list[Record], package: Package) -> None:
    (result,) = replay(records, [package])
    assert (result.records, result.integers, result.differences, result.skipped) == (8, 80, (), "")
    assert result.package == "digits 1.2.0 for microbit"


def test_every_difference_is_named(records: list[Record], package: Package) -> None:
    captured = [*records[:3], altered(records[3], 4, 7), *records[4:6], altered(records[6], 0), records[7]]
    (result,) = replay(captured, [package])
    assert [(d.device, d.sequence, d.tensor, d.index, d.count) for d in result.differences] == [
        ("d1", 3, "scores", 4, 2),
        ("d0", 6, "scores", 0, 1),
    ]
    for difference in result.differences:
        was = np.frombuffer(records[difference.sequence].outputs, np.int8)[difference.index]
        assert difference.computed == was != difference.captured


def test_models_without_a_package_and_models_with_state(records: list[Record], package: Package) -> None:
    other = replace(records[0], digest="00" * 32, model="other")
    without, with_one = replay([*records, other], [package])
    assert (without.model, without.package, without.records) == ("other", "", 0)
    assert without.skipped == "no package of this model is in the store"
    assert with_one.records == 8
    facts = vars(package.manifest)
    stateful = replace(package, manifest=Manifest(**{**facts, "state": 8}))
    (result,) = replay(records, [stateful])
    assert result.skipped.startswith("keeps a state") and result.records == 0


def test_images_that_cannot_be_executed(package: Package) -> None:
    other = replace(package, manifest=replace(package.manifest, core="cortex-m55"))
    with pytest.raises(PackageError, match="which Unicorn does not emulate"):
        EmulatedModel(other)
    with pytest.raises(PackageError, match="no model in it"):
        EmulatedModel(replace(package, images=(b"", *package.images[1:])))
    with pytest.raises(PackageError, match="not linked for its slot"):
        EmulatedModel(replace(package, images=(package.images[0] + b"1234", *package.images[1:])))


@contextlib.contextmanager
def stored(path: Path, records: list[Record]) -> Iterator[Path]:
    with Store(path) as store:
        store.add(records)
    yield path


def test_the_command(
    records: list[Record], package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "digits.ipkg"
    file.write_bytes(package.data)
    arguments = ["--package", str(file), "--json"]
    with stored(tmp_path / "good.db", records) as good:
        assert run(["replay", str(good), *arguments]) == 0
        (result,) = json.loads(capsys.readouterr().out)
        assert (result["records"], result["differences"]) == (8, [])
        assert run(["replay", str(good), "--store", str(tmp_path / "empty")]) == 1
        assert "digits is not replayed: no package of this model" in capsys.readouterr().out
    with stored(tmp_path / "bad.db", [altered(records[0], 1), *records[1:]]) as bad:
        assert run(["replay", str(bad), *arguments[:-1]]) == 1
        assert "d0/0000000000000000/0: scores[1] was" in capsys.readouterr().out
    assert run(["replay", str(tmp_path / "none.db"), *arguments]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


def test_what_a_board_captured(made: Made, package: Package, tmp_path: Path) -> None:
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm: apt-get install qemu-system-arm")
    board = load_board(BOARD)
    image = build_firmware([made.compiled.folder], board, tmp_path / "firmware")
    rng = np.random.default_rng(4)
    with (
        Simulation(board, image.elf) as simulation,
        Client.open(simulation.address) as client,
        Store(tmp_path / "captures.db") as store,
    ):
        for _ in range(12):
            client.predict("digits", [rng.integers(-128, 128, (1, 8, 8, 1), np.int8)], capture=True)
        assert client.ring.drain(store) == 12
        (result,) = replay(store.query(), [package])
    assert (result.records, result.integers, result.differences) == (12, 120, ())
