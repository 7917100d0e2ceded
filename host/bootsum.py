"""The checksum that a boot ROM expects behind its second stage."""

from __future__ import annotations

import zlib
from pathlib import Path

from intaglio.quantizer.errors import ToolError


def crc32_mpeg2(data: bytes) -> int:
    """CRC-32 with polynomial 04C11DB7h, most significant bit first, initial value all ones, not inverted.

    (RP2040 data sheet, 2.8.1.3.1.) It is zlib's CRC-32 with the bits of every byte, and of the result, reversed.
    """
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    return int(f"{zlib.crc32(mirrored) ^ 0xFFFF_FFFF:032b}"[::-1], 2)


def seal_boot_stage(elf: Path, section: str = ".boot2") -> None:
    """Write the checksum of a section into its last four bytes, little-endian.

    Raises:
        ToolError: the program has no such section.
    """
    from elftools.elf.elffile import ELFFile

    with elf.open("r+b") as file:
        stage = ELFFile(file).get_section_by_name(section)
        if stage is None:
            raise ToolError(str(elf), f"has no section {section}", "build it again")
        offset, size = int(stage["sh_offset"]), int(stage["sh_size"])
        file.seek(offset)
        code = file.read(size - 4)
        file.write(crc32_mpeg2(code).to_bytes(4, "little"))
