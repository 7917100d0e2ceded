"""The commands on packages: what they print, and how they fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from intaglio.host.cli import run

from .conftest import DIGITS, MODEL

ARGUMENTS = [str(MODEL), "--board", "microbit", "--data", str(DIGITS / "digits_calibration.npz"), "--key", "release"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of keys and a store of this test alone; it is the working folder."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi")
    monkeypatch.setenv("INTAGLIO_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("INTAGLIO_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    assert run(["key", "new", "release"]) == 0
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints with --json."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """The one line with which a command fails."""
    capsys.readouterr()
    assert run(list(arguments)) == status
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_from_model_to_store_and_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = printed(capsys, "package", *ARGUMENTS, "--version", "1.0.0")
    file = home / "digits-1.0.0-microbit.ipkg"
    assert (made["file"], made["bytes"]) == (file.name, file.stat().st_size)
    assert made["lineage"]["model"]["file"] == "digits.onnx"
    assert [slot["address"] for slot in made["slots"]] == [0x1C000, 0x28000, 0x34000]
    (key,) = printed(capsys, "key", "list")
    assert key["private"] and made["signed_by"] == f"release ({key['id']})"

    (pushed,) = printed(capsys, "store", "push", file.name)
    assert printed(capsys, "store", "list") == [pushed]
    assert pushed == {"name": "digits", "version": "1.0.0", "board": "microbit", "digest": made["digest"]}
    assert printed(capsys, "store", "show", "digits")["graph"] == made["graph"]
    assert printed(capsys, "store", "pull", "digits@1.0.0", "-o", "again.ipkg")["digest"] == made["digest"]
    assert (home / "again.ipkg").read_bytes() == file.read_bytes()
    assert printed(capsys, "store", "gc", "--keep", "1", "--grace", "0") == []

    (home / "keys" / "release.pub.pem").unlink()
    assert "not among the keys here" in printed(capsys, "store", "show", "digits")["signed_by"]


def test_the_exported_key_is_what_checks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "export", "release", "-o", "out.pem"]) == 0
    assert (home / "out.pem").read_text() == (home / "keys" / "release.pub.pem").read_text()


def test_what_packaging_refuses(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = ["--version", "1.0.0"]
    board = [*ARGUMENTS[:2], "bluepill_f103", *ARGUMENTS[3:]]
    assert "has no model slots" in refused(capsys, 1, "package", *board, *version)
    assert "there is no" in refused(capsys, 1, "package", *ARGUMENTS[:-1], "nobody", *version)
    assert "is not a semantic version" in refused(capsys, 2, "package", *ARGUMENTS, "--version", "one")
    (home / "folder").mkdir()
    assert "cannot be written" in refused(capsys, 1, "package", *ARGUMENTS, *version, "-o", "folder")
    assert "cannot be written" in refused(capsys, 1, "package", *ARGUMENTS, *version, "-o", "none/x.ipkg")
    assert sorted(p.name for p in home.iterdir()) == ["folder", "keys"]


def test_what_the_store_refuses(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "text.ipkg").write_text("text")
    assert "is not a package" in refused(capsys, 1, "store", "push", "text.ipkg")
    assert "cannot be read" in refused(capsys, 1, "store", "push", "none.ipkg")
    assert "is not in" in refused(capsys, 1, "store", "pull", "digits")
    assert "give a folder or s3://" in refused(capsys, 2, "store", "list", "--store", "what://ever")
