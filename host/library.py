"""A generated C library on disk: its name, sources and flags."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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

    def manifest(self) -> dict[str, Any]:
        """What its NAME.json says; empty without one.

        Raises:
            OutputError: it cannot be read.
        """
        path = self.folder / f"{self.name}.json"
        if not path.exists():
            return {}
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            facts.keys()
        except (OSError, ValueError, AttributeError):
            raise OutputError(str(path), "is not a manifest", "generate the library again") from None
        return facts

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
    library = Library(folder.resolve(), name, sources, ())
    return replace(library, cflags=tuple(map(str, library.manifest().get("cflags") or ())))
