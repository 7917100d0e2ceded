"""What the agent and its codec cost, and what they ask of the firmware around them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from agent_bench import WARNINGS, agent_sources, include_flags, require, run

CPU = ("-mcpu=cortex-m0", "-mthumb")
FLASH, RAM = 8192, 2048  # bytes, the ring aside; what the project promises
RING = 2048


@pytest.fixture(scope="module")
def objects(codec: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("m0")
    built = []
    for source in (*agent_sources(), *sorted(codec.glob("*.c"))):
        out = folder / f"{source.stem}.o"
        flags = ["-Os", "-std=c11", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-fstack-usage"]
        run([require("arm-none-eabi-gcc"), *CPU, *flags, *include_flags(codec), "-c", str(source), "-o", str(out)])
        built.append(out)
    return built


@pytest.fixture(scope="module")
def image(objects: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Agent and codec without the sections that nothing needs; what is undefined is left so."""
    out = tmp_path_factory.mktemp("image") / "agent.elf"
    flags = ["-nostdlib", "-Wl,--gc-sections", "-Wl,--entry=agent_run", "-Wl,--unresolved-symbols=ignore-all"]
    run([require("arm-none-eabi-gcc"), *CPU, *flags, *map(str, objects), "-o", str(out)])
    return out


def sections(image: Path) -> dict[str, int]:
    listing = run([require("arm-none-eabi-size"), "-A", str(image)]).stdout
    return {name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)", listing, re.MULTILINE)}


def test_flash_and_ram(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sections(image)
    flash = sum(found.get(name, 0) for name in (".text", ".rodata", ".data"))
    ram = found.get(".data", 0) + found[".bss"] - RING
    with capsys.disabled():
        print(f"\nagent and codec, Cortex-M0, -Os: {flash} bytes of flash, {ram} bytes of RAM beside the ring")
    assert flash <= FLASH
    assert ram <= RAM
    assert found.get(".data", 0) == 0


def test_needs_three_functions_of_libc_and_no_float(objects: list[Path], tmp_path: Path) -> None:
    """What is left to find when everything unneeded has gone, and what libgcc gives."""
    out = tmp_path / "agent.elf"
    flags = ["-nostdlib", "-Wl,--gc-sections", "-Wl,--entry=agent_run", "-Wl,--warn-unresolved-symbols"]
    linked = run([require("arm-none-eabi-gcc"), *CPU, *flags, *map(str, objects), "-lgcc", "-o", str(out)])
    wanted = set(re.findall(r"undefined reference to `(\w+)'", linked.stderr))
    assert {name for name in wanted if not name.startswith("hal_")} == {"memcpy", "memset", "memmove"}
    assert "hal_serial_read" in wanted
    kept = run([require("arm-none-eabi-nm"), str(out)]).stdout
    assert not re.findall(r"__aeabi_[fd]\w+|__aeabi_\w+2[fd]|__\w+[sd]f\d?\b", kept)


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
@pytest.mark.parametrize("level", ["-O0", "-Os", "-O3"])
def test_compiles_without_a_warning(codec: Path, tmp_path: Path, compiler: str, level: str) -> None:
    target = CPU if compiler.startswith("arm") else ()
    for source in agent_sources():
        command = [require(compiler), *target, "-std=c11", "-ffreestanding", level, *WARNINGS]
        run([*command, *include_flags(codec), "-c", str(source), "-o", str(tmp_path / "x.o")])
