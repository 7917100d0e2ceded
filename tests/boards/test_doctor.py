"""`intaglio doctor`: the verdict is that of the machine, and what is missing is named with its command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from intaglio.host import doctor
from intaglio.host.cli import run


def test_every_tool_that_is_here_is_found() -> None:
    found = {check.name.split(" (")[0]: check for check in doctor.checks()}
    for program in ("arm-none-eabi-gcc", "gcc", "clang", "qemu-system-arm"):
        assert found[program].ok == (shutil.which(program) is not None)
        assert not found[program].optional
        assert "apt-get install" in found[program].fix
    assert found["renode-test"].optional


def test_a_bare_machine_fails_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["doctor", "--json"]) == 1
    checks = {check["name"].split(" (")[0]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["arm-none-eabi-gcc"]["fix"] == "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
    assert not checks["newlib for Arm"]["ok"]
    assert checks["qemu-system-arm"] == {
        "name": "qemu-system-arm (verify, simulate)",
        "ok": False,
        "found": None,
        "fix": "apt-get install qemu-system-arm",
        "optional": False,
    }


def test_what_is_optional_does_not_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here = doctor.Check("gcc", True, "12", "apt-get install gcc")
    absent = doctor.Check("renode-test", False, None, "https://renode.io", optional=True)
    monkeypatch.setattr(doctor, "checks", lambda: iter([here, absent]))
    assert run(["doctor"]) == 0
    assert "https://renode.io" in capsys.readouterr().out


def test_a_program_that_does_not_answer_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "gcc"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    gcc = next(check for check in doctor.checks() if check.name.startswith("gcc"))
    assert (gcc.ok, gcc.found) == (False, None)
