"""The journal under power cuts: at every word programmed and every page erased, on a flash that leaves debris."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror", "-pedantic")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module", params=["gcc", "clang"])
def sweep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep as a program, under the sanitizers."""
    compiler = shutil.which(request.param)
    if compiler is None:
        pytest.fail(f"{request.param} is missing: apt-get install gcc clang")
    firmware = ROOT / "firmware"
    sources = [
        HERE / "journal_sweep.c",
        HERE / "fake_flash.c",
        firmware / "slots/journal.c",
        firmware / "agent/crc32.c",
    ]
    include = [f"-I{firmware / part}" for part in ("slots", "agent", "hal")]
    out = tmp_path_factory.mktemp("sweep") / request.param
    flags = ["-std=c11", "-D_DEFAULT_SOURCE", "-O2", "-g", *WARNINGS, *SANITIZE, *include]
    done = subprocess.run(
        [compiler, *flags, *map(str, sources), "-o", str(out)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x5A])
def test_every_value_is_the_old_one_or_the_new_one_wherever_the_power_fails(sweep: Path, fill: int) -> None:
    """Over a second cut too; `fill` is what a new device's flash holds."""
    done = subprocess.run([str(sweep), hex(fill)], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.fullmatch(r"operations (\d+) lives (\d+)\n", done.stdout)
    assert found is not None
    assert int(found[1]) > 1000
    assert int(found[2]) == 6 * int(found[1])
