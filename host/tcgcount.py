"""The instruction counter: a TCG plugin of ours, built once per machine, and what it reports."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from intaglio.host.toolchain import cache_folder, find_compiler, find_program, run_tool
from intaglio.quantizer.errors import ToolError

SOURCE = Path(__file__).parent / "harness" / "count.c"

START, STOP, LAYER = 0, 1, 2
# The layer under which instructions after the last layer boundary are counted.
REST = -1


class Mark(NamedTuple):
    """An address at which counting starts, stops, or one layer ends."""

    pc: int
    kind: int
    layer: int = 0


class Block(NamedTuple):
    """A straight run of instructions: how often it ran, how often its end did not fall through."""

    pc: int
    instructions: int
    runs: int
    taken: int


@dataclass
class Counts:
    """One counted call: the blocks executed in each layer, in order of execution."""

    layers: dict[int, list[Block]] = field(default_factory=lambda: defaultdict(list))

    @property
    def instructions(self) -> int:
        return sum(self.per_layer().values())

    def per_layer(self) -> dict[int, int]:
        """Instructions executed per layer index; `REST` for what follows the last boundary."""
        return {
            layer: sum(block.instructions * block.runs for block in blocks) for layer, blocks in self.layers.items()
        }


def qemu_version() -> tuple[int, int]:
    """Major and minor version of `qemu-system-arm`.

    Raises:
        ToolError: it is missing.
    """
    text = run_tool([find_program("qemu-system-arm"), "--version"], timeout=20).stdout
    found = re.search(r"version (\d+)\.(\d+)", text)
    if found is None:
        raise ToolError("qemu-system-arm", "prints no version", "install QEMU 6.2 or later")
    return int(found[1]), int(found[2])


def plugin() -> Path:
    """Path of the built plugin; compiles it with the host's GCC when its source has changed.

    Raises:
        ToolError: no GCC or QEMU, or the plugin does not compile.
    """
    # The functions used are the same in all versions; QEMU 9 stopped accepting interface version 1.
    api = 1 if qemu_version()[0] < 9 else 2
    digest = hashlib.sha256(SOURCE.read_bytes() + bytes([api])).hexdigest()[:16]
    folder = cache_folder()
    target = folder / f"count-{digest}.so"
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".so")
    except OSError as error:
        raise ToolError(
            str(folder), f"cannot be written: {error.strerror}", "set XDG_CACHE_HOME to a writable folder"
        ) from None
    os.close(handle)
    try:
        run_tool(
            [
                *find_compiler("gcc").command,
                "-std=c11",
                "-O2",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-shared",
                "-fPIC",
                "-fvisibility=hidden",
                f"-DQEMU_PLUGIN_API={api}",
                str(SOURCE),
                "-o",
                name,
            ],
            timeout=60,
        )
        # Renamed into place, so that a run beside this one never loads half a file.
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def write_marks(path: Path, marks: Sequence[Mark]) -> None:
    """Write the plugin's `marks=` file; marks of one address act in the order given."""
    ordered = sorted(marks, key=lambda mark: mark.pc)
    path.write_text("".join(f"{m.pc:x} {int(m.kind)} {m.layer}\n" for m in ordered), encoding="ascii")


def read_counts(path: Path) -> list[Counts]:
    """Read the plugin's `out=` file: one entry per counted call.

    Raises:
        ToolError: the file ends inside a call.
    """
    calls: list[Counts] = []
    pending: list[Block] = []
    current: Counts | None = None
    for line in path.read_text(encoding="ascii").splitlines():
        words = line.split()
        if words[0] == "S":
            current, pending = Counts(), []
        elif current is None:
            continue
        elif words[0] == "B":
            pending.append(Block(int(words[1], 16), int(words[2]), int(words[3]), int(words[4])))
        elif words[0] == "L":
            current.layers[int(words[1])].extend(pending)
            pending = []
        elif words[0] == "E":
            current.layers[REST].extend(pending)
            calls.append(current)
            current = None
    if current is not None:
        raise ToolError("qemu-system-arm", "the count ends inside a call", "run it again with one sample")
    return calls
