"""The device's reader of manifests beside the host's, under libFuzzer; the slots' sources under every compiler."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from intaglio.host.monocypher import monocypher_folder
from intaglio.host.protocol import CODEC_FLAGS, generate_codec

from .conftest import Models

sys.path.append(str(Path(__file__).parents[1] / "protocol"))

from agent_bench import SANITIZE, WARNINGS, require

HERE = Path(__file__).parent
FIRMWARE = HERE.parents[1] / "firmware"
SOURCES = [*sorted((FIRMWARE / "slots").glob("*.c")), FIRMWARE / "hal" / "flash_ram.c"]
EXECUTIONS = 200_000


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the slots' sources are compiled with."""
    folder = tmp_path_factory.mktemp("include")
    generate_codec(folder / "codec")
    (folder / "trust.h").write_text("#define TRUSTED_KEYS {{{0}, {0}}}\n")
    parts = [f"-I{FIRMWARE / name}" for name in ("slots", "agent", "hal")]
    system = ["-isystem", str(folder / "codec"), "-isystem", str(monocypher_folder()), f"-I{folder}"]
    return ["-DAGENT_JOURNAL", "-DAGENT_SLOTS=3", *parts, *system, *CODEC_FLAGS]


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
@pytest.mark.parametrize("level", ["-O0", "-Os", "-O3"])
def test_the_sources_compile_without_a_warning(include: list[str], tmp_path: Path, compiler: str, level: str) -> None:
    target = ["-mcpu=cortex-m0", "-mthumb"] if compiler.startswith("arm") else []
    (tmp_path / "board.h").write_text("#define HAL_FLASH_BASE 0u\n")
    for source in SOURCES:
        command = [require(compiler), *target, "-std=c11", "-ffreestanding", level, *WARNINGS, *include]
        command += [f"-I{tmp_path}", "-c", str(source), "-o", str(tmp_path / "x.o")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def fuzzer(include: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fuzz") / "fuzz_manifest"
    codec = Path(include[include.index("-isystem") + 1])
    theirs = []
    for source in sorted(codec.glob("zcbor_*.c")):
        theirs.append(str(out.with_name(f"{source.stem}.o")))
        command = ["clang", "-O2", "-g", *SANITIZE, "-fsanitize=fuzzer-no-link", *include, "-c", str(source)]
        subprocess.run([*command, "-o", theirs[-1]], check=True, timeout=120)
    ours = [str(HERE / "fuzz_manifest.c"), str(FIRMWARE / "slots" / "manifest.c")]
    command = [require("clang"), "-std=c11", "-O2", "-g", *WARNINGS, *SANITIZE, "-fsanitize=fuzzer", *include]
    done = subprocess.run(
        [*command, *ours, *theirs, "-o", str(out)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("executions", [EXECUTIONS, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_no_bytes_lead_the_reader_astray(fuzzer: Path, digits: Models, tmp_path: Path, executions: int) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for board in ("microbit", "mps2_an385"):
        (corpus / board).write_bytes(digits.package(board).signed)
    command = [str(fuzzer), f"-runs={executions}", "-seed=1", "-max_len=1100", "-print_final_stats=1", str(corpus)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    assert found is not None
    assert int(found[1]) >= executions
