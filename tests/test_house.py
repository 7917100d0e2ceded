"""The project itself: packaging, generated pages, documents that run as printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def shell(command: str, cwd: Path, timeout: float = 280, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command with this interpreter's programs first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "COLUMNS": "200"} | environment
    return subprocess.run(
        ["sh", "-ec", command], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


def tracked() -> list[Path]:
    """The files that git tracks."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout: `git clone` the project to run this test")
    return [ROOT / line for line in done.stdout.splitlines()]


def test_packages_listed_are_the_packages_on_disk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {p.parent.relative_to(ROOT) for p in tracked() if p.name == "__init__.py" and "tests" not in p.parts}
    expected = {f"intaglio.{'.'.join(folder.parts)}" for folder in folders} | {"intaglio.firmware"}
    assert set(settings["packages"]) == expected


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    out = tmp_path_factory.mktemp("dist")
    done = shell(f"{shlex.quote(sys.executable)} -m pip wheel -q --no-deps -w {out} .", ROOT)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_all_data_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    shipped = ("codegen/templates/", "firmware/", "boards/", "host/harness/")
    missing = [
        name
        for path in tracked()
        if (name := path.relative_to(ROOT).as_posix()).startswith(shipped) and f"intaglio/{name}" not in held
    ]
    assert missing == []
    assert not any(name.startswith(("quantizer/", "codegen/", "tests/")) for name in held)


def test_wheel_compiles_a_model_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    digits = ROOT / "docs" / "examples" / "digits"
    (tmp_path / "work").mkdir()
    done = shell(
        f"{shlex.quote(sys.executable)} -c 'import intaglio.codegen as c; print(c.__file__)' && "
        f"{shlex.quote(sys.executable)} -m intaglio.host.cli compile {digits}/digits.onnx --core cortex-m0 "
        f"--data {digits}/digits_calibration.npz -o out",
        tmp_path / "work",
        PYTHONPATH=str(site),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert (tmp_path / "work" / "out" / "digits.c").exists()


@pytest.mark.slow
def test_wheel_installs_into_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    digits = ROOT / "docs" / "examples" / "digits"
    done = shell(
        f"{shlex.quote(sys.executable)} -m venv empty && empty/bin/pip install -q '{wheel}[onnx]' && "
        f"empty/bin/intaglio compile {digits}/digits.onnx --core cortex-m0 -o out "
        f"--data {digits}/digits_calibration.npz "
        "&& ! empty/bin/python -c 'import quantizer' 2>/dev/null",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "digits.c").exists()


def test_generated_pages_are_up_to_date() -> None:
    done = shell(f"{shlex.quote(sys.executable)} tools/generate_docs.py --check", ROOT)
    assert done.returncode == 0, done.stderr


def shell_blocks(page: Path) -> list[str]:
    """The ```sh blocks of a page."""
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def test_readme_commands_run_as_printed(tmp_path: Path) -> None:
    """All but `make demo` and `make test`, in order, in a copy of the documents' folder."""
    blocks = [b for b in shell_blocks(ROOT / "README.md") if not b.startswith("make ")]
    assert len(blocks) >= 4
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for block in blocks:
        done = shell(block, tmp_path)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


EXAMPLE_MAIN = """
#include <stdio.h>
#include "digits.h"
#include "example.c"
int main(void)
{
    unsigned char pixels[64];
    digits_reset(arena);
    while (fread(pixels, 64, 1, stdin) == 1) {
        putchar('0' + classify(pixels));
    }
    return 0;
}
"""


def test_readme_c_example_classifies_as_eval_says(tmp_path: Path) -> None:
    digits = ROOT / "docs" / "examples" / "digits"
    (example,) = re.findall(r"^```c\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    model = f"{digits}/digits.onnx --data {digits}/digits_calibration.npz"
    done = shell(f"intaglio compile {model} --core cortex-m0 -o lib", tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "example.c").write_text(example)
    (tmp_path / "main.c").write_text(EXAMPLE_MAIN)
    done = shell("cc -std=c11 -Wall -Wextra -Werror -Ilib main.c lib/digits.c lib/digits_data.c -o main", tmp_path)
    assert done.returncode == 0, done.stderr
    test = np.load(digits / "digits_test.npz")
    (tmp_path / "pixels").write_bytes((test["x"] * 16).astype(np.uint8).tobytes())
    said = shell("./main < pixels", tmp_path).stdout
    done = shell(f"intaglio eval {model} --test {digits}/digits_test.npz --json", tmp_path)
    assert (
        sum(int(a) == b for a, b in zip(said, test["y"].tolist(), strict=True))
        == json.loads(done.stdout)["integer_right"]
    )


def test_links_between_documents_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_file_names_a_machine_of_ours() -> None:
    pattern = re.compile(r"(?<![\w.])/(work|farm|root)/|bash_jobs|/\.library")
    for path in tracked():
        if path.suffix in {".py", ".md", ".c", ".h", ".j2", ".toml", ".yml", ".yaml", ".cddl", ".robot", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            found = pattern.search(text) if path != Path(__file__) else None
            assert found is None, f"{path}: {found and found[0]}"
