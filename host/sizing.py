"""Sizes that need a C compiler, and whether a board has room for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from intaglio.boards.board import load_board
from intaglio.boards.cores import Core
from intaglio.codegen.cident import brief
from intaglio.codegen.compile import Compiled, check_output, compile_model, write_library
from intaglio.host.files import NO_ROOM
from intaglio.host.footprint import measure
from intaglio.quantizer.errors import DoesNotFitError, MissingToolError, OutputError
from intaglio.quantizer.pipeline import Options


def compile_sized(
    path: Path, core: Core, out: Path, name: str | None, options: Options, board: str | None = None
) -> Compiled:
    """Compile a model file, fill in what it takes on the core and hold that against a board.

    Args:
        path: .tflite or .onnx.
        out: the folder to write. It appears, or is replaced, only when all is done.
        name: C identifier of the library; else made from the file's stem.
        board: whose flash and RAM are the limits; None for none.

    Raises:
        DoesNotFitError: the board's flash or RAM is too small.
        ToolError: the C compiler is there but failed.
        IntaglioError: see `compile_model`.
    """
    check_output(out)
    with temporary_library(path, core, name, options, board) as compiled:
        compiled = add_sizes(compiled, core, board)
    write_library(compiled.library, out, compiled.manifest)
    return replace(compiled, folder=out)


@contextmanager
def temporary_library(
    path: Path, core: Core, name: str | None, options: Options, board: str | None = None
) -> Iterator[Compiled]:
    """A model compiled into a folder that goes with the context.

    Args:
        path, name, board: see `compile_model`.

    Raises:
        OutputError: there is no room for temporary files.
        IntaglioError: see `compile_model`.
    """
    with tempfile.TemporaryDirectory(prefix="intaglio-") as work:
        try:
            compiled = compile_model(path, core, Path(work) / "library", name, options, board)
        except OutputError as error:
            raise OutputError(error.where, error.what, NO_ROOM) from error
        yield compiled


def add_sizes(compiled: Compiled, core: Core, board: str | None) -> Compiled:
    """Fill `flash_bytes` and `stack_bytes` of the manifest in memory; they stay null without a C compiler.

    Raises:
        DoesNotFitError: the board's flash or RAM is too small.
        ToolError: the compiler is there but failed.
    """
    manifest = compiled.manifest
    try:
        size = measure(compiled.folder, core)
    except MissingToolError:
        pass
    else:
        manifest = manifest | {
            "flash_bytes": size.flash_bytes,
            "stack_bytes": size.stack_bytes,
            "layers": layer_flash(compiled, size.symbols),
        }
    if board is not None:
        check_room(manifest, board)
    return replace(compiled, manifest=manifest)


def layer_flash(compiled: Compiled, symbols: dict[str, int]) -> list[dict[str, Any]]:
    """The manifest's layers with the flash of each: its arrays and its function, counted where first used."""
    seen: set[str] = set()
    layers = []
    for layer, facts in zip(compiled.library.layers, compiled.manifest["layers"], strict=True):
        own = {layer.function, *layer.arrays} - seen
        seen |= own
        layers.append(facts | {"flash": sum(symbols.get(name, 0) for name in own)})
    return layers


def check_room(manifest: dict[str, Any], board: str) -> None:
    """Hold a library's flash and RAM against a board's.

    Raises:
        DoesNotFitError: says by how much, which layers are largest, and what would help.
    """
    target = load_board(board)
    flash, ram = manifest["flash_bytes"], manifest["arena_bytes"] + (manifest["stack_bytes"] or 0)
    if flash is not None and flash > target.flash_bytes:
        largest = _largest({_label(x): x["flash"] for x in manifest["layers"]})
        raise DoesNotFitError(
            f"{manifest['name']} on {board}",
            f"needs {flash:,} bytes of flash, {flash - target.flash_bytes:,} more than the board has; "
            f"the largest layers are {largest}",
            "use fewer channels there, or a board with more flash (`intaglio doctor --boards`)",
        )
    if ram > target.ram_bytes:
        largest = _largest({_label(x): sum(o["bytes"] for o in x["outputs"]) for x in manifest["layers"]})
        raise DoesNotFitError(
            f"{manifest['name']} on {board}",
            f"needs {ram:,} bytes of RAM (arena {manifest['arena_bytes']:,}), {ram - target.ram_bytes:,} more than the "
            f"board has; the largest tensors are those of {largest}",
            "use a smaller input or fewer channels there, or a board with more RAM (`intaglio doctor --boards`)",
        )


def _label(layer: dict[str, Any]) -> str:
    """A layer in a message, its name cut where nobody would read on."""
    name = brief(layer["name"])
    return f"#{layer['index']} {layer['op']} {name if len(name) <= 40 else f'{name[:39]}…'}"


def _largest(sizes: dict[str, int]) -> str:
    top = sorted(sizes, key=lambda label: sizes[label], reverse=True)[:3]
    return ", ".join(f"{label} ({sizes[label]:,} bytes)" for label in top)
