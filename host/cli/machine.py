"""Commands on this machine: doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.host.cli.options import Json
from intaglio.host.cli.output import print_json, progress, table


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("doctor")(doctor_command)


def doctor_command(
    boards: Annotated[bool, typer.Option("--boards", help="List the boards instead.")] = False, json: Json = False
) -> None:
    """Say what is missing on this machine, and the exact command that installs it.

    Example: `intaglio doctor`
    """
    if boards:
        _list_boards(json)
        return
    from dataclasses import asdict

    from intaglio.host.doctor import checks

    with progress("asking each tool", None):
        found = list(checks())
    if json:
        print_json([asdict(c) for c in found])
    else:
        rows = [
            (c.name, c.ok or ("optional" if c.optional else False), c.found or "", "" if c.ok else c.fix) for c in found
        ]
        table("this machine", ("what", "there", "found", "to install"), rows)
    if not all(c.ok or c.optional for c in found):
        raise typer.Exit(1)


def _list_boards(json: bool) -> None:
    from intaglio.boards.board import board_names, load_board

    boards = [load_board(name) for name in board_names()]
    rows = [
        (
            b.name,
            b.title,
            b.core.name,
            b.flash_bytes,
            b.ram_bytes,
            " ".join(name for name in ("qemu", "renode") if getattr(b.simulators, name)),
        )
        for b in boards
    ]
    columns = ("board", "title", "core", "flash bytes", "RAM bytes", "simulators")
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    # Without the titles, a row fits 80 characters.
    table("boards", columns[:1] + columns[2:], [row[:1] + row[2:] for row in rows])
