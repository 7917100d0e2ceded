"""Commands on captured records: capture (from a device), captures (in a store)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.host.cli.device import Baud, Port, connected
from intaglio.host.cli.options import Json
from intaglio.host.cli.output import print_csv, print_json, progress, table

if TYPE_CHECKING:
    from intaglio.host.store import Store

StoreFile = Annotated[Path, typer.Argument(help="The store's file.", show_default=False)]
Source = Annotated[str, typer.Argument(help="Store, folder or s3://BUCKET/PREFIX.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("capture")(capture_command)
    group = typer.Typer(no_args_is_help=True, help="Captured records in a store: list, query, export.")
    group.command("list")(list_command)
    group.command("query")(query_command)
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
    source: Source,
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl, .parquet, .npz, or .json for Label Studio.")],
    form: Annotated[
        str | None,
        typer.Option("--format", help="jsonl, parquet, npz, edge-manager or label-studio; default: by the suffix."),
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--digest", help="Only records of the model whose digest begins so.")
    ] = None,
    json: Json = False,
) -> None:
    """Write records as JSON Lines, Parquet, NumPy arrays, or in the layouts of Edge Manager and Label Studio.

    Example: `intaglio captures export captures.db captures.jsonl`
    """
    from intaglio.host.export import export

    with progress("exporting", None), ExitStack() as stack:
        if "://" in source or Path(source).is_dir():
            from intaglio.host.ingest.query import Captures

            records = stack.enter_context(Captures(source)).records(digest=digest)
        else:
            every = stack.enter_context(_open(Path(source))).query()
            records = (record for record in every if record.digest.startswith(digest or ""))
        count = export(records, out, form)
    if json:
        print_json({"records": count, "file": str(out)})
        return
    typer.echo(f"{count} records written to {out}")


def query_command(
    sql: Annotated[str, typer.Argument(help="A question to the views `captures` and `rejected`.", show_default=False)],
    source: Annotated[str, typer.Option("--from", help="Store, folder or s3://BUCKET/PREFIX.", show_default=False)],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    json: Json = False,
) -> None:
    """Ask in SQL (DuckDB's) about captured records, each counted once; reads only.

    Example: `intaglio captures query "SELECT model, count(*) FROM captures GROUP BY ALL" --from captures.db`
    """
    from intaglio.host.ingest.query import Captures
    from intaglio.quantizer.errors import UsageError

    if csv and json:
        raise UsageError("--csv, --json", "one of the two is possible", "leave one out")
    with Captures(source) as captures, progress("asking", None):
        answer = captures.ask(sql)
    if json:
        print_json([dict(zip(answer.columns, row, strict=True)) for row in answer.rows])
    elif csv:
        print_csv(answer.columns, answer.rows)
    else:
        table(source, answer.columns, answer.rows)


def _open(path: Path) -> Store:
    from intaglio.host.store import Store
    from intaglio.quantizer.errors import StoreError

    if not path.is_file():
        raise StoreError(str(path), "there is no such file", "`intaglio capture --store` makes one")
    return Store(path)
