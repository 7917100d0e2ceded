"""Link a generated library for each model slot of a board: code and constants at a fixed address, executed in place."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from intaglio.boards.board import Board, Region
from intaglio.host.build import FIRMWARE, integer_libgcc, render
from intaglio.host.elfscan import check_armv6m, scan_elf
from intaglio.host.library import Library
from intaglio.host.toolchain import STRICT_WARNINGS, compile_objects, find_compiler, find_program, link, run_tool
from intaglio.quantizer.errors import BoardError, DoesNotFitError, ToolError

_OVERFLOW = re.compile(r"region .?SLOT.? overflowed by (\d+) bytes")

# Nothing of where or when it was compiled may be in the image.
_REPRODUCIBLE = ("-g0", "-fno-ident", "-ffile-prefix-map={folder}=.", "-frandom-seed=intaglio")


@dataclass(frozen=True)
class SlotImage:
    """The bytes of one slot.

    Attributes:
        address: where they are executed.
        data: header, code and constants; a multiple of 4 bytes.
    """

    address: int
    data: bytes


def compiler_version() -> str:
    """The cross compiler as it names itself in the first line of `--version`.

    Raises:
        MissingToolError: it is not installed.
    """
    gcc = find_program("arm-none-eabi-gcc")
    return run_tool([gcc, "--version"], timeout=20).stdout.splitlines()[0].strip()


def link_slots(library: Library, board: Board) -> list[SlotImage]:
    """Link a library for every slot of a board.

    Returns:
        One image per slot, in the order of the board's data.

    Raises:
        BoardError: the board has no slots.
        DoesNotFitError: the model is larger than a slot; says by how much.
        ToolError: a tool is missing, the library does not compile, or its code is not for the board: it computes in
            floating point, keeps variables outside its arena, or leaves the instruction set of an M0.
    """
    if board.slots is None:
        raise BoardError(
            f"board {board.name}",
            "has no model slots",
            "compile the model in with `intaglio build`, or take a board that has slots (`intaglio doctor --boards`)",
        )
    with tempfile.TemporaryDirectory(prefix="intaglio-slots-") as folder:
        work = Path(folder)
        objects = _compile(library, board, work)
        objects.append(integer_libgcc(find_program("arm-none-eabi-gcc"), board.core.cflags, work))
        return [_link(library, board, slot, objects, work / f"{slot.origin:08x}") for slot in board.slots.regions]


def _compile(library: Library, board: Board, work: Path) -> list[Path]:
    (work / "image.c").write_text(render("image.c.j2", l=library), encoding="utf-8")
    gcc = find_compiler("arm-none-eabi-gcc")
    common = [*board.core.cflags, *STRICT_WARNINGS, "-ffreestanding", "-ffunction-sections", "-fdata-sections"]
    common += [flag.format(folder=library.folder) for flag in _REPRODUCIBLE]
    include = [f"-I{library.folder}", f"-I{FIRMWARE / 'agent'}"]
    return [
        *compile_objects(gcc, [work / "image.c"], work / "header", [*common, "-Os", *include]),
        *compile_objects(gcc, library.sources, work / "library", [*common, "-O2", *library.cflags]),
    ]


def _link(library: Library, board: Board, slot: Region, objects: list[Path], work: Path) -> SlotImage:
    work.mkdir()
    script = work / "image.ld"
    script.write_text(render("image.ld.j2", b=board, slot=slot), encoding="utf-8")
    flags = [
        *board.core.cflags,
        "-nostdlib",
        "-nostartfiles",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        f"-T{script}",
        "-lc",
    ]
    try:
        elf = link(find_compiler("arm-none-eabi-gcc"), objects, work / "image.elf", flags)
    except ToolError as error:
        over = _OVERFLOW.search(str(error))
        if over is None:
            raise
        assert board.slots is not None
        room = slot.length - board.slots.envelope_bytes
        raise DoesNotFitError(
            f"{library.name} for {board.name}",
            f"needs {int(over[1]):,} bytes more than the {room:,} of a slot",
            "take a smaller model, a board with larger slots, or compile it in with `intaglio build`",
        ) from None
    found = scan_elf(elf, board.core)
    if not found.clean:
        raise ToolError(f"{library.name} for {board.name}", found.findings[0], "remove the float arithmetic")
    if not board.core.thumb2 and (illegal := check_armv6m(elf)):
        raise ToolError(f"{library.name} for {board.name}", illegal[0], "report this model")
    binary = work / "image.bin"
    run_tool([find_program("arm-none-eabi-objcopy"), "-O", "binary", str(elf), str(binary)], timeout=60)
    return SlotImage(slot.origin, binary.read_bytes())
