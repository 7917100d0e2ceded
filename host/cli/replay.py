"""The command replay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.host.cli.options import Json
from intaglio.host.cli.output import print_json, progress, table
from intaglio.host.cli.packaging import Place, open_store

if TYPE_CHECKING:
    from intaglio.host.package import Package


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(replay_command)


def replay_command(
    captures: Annotated[list[Path], typer.Argument(help="Capture stores.", show_default=False)],
    files: Annotated[
        list[Path] | None, typer.Option("--package", help="Packages to look in, instead of the store of packages.")
    ] = None,
    place: Place = None,
    json: Json = False,
) -> None:
    """Recompute every captured prediction from the package that made it, bit for bit; name what differs.

    The model's own image is executed, by an emulated core. Exit status 1 when an integer differs, or when the package
    of a model is not there.

    Example: `intaglio replay captures.db`
    """
    from dataclasses import asdict

    from intaglio.host.package import read_package
    from intaglio.host.replay import replay
    from intaglio.host.store import Store
    from intaglio.quantizer.errors import StoreError

    def packages() -> Iterator[Package]:
        if files:
            yield from map(read_package, files)
            return
        store = open_store(place)
        for digest in dict.fromkeys(entry.digest for entry in reversed(store.entries())):
            yield store.pull(digest)

    records = []
    for path in captures:
        if not path.is_file():
            raise StoreError(str(path), "there is no such file", "give a store that `intaglio capture` filled")
        with Store(path) as kept:
            records += list(kept.query())
    with progress("replaying", None):
        results = list(replay(records, packages()))
    if json:
        print_json([asdict(result) for result in results])
    else:
        rows = [(r.model, r.digest[:16], r.package or None, r.records, r.integers, len(r.differences)) for r in results]
        columns = ("model", "graph", "package", "records", "integers", "differ")
        table(f"{len(records)} captured predictions", columns, rows)
        for result in results:
            if result.skipped:
                typer.echo(f"{result.model} is not replayed: {result.skipped}")
        for d in (d for result in results for d in result.differences):
            typer.echo(
                f"{d.device}/{d.boot}/{d.sequence}: {d.tensor}[{d.index}] was {d.captured}, is {d.computed}; "
                f"{d.count} integers differ"
            )
    if any(result.differences or not result.package for result in results):
        raise typer.Exit(1)
