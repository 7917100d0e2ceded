"""A generated C library on disk: its name, sources and flags."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from intaglio.quantizer.errors import OutputError


@dataclass(frozen=True)
class Library:
    """What is needed to compile one generated library.

    Attributes:
        folder: holds `NAME.h` and the sources, and is the include path.
        name: the prefix of its functions.
        sources: its C files, sorted.
        cflags: the flags it wants beyond those of the core (manifest `cflags`).
    """

    folder: Path
    name: str
    sources: tuple[Path, ...]
    cflags: tuple[str, ...]

    @property
    def header(self) -> str:
        return f"{self.name}.h"

    @property
    def macro(self) -> str:
        """The prefix of its macros."""
        return self.name.upper()

    def defines(self) -> tuple[str, ...]:
        """The macros through which a harness finds the library."""
        return (
            f'-DINTAGLIO_HEADER="{self.header}"',
            f"-DINTAGLIO_MODEL={self.name}_model",
            f"-DINTAGLIO_ARENA_BYTES={self.macro}_ARENA_BYTES",
        )


def open_library(folder: Path) -> Library:
    """Read what a folder written by the code generator holds.

    Raises:
        OutputError: there is no single header with sources, or the manifest cannot be read.
    """
    headers = sorted(folder.glob("*.h"))
    if len(headers) != 1:
        raise OutputError(
            str(folder),
            f"holds {len(headers)} headers where a generated library has one",
            "give the folder that `intaglio compile -o` wrote",
        )
    name = headers[0].stem
    sources = tuple(sorted(folder.glob(f"{name}*.c")))
    if not sources:
        raise OutputError(str(folder), f"holds no {name}*.c", "generate the library again")
    manifest = folder / f"{name}.json"
    cflags: tuple[str, ...] = ()
    if manifest.exists():
        try:
            wanted = json.loads(manifest.read_text(encoding="utf-8")).get("cflags") or ()
            cflags = tuple(str(flag) for flag in wanted)
        except (ValueError, AttributeError, TypeError):
            raise OutputError(str(manifest), "is not a manifest", "generate the library again") from None
    return Library(folder.resolve(), name, sources, cflags)
