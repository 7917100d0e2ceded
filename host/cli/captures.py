"""Commands on captured records: capture (from a device), captures (in a store)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.host.cli.device import Baud, Port, connected
from intaglio.host.cli.options import Json
from intaglio.host.cli.output import print_json, progress, table

if TYPE_CHECKING:
    from intaglio.host.store import Store

StoreFile = Annotated[Path, typer.Argument(help="The store's file.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("capture")(capture_command)
    group = typer.Typer(no_args_is_help=True, help="Captured records in a store: list, export.")
    group.command("list")(list_command)
    group.command("export")(export_command)
    app.add_typer(group, name="captures")


def capture_command(
    port: Port,
    store: Annotated[Path | None, typer.Option("--store", help="Move the device's records into this file.")] = None,
    every: Annotated[int | None, typer.Option("--every", min=1, help="Set: record every Nth prediction.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Keep moving records for so long.")] = 0,
    baud: Baud = 115200,
    json: Json = False,
) -> None:
    """Show the state of a device's capture ring; move its records into a store.

    A record is freed on the device only after the store has it on disk.

    Example: `intaglio capture --port /dev/ttyACM0 --store captures.db --seconds 60`
    """
    import time

    from intaglio.host.store import Store

    moved = 0
    with connected(port, baud) as client:
        if every is not None:
            client.configure(every=every)
        if store is not None:
            end = time.monotonic() + seconds
            with Store(store) as kept, progress("capturing", None):
                moved = client.ring.drain(kept)
                while time.monotonic() < end:
                    client.listen(0.5)
                    moved += client.ring.drain(kept)
        status, config = client.ring.status(), client.config()
    if json:
        print_json({"moved": moved, "status": status, "config": config})
        return
    table("capture ring", ("fact", "value"), [("moved", moved), *status.items(), *config.items()])


def list_command(store: StoreFile, json: Json = False) -> None:
    """List what a store holds, by device, boot and model.

    Example: `intaglio captures list captures.db`
    """
    from collections import Counter

    with _open(store) as kept, progress("reading", None):
        groups = Counter((r.device, r.boot, r.model, r.digest) for r in kept.query())
    rows = [(device, boot, model, digest[:16], n) for (device, boot, model, digest), n in groups.items()]
    if json:
        print_json([dict(zip(("device", "boot", "model", "digest", "records"), row, strict=True)) for row in rows])
        return
    table(str(store), ("device", "boot", "model", "digest", "records"), rows)


def export_command(
    store: StoreFile,
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl or .parquet.")],
    json: Json = False,
) -> None:
    """Write a store's records as JSON Lines or Parquet.

    Example: `intaglio captures export captures.db captures.jsonl`
    """
    from intaglio.host.export import export

    with _open(store) as kept, progress("exporting", None):
        count = export(kept.query(), out)
    if json:
        print_json({"records": count, "file": str(out)})
        return
    typer.echo(f"{count} records written to {out}")


def _open(path: Path) -> Store:
    from intaglio.host.store import Store
    from intaglio.quantizer.errors import StoreError

    if not path.is_file():
        raise StoreError(str(path), "there is no such file", "`intaglio capture --store` makes one")
    return Store(path)
