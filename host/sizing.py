"""Sizes that need a C compiler, and whether a board has room for them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from intaglio.boards.board import load_board
from intaglio.boards.cores import Core
from intaglio.codegen.compile import Compiled
from intaglio.host.footprint import measure
from intaglio.quantizer.errors import DoesNotFitError, MissingToolError


def add_sizes(compiled: Compiled, core: Core, board: str | None) -> Compiled:
    """Fill `flash_bytes` and `stack_bytes` of the manifest; they stay null without a C compiler.

    Raises:
        DoesNotFitError: the board's flash or RAM is too small; the folder written is removed again.
    """
    manifest = dict(compiled.manifest)
    try:
        size = measure(compiled.folder, core)
    except MissingToolError:
        pass
    else:
        manifest |= {"flash_bytes": size.flash_bytes, "stack_bytes": size.stack_bytes}
        manifest["layers"] = layer_flash(compiled, size.symbols)
    if board is not None:
        try:
            check_room(manifest, board)
        except DoesNotFitError:
            for file in (*compiled.library.files, f"{compiled.library.name}.json"):
                (compiled.folder / file).unlink(missing_ok=True)
            raise
    path = compiled.folder / f"{compiled.library.name}.json"
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
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
        largest = _largest(manifest, "macs")
        raise DoesNotFitError(
            f"{manifest['name']} on {board}",
            f"needs {flash:,} bytes of flash, {flash - target.flash_bytes:,} more than the board has; "
            f"most work is in {largest}",
            "use a narrower model, or a board with more flash (`intaglio doctor --boards`)",
        )
    if ram > target.ram_bytes:
        largest = _largest(manifest, "bytes")
        raise DoesNotFitError(
            f"{manifest['name']} on {board}",
            f"needs {ram:,} bytes of RAM (arena {manifest['arena_bytes']:,}), {ram - target.ram_bytes:,} more than the "
            f"board has; the largest tensors are those of {largest}",
            "use a smaller input or fewer channels there, or a board with more RAM (`intaglio doctor --boards`)",
        )


def _largest(manifest: dict[str, Any], by: str) -> str:
    def weight(layer: dict[str, Any]) -> int:
        return layer["macs"] if by == "macs" else sum(o["bytes"] for o in layer["outputs"])

    top = sorted(manifest["layers"], key=weight, reverse=True)[:3]
    return ", ".join(f"{layer['name']} ({weight(layer):,} {'MACs' if by == 'macs' else 'bytes'})" for layer in top)
