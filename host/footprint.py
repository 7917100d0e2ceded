"""What a generated library costs on a core before it runs: flash and worst-case stack."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from intaglio.boards.cores import Core
from intaglio.codegen.stack import read_stack_usage, worst_case_stack
from intaglio.codegen.thumb import open_members
from intaglio.host.library import open_library
from intaglio.host.simcore import DEFAULT_FLAGS, build_image, flash_bytes


@dataclass(frozen=True)
class Footprint:
    """Sizes of a library compiled for one core.

    Attributes:
        flash_bytes: text + rodata + data of the library alone.
        stack_bytes: the deepest chain of calls from any of its four functions, their own frames included.
        symbols: bytes of each function and array, by name.
    """

    flash_bytes: int
    stack_bytes: int
    symbols: dict[str, int]


def measure(library: Path, core: Core, *, flags: Sequence[str] = DEFAULT_FLAGS) -> Footprint:
    """Compile and link a library for a core and take its sizes.

    Raises:
        ToolError: no compiler, or the library does not compile.
        CodegenError: its stack has no bound.
    """
    lib = open_library(library)
    with tempfile.TemporaryDirectory(prefix="intaglio-size-") as folder:
        work = Path(folder)
        image = build_image(lib, core, work, extra=["-fstack-usage"], flags=flags)
        entries = [f"{lib.name}_{name}" for name in ("reset", "input", "invoke", "output")]
        stack = worst_case_stack(image.elf, entries, read_stack_usage(work / "lib"))
        return Footprint(flash_bytes(image.objects), stack, symbol_sizes(image.objects))


def symbol_sizes(objects: Sequence[Path]) -> dict[str, int]:
    """Bytes of each function and object that compiled objects define."""
    sizes: dict[str, int] = {}
    for path in objects:
        for member in open_members(path):
            for symbol in member.elf.get_section_by_name(".symtab").iter_symbols():
                if symbol["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT") and symbol["st_size"]:
                    # GCC names what it makes of a function after it: f.constprop.0, f.isra.0, f.part.0.
                    name = symbol.name.partition(".")[0]
                    sizes[name] = sizes.get(name, 0) + symbol["st_size"]
    return sizes
