"""Thumb code in ELF files: where it is, and how its halfwords group into instructions."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.quantizer.errors import ToolError


@dataclass(frozen=True)
class Instruction:
    """One Thumb instruction; `second` is None for a 16-bit one."""

    address: int
    first: int
    second: int | None

    @property
    def size(self) -> int:
        return 2 if self.second is None else 4

    def __str__(self) -> str:
        tail = "" if self.second is None else f" {self.second:04x}"
        return f"{self.address:#x}: {self.first:04x}{tail}"


@dataclass(frozen=True)
class Member:
    """One ELF file: a `.o`, an image, or a member of a `.a`."""

    name: str
    elf: Any


def open_members(path: Path) -> list[Member]:
    """The ELF files in an object, image or archive.

    Raises:
        ToolError: it is neither.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        data = path.read_bytes()
        parts = _archive(data, path) if data.startswith(b"!<arch>\n") else [(path.name, data)]
        return [Member(name, ELFFile(io.BytesIO(body))) for name, body in parts]
    except OSError as error:
        raise ToolError(str(path), f"cannot be read: {error.strerror}", "build it first") from None
    except (ELFError, ValueError):
        raise ToolError(str(path), "is not an ELF object, image or archive", "build it again") from None


def _archive(data: bytes, path: Path) -> list[tuple[str, bytes]]:
    """Members of a System V `ar` archive whose names fit the header or its `//` table."""
    members: list[tuple[str, bytes]] = []
    names = b""
    at = 8
    while at + 60 <= len(data):
        name = data[at : at + 16].decode("ascii", "replace").rstrip()
        size = int(data[at + 48 : at + 58])
        body = data[at + 60 : at + 60 + size]
        if name == "//":
            names = body
        elif name.startswith("/") and name[1:].isdigit():
            start = int(name[1:])
            members.append((names[start : names.index(b"/\n", start)].decode(), body))
        elif name not in ("/", "/SYM64/"):
            members.append((name.rstrip("/"), body))
        at += 60 + size + (size & 1)
    return members


def code_ranges(elf: Any) -> Iterator[tuple[Any, int, int]]:
    """Executable stretches of an ELF file: section, start and end offset within it, data left out.

    The mapping symbols `$t` and `$d` (ELF for the Arm architecture, section 5.5.5) tell code from data.
    """
    table = elf.get_section_by_name(".symtab")
    relocatable = elf["e_type"] == "ET_REL"
    marks: dict[int, list[tuple[int, bool]]] = {}
    for symbol in table.iter_symbols() if table is not None else ():
        kind = symbol.name.split(".")[0]
        if kind in ("$t", "$d", "$a") and isinstance(symbol["st_shndx"], int):
            marks.setdefault(symbol["st_shndx"], []).append((int(symbol["st_value"]), kind != "$d"))
    for index, section in enumerate(elf.iter_sections()):
        if not section["sh_flags"] & 4 or section["sh_type"] != "SHT_PROGBITS":
            continue
        base = 0 if relocatable else int(section["sh_addr"])
        size = int(section["sh_size"])
        edges = sorted(marks.get(index, []))
        for number, (address, is_code) in enumerate(edges):
            end = edges[number + 1][0] - base if number + 1 < len(edges) else size
            if is_code and address - base < end:
                yield section, address - base, end


def instructions(elf: Any) -> Iterator[Instruction]:
    """Every Thumb instruction of an ELF file, in section order (addresses are section offsets in a `.o`)."""
    relocatable = elf["e_type"] == "ET_REL"
    for section, start, end in code_ranges(elf):
        base = 0 if relocatable else int(section["sh_addr"])
        data = section.data()
        at = start
        while at + 2 <= end:
            first = int.from_bytes(data[at : at + 2], "little")
            # Armv7-M ARM, A5.1: 0b11101, 0b11110 and 0b11111 start a 32-bit instruction.
            wide = first >> 11 in (0b11101, 0b11110, 0b11111) and at + 4 <= end
            second = int.from_bytes(data[at + 2 : at + 4], "little") if wide else None
            yield Instruction(base + at, first, second)
            at += 4 if wide else 2


def is_armv6m(code: Instruction) -> bool:
    """Whether an instruction belongs to Armv6-M (Armv6-M Architecture Reference Manual, chapter A5)."""
    first, second = code.first, code.second
    if second is not None:
        return (
            (first & 0xF800 == 0xF000 and second & 0xD000 == 0xD000)  # BL
            or (first & 0xFFF0 == 0xF380 and second & 0xFF00 == 0x8800)  # MSR
            or (first == 0xF3EF and second & 0xF000 == 0x8000)  # MRS
            or (first == 0xF3BF and second & 0xFFF0 in (0x8F40, 0x8F50, 0x8F60))  # DSB, DMB, ISB
            or (first & 0xFFF0 == 0xF7F0 and second & 0xF000 == 0xA000)  # UDF.W
        )
    if first >> 11 in (0b11101, 0b11110, 0b11111):
        return False  # half of a 32-bit instruction, cut off by the end of the section
    if first & 0xFF00 == 0x4700:
        return first & 0x7 == 0  # BX, BLX; the rest are BXNS and BLXNS of Armv8-M
    if first & 0xF000 == 0xB000:
        return (
            first & 0xFF00 in (0xB000, 0xB200, 0xB400, 0xB500, 0xBC00, 0xBD00, 0xBE00)
            or first in (0xB662, 0xB672)  # CPSIE i, CPSID i
            or first & 0xFFC0 in (0xBA00, 0xBA40, 0xBAC0)  # REV, REV16, REVSH; BA80 is HLT
            or first & 0xFF0F == 0xBF00  # hints; the rest are IT
        )
    return True
