"""The command line on the digits model: what it prints, for people and for machines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
from asking import DATA, MODEL, TEST

from intaglio.host.cli import app, run
from intaglio.host.cli.options import Quantiser
from intaglio.quantizer.errors import UsageError
from intaglio.quantizer.ir import DType
from intaglio.quantizer.pipeline import Options


def commands() -> list[str]:
    """The names of all commands."""
    root: Any = typer.main.get_command(app)
    return sorted(root.commands)


def answer(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int = 0) -> Any:
    """Run a command with --json and return what it printed."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    root: Any = typer.main.get_command(app)
    group = root.commands[name]
    for command in getattr(group, "commands", {name: group}).values():
        assert "Example: `intaglio " in command.help
    assert run([name, "--help"]) == 0
    assert name in capsys.readouterr().out


def leaves(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command below a group, by its words."""
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from leaves(below, *path, name)
    else:
        yield " ".join(path), command


def test_every_command_prints_json_on_demand() -> None:
    found = {name: {o for p in command.params for o in p.opts} for name, command in leaves(typer.main.get_command(app))}
    assert len(found) >= 15
    assert [name for name, options in found.items() if "--json" not in options] == []


def test_the_shell_completes(capsys: pytest.CaptureFixture[str]) -> None:
    """What bash asks for when Tab is pressed; `intaglio --install-completion` tells it how to ask."""

    def completed(line: str) -> list[str]:
        words = line.split(" ")
        environment = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_INTAGLIO_COMPLETE": "complete_bash"}
        code = "from intaglio.host.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.split()

    assert completed("intaglio comp") == ["compile"]
    assert "--pixels" in completed("intaglio build --p")
    assert completed("intaglio compile --board mps2_an5") == ["mps2_an500", "mps2_an505"]
    assert completed("intaglio run --core cortex-m3") == ["cortex-m3", "cortex-m33"]
    assert run(["--help"]) == 0
    assert "--install-completion" in capsys.readouterr().out


def test_every_command_that_takes_models_quantises_alike() -> None:
    root: Any = typer.main.get_command(app)
    taken = {
        name: {option for p in command.params for option in p.opts}
        for name, command in root.commands.items()
        if any(p.param_type_name == "argument" and p.name in ("model", "models") for p in command.params)
    }
    assert set(taken) == {"build", "compile", "eval", "flash", "package", "report", "run", "simulate", "verify"}
    wanted = {f"--{field.name}" for field in fields(Quantiser)}
    assert all(wanted <= options for options in taken.values()), taken


def test_the_quantiser_options_reach_the_quantiser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`build` is the command furthest from the quantiser."""
    seen: list[Options] = []

    def compile_sized(path: Path, core: object, out: Path, name: None, options: Options, board: str) -> None:
        seen.append(options)
        raise UsageError("test", "stop", "here")

    monkeypatch.setattr("intaglio.host.sizing.compile_sized", compile_sized)
    given = ["--data", "d.npz", "--ranges", "kl", "--activations", "int16", "--pixels", "-1,1"]
    assert run(["build", MODEL, "--board", "microbit", "-o", str(tmp_path), *given]) == 2
    assert seen == [Options(Path("d.npz"), "kl", DType.INT16, (-1.0, 1.0))]


def test_help_imports_nothing_heavy() -> None:
    """numpy alone would double the time that `intaglio --help` takes."""
    code = (
        "import sys; from intaglio.host.cli import run; run(['--help']);"
        "heavy = {'numpy', 'onnx', 'ortools', 'pyarrow', 'pydantic', 'jinja2', 'serial', 'platformio'};"
        "heavy &= set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_compile_writes_a_library_and_its_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    manifest = answer(capsys, ["compile", MODEL, "--core", "cortex-m4", "-o", str(out), *DATA])
    assert sorted(p.name for p in out.iterdir()) == ["digits.c", "digits.h", "digits.json", "digits_data.c"]
    assert json.loads((out / "digits.json").read_text()) == manifest
    assert manifest["contract"] == "exact"
    assert manifest["inputs"][0]["shape"] == [1, 8, 8, 1]
    assert manifest["flash_bytes"] > 0
    assert manifest["stack_bytes"] > 0
    assert [layer["op"] for layer in manifest["layers"]] == ["Conv2D", "Conv2D", "FullyConnected"]
    assert all(layer["flash"] > 0 for layer in manifest["layers"])
    # All but the four functions of the interface and the record of the model.
    assert 0.9 * manifest["flash_bytes"] < sum(layer["flash"] for layer in manifest["layers"]) < manifest["flash_bytes"]


def test_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = []
    for folder in ("a", "b"):
        assert run(["compile", MODEL, "--core", "cortex-m0", "-o", str(tmp_path / folder), *DATA]) == 0
        texts.append({p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()})
    assert texts[0] == texts[1]


def test_digest_does_not_depend_on_the_core(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digests = {
        answer(capsys, ["compile", MODEL, "--core", core, "-o", str(tmp_path / core), *DATA])["digest"]
        for core in ("cortex-m0", "cortex-m4", "cortex-m55")
    }
    assert len(digests) == 1


def test_name_names_everything(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["compile", MODEL, "--core", "cortex-m0", "-o", str(out), *DATA]
    assert run([*arguments, "--name", "reader"]) == 0
    text = (out / "reader.h").read_text()
    assert "#define READER_ARENA_BYTES" in text
    assert "int reader_invoke(void *arena);" in text
    assert "digits" not in text
    # Another name in the same folder replaces what we wrote before.
    assert run(arguments) == 0
    assert not (out / "reader.h").exists()


def test_eval(capsys: pytest.CaptureFixture[str]) -> None:
    result = answer(capsys, ["eval", MODEL, "--test", TEST, *DATA])
    assert result["samples"] == 360
    assert abs(result["integer_right"] - result["float_right"]) <= 0.005 * 360
    assert all(layer["db"] > 20 for layer in result["layers"])


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
def test_verify_is_exact(core: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", MODEL, "--core", core, "--samples", TEST, "--count", "5", "--quick", *DATA]
    result = answer(capsys, arguments)
    assert result["exact"]
    routes = [row["route"] for row in result["rows"] if not row["skipped"]]
    assert any("simulated" in route for route in routes)
    assert all(row["different"] == 0 and row["integers"] > 0 for row in result["rows"] if not row["skipped"])


def test_verify_names_the_first_layer_that_differs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight that changes between reference and C must be found in its own layer."""
    import intaglio.codegen.compile as compiling

    write = compiling.write_library

    def corrupted(library: Any, out: Path, manifest: Any = None) -> None:
        name = f"{library.name}_data.c"
        # The second array of int8 weights is conv2's.
        head, mark, rest = library.files[name].partition("conv2")
        body = re.sub(r"\{\n    (-?\d+),", lambda m: "{\n    " + str(int(m[1]) ^ 64) + ",", rest, count=1)
        library.files[name] = head + mark + body
        write(library, out, manifest)

    monkeypatch.setattr(compiling, "write_library", corrupted)
    arguments = ["verify", MODEL, "--core", "cortex-m0", "--quick", *DATA]
    result = answer(capsys, arguments, status=1)
    assert not result["exact"]
    firsts = {row["first"].split("'")[1] for row in result["rows"] if row["first"]}
    assert firsts == {"r2"}


def test_run_counts_instructions(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", MODEL, "--core", "cortex-m0", "--samples", TEST, "--count", "3", *DATA]
    result = answer(capsys, arguments)
    assert len(result["outputs"]) == 3
    assert all(10_000 < n < 1_000_000 for n in result["instructions"])


def test_report_opens_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    facts = answer(capsys, ["report", MODEL, "--core", "cortex-m4", "-o", str(page), *DATA])
    assert facts["report"] == str(page)
    assert facts["cycles"] > sum(layer["instructions"] for layer in facts["layers"]) > 10_000
    text = page.read_text(encoding="utf-8")
    assert "conv1" in text
    assert "<svg" in text
    assert "No float instruction" in text
    assert not re.search(r"(src|href)\s*=|https?://|@import", text)


def test_devices_lists_simulated_boards(capsys: pytest.CaptureFixture[str]) -> None:
    assert "sim:microbit" in {row["port"] for row in answer(capsys, ["devices"])}


def test_doctor_lists_boards(capsys: pytest.CaptureFixture[str]) -> None:
    rows = answer(capsys, ["doctor", "--boards"])
    assert {"microbit", "mps2_an385"} <= {row["board"] for row in rows}
