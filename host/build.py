"""Firmware for a board: the agent, the drivers that its data name, and the libraries of its models."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from intaglio.boards.board import Board
from intaglio.host.elfscan import FloatReport, is_float_symbol, scan_elf
from intaglio.host.files import BUILD_PLAN, build_folder
from intaglio.host.library import Library, open_library
from intaglio.host.monocypher import monocypher_folder
from intaglio.host.platformio import run_platformio
from intaglio.host.protocol import CODEC_FLAGS, generate_codec
from intaglio.host.toolchain import STRICT_WARNINGS, find_program
from intaglio.quantizer.errors import BoardError, DoesNotFitError, OutputError, ToolError

if TYPE_CHECKING:
    from intaglio.host.keys import PublicKey

_UNKNOWN_STACK_BYTES = 1024
_SLOT_STACK_BYTES = 1024  # kept for the functions of models that are loaded at run time

FIRMWARE = Path(__file__).resolve().parents[1] / "firmware"
# What a board that has slots remembers over a reset even where the firmware loads no models.
_JOURNAL_SOURCES = [FIRMWARE / "slots" / name for name in ("journal.c", "boot.c")]


@dataclass(frozen=True)
class FirmwareImage:
    """A built firmware.

    Attributes:
        elf, bin, hex: the files.
        flash_bytes, ram_bytes: text + data, and data + bss + stack, of the whole program.
        float_report: verdict of the scan for float symbols and instructions.
    """

    elf: Path
    bin: Path
    hex: Path
    flash_bytes: int
    ram_bytes: int
    float_report: FloatReport


def build_firmware(
    libraries: Sequence[Path],
    board: Board,
    out: Path,
    *,
    program: Sequence[Path] = (),
    trust: Sequence[PublicKey] = (),
) -> FirmwareImage:
    """Build firmware with PlatformIO.

    Args:
        libraries: folders written by `intaglio compile`, for the board's core; none builds a bare agent.
        out: build folder; what is there of an earlier build is used again. Builds side by side want one each.
        program: sources with a `main` to build on the HAL instead of the agent's.
        trust: keys whose packages the firmware loads into its slots; without any it loads none.

    Raises:
        BoardError: `trust`, and the board has no slots.
        ToolError: a tool is missing, or the build failed.
        DoesNotFitError: the program is larger than the board's flash or RAM; says by how much.
        OutputError: the folder cannot be written, or holds files that are not ours.
    """
    opened = [open_library(folder) for folder in libraries]
    out = out.absolute()
    if trust and board.slots is None:
        raise BoardError(f"board {board.name}", "has no model slots, so it trusts no keys", "build without --trust")
    with build_folder(out):
        plan = plan_firmware(opened, board, out, program, trust)
        try:
            (out / "boards").mkdir(exist_ok=True)
            manifest = board_manifest(board) | {"intaglio": {"plan": str(plan)}}
            _write(out / "boards" / f"{board.name}.json", json.dumps(manifest))
        except OSError as error:
            raise _unwritable(out, error) from error
        try:
            made = run_platformio(FIRMWARE, out, board.name)
        except ToolError as error:
            raise _explained(error, board, opened) from error
    elf = made / "firmware.elf"
    flash, ram = _sizes(elf)
    return FirmwareImage(elf, made / "firmware.bin", made / "firmware.hex", flash, ram, scan_elf(elf, board.core))


def plan_firmware(
    libraries: Sequence[Library],
    board: Board,
    out: Path,
    program: Sequence[Path] = (),
    trust: Sequence[PublicKey] = (),
) -> Path:
    """Generate what a build needs beside the sources: the board's and the models' files, and `build.json`.

    Args:
        libraries: the models to compile in.
        board: the board.
        out: folder to write to.
        program: sources with a `main` to build on the HAL instead of the agent's.
        trust: keys whose packages the firmware loads.

    Returns:
        The path of `build.json`: every source with its flags, and how to link, for `boards/builder/main.py`.

    Raises:
        ToolError: a tool is missing, or two libraries have one name.
        OutputError: the folder cannot be written.
    """
    names = [library.name for library in libraries]
    if len(set(names)) != len(names):
        raise ToolError(", ".join(names), "two libraries have one name", "compile one of them with --name")
    try:
        generated = out / "generated"
        generated.mkdir(parents=True, exist_ok=True)
        plan = _plan(libraries, board, generated, program, trust)
        _write(out / BUILD_PLAN, json.dumps(plan, indent=1))
    except OSError as error:
        raise _unwritable(out, error) from error
    return out / BUILD_PLAN


def _unwritable(out: Path, error: OSError) -> OutputError:
    return OutputError(str(out), f"cannot be written ({error.strerror})", "choose another folder with -o")


def _explained(error: ToolError, board: Board, libraries: Sequence[Library]) -> Exception:
    """Turn the linker's words for "too large" and "float" into ours."""
    text = str(error)
    overflow = re.search(r"region .?(FLASH|RAM).? overflowed by (\d+) bytes", text)
    if overflow:
        kind = "flash" if overflow[1] == "FLASH" else "RAM"
        takes = "; ".join(_takes(x) for x in libraries) or "the agent takes all of it"
        hint = "compile fewer or smaller models, or take a larger board (`intaglio doctor --boards`)"
        if kind == "flash" and board.slots is not None:
            kept = board.flash_bytes - board.program_flash.length
            hint = f"build with --no-slots to have the {kept:,} bytes that its model slots take, or {hint}"
        return DoesNotFitError(
            f"firmware for {board.name}",
            f"needs {int(overflow[2]):,} bytes of {kind} more than the board has; {takes}",
            hint,
        )
    missing = re.search(r"undefined reference to [`'](__aeabi_(?:[fdh]|u?[il]2)\w*|__\w*(?:sf|df)\w*)'", text)
    if missing:
        return ToolError(
            f"firmware for {board.name}",
            f"computes in floating point: it wants {missing[1]}",
            "no float helper is linked; remove the float arithmetic",
        )
    return error


def _takes(library: Library) -> str:
    """What a library takes, as its manifest says."""
    facts = library.manifest()
    named = {"flash": facts.get("flash_bytes"), "arena": facts.get("arena_bytes"), "stack": facts.get("stack_bytes")}
    known = ", ".join(f"{name} {size:,}" for name, size in named.items() if size is not None)
    return f"{library.name} takes {known or 'an unknown part'} of them"


def _write(path: Path, text: str) -> None:
    """Write only what has changed, so that builds stay incremental."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def render(name: str, **values: Any) -> str:
    env = Environment(
        loader=FileSystemLoader(FIRMWARE / "templates"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return env.get_template(name).render(**values)


def _plan(
    libraries: Sequence[Library],
    board: Board,
    generated: Path,
    program: Sequence[Path],
    trust: Sequence[PublicKey],
) -> dict[str, Any]:
    """Generate the board's and the models' files; list every source with its flags."""
    irqs = max(board.serial.irq, board.time.irq or 0, board.watchdog.irq or 0) + 1
    steps = [*board.clock.setup, *board.serial.setup, *board.watchdog.setup]
    model_stack = max([_SLOT_STACK_BYTES if trust else 0, *map(_model_stack, libraries)])
    _write(generated / "board.h", render("board.h.j2", b=board, irqs=irqs, steps=steps, model_stack=model_stack))
    stack = board.stack_bytes + model_stack
    _write(generated / "board.ld", render("board.ld.j2", b=board, stack=stack))
    _write(generated / "models.h", render("models.h.j2", libraries=libraries))
    _write(generated / "models.c", render("models.c.j2", libraries=libraries))
    codec = generate_codec(generated / "codec")
    hal, agent = FIRMWARE / "hal", FIRMWARE / "agent"
    drivers = [
        hal / "startup.c",
        hal / "board.c",
        hal / "serial_ring.c",
        hal / f"serial_{board.serial.driver}.c",
        hal / f"time_{board.time.driver}.c",
        hal / f"watchdog_{board.watchdog.driver}.c",
    ]
    application = [FIRMWARE / "main.c", *sorted(agent.glob("*.c"))]
    slots = []
    if board.slots is not None:
        drivers += [hal / "flash.c", hal / f"flash_{board.slots.driver}.c"]
        application += sorted((FIRMWARE / "slots").glob("*.c")) if trust else _JOURNAL_SOURCES
        slots = ["-DAGENT_JOURNAL", f"-I{FIRMWARE / 'slots'}"]
        if trust:
            slots.append(f"-DAGENT_SLOTS={len(board.slots.regions)}")
    if board.boot is not None:
        drivers.append(FIRMWARE / "boot" / board.boot.source)
    cc = find_program("arm-none-eabi-gcc")
    core = [
        *board.core.cflags,
        "-std=c11",
        "-ffreestanding",
        "-ffunction-sections",
        "-fdata-sections",
        "-masm-syntax-unified",
        "-g",
    ]
    include = [f"-I{generated}", f"-I{agent}", f"-I{hal}", "-isystem", str(generated / "codec")]
    own = [*core, "-Os", *STRICT_WARNINGS, *include, *CODEC_FLAGS, *slots]
    groups: list[dict[str, Any]] = [
        {"flags": own, "sources": [str(p.absolute()) for p in (*drivers, *(program or application))]},
        {
            "flags": [*core, "-Os", *include, *CODEC_FLAGS, "-w"],
            "sources": [str(p) for p in codec if p.suffix == ".c"],
        },
        {
            "flags": [*own, *(f"-I{x.folder.absolute()}" for x in libraries)],
            "sources": [str(generated / "models.c")],
        },
    ]
    if trust:
        monocypher = monocypher_folder()
        _write(generated / "trust.h", render("trust.h.j2", keys=trust))
        groups[0]["flags"] = [*own, "-isystem", str(monocypher)]
        groups.append(
            {"flags": [*core, "-Os", "-DBLAKE2_NO_UNROLLING", "-w"], "sources": [str(monocypher / "monocypher.c")]}
        )
    groups += [
        {"flags": [*core, "-O2", *x.cflags, *STRICT_WARNINGS], "sources": [str(s.absolute()) for s in x.sources]}
        for x in libraries
    ]
    script, runtime = generated / "board.ld", integer_libgcc(cc, board.core.cflags, generated)
    link = [
        *board.core.cflags,
        "-nostdlib",
        "-nostartfiles",
        "-Wl,--gc-sections",
        "-Wl,--no-warn-rwx-segments",
        f"-Wl,-Map={generated / 'firmware.map'}",
        f"-T{script}",
        "-Wl,--start-group",
        "-lc",
        str(runtime),
        "-Wl,--end-group",
    ]
    # Libraries have to follow the objects on the command line.
    flags, tail = link[: link.index("-Wl,--start-group")], link[link.index("-Wl,--start-group") :]
    return {
        "cc": cc,
        "objcopy": find_program("arm-none-eabi-objcopy"),
        "groups": groups,
        "link_flags": flags,
        "link_tail": tail,
        "link_inputs": [str(script), str(runtime)],
        "boot_stage": board.boot is not None,
    }


def _model_stack(library: Library) -> int:
    """The worst-case stack of a library's functions, bytes, a multiple of 8; a guess where its manifest has none."""
    return (int(library.manifest().get("stack_bytes") or _UNKNOWN_STACK_BYTES) + 7) // 8 * 8


def integer_libgcc(cc: str, flags: Sequence[str], out: Path) -> Path:
    """A copy of libgcc from which the members that compute in floating point are removed.

    Raises:
        ToolError: the compiler does not have one for these flags.
    """
    target = out / "libgcc_integer.a"
    found = subprocess.run([cc, *flags, "-print-libgcc-file-name"], capture_output=True, text=True, check=False)
    source = Path(found.stdout.strip())
    if found.returncode or not source.is_file():
        raise ToolError(cc, "has no libgcc for this core", "apt-get install gcc-arm-none-eabi")
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    nm, ar = find_program("arm-none-eabi-nm"), find_program("arm-none-eabi-ar")
    listing = subprocess.run([nm, "--defined-only", str(source)], capture_output=True, text=True, check=True).stdout
    member, floats = "", set()
    for line in listing.splitlines():
        words = line.split()
        if line.endswith(".o:"):
            member = line[:-1]
        elif words and is_float_symbol(words[-1]):
            floats.add(member)
    shutil.copyfile(source, target)
    subprocess.run([ar, "d", str(target), *sorted(floats)], check=True, capture_output=True)
    return target


def board_manifest(board: Board) -> dict[str, Any]:
    """The board as PlatformIO wants it described."""
    return {
        "name": board.title,
        "vendor": board.vendor,
        "url": board.url,
        "build": {"mcu": board.mcu.lower(), "cpu": board.core.name, "f_cpu": f"{board.clock.hz}L"},
        "upload": {"maximum_size": board.flash_bytes, "maximum_ram_size": board.ram_bytes},
        "frameworks": [],
    }


def _sizes(elf: Path) -> tuple[int, int]:
    """Flash and RAM of a linked program, by its sections."""
    from elftools.elf.elffile import ELFFile

    flash = ram = 0
    with elf.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if not section["sh_flags"] & 2:
                continue
            size = section["sh_size"]
            writable = bool(section["sh_flags"] & 1)
            if section["sh_type"] != "SHT_NOBITS":
                flash += size
            if writable or section["sh_type"] == "SHT_NOBITS":
                ram += size
    return flash, ram
