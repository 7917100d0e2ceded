"""Commands past one machine: ingest (from a broker into a folder or bucket)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intaglio.host.cli.options import Json
from intaglio.host.cli.output import print_json, progress, table

Packages = Annotated[
    str | None,
    typer.Option("--models", help="Store of packages that say what a model's tensors are; default: your own store."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer()
    group.callback(invoke_without_command=True)(ingest_command)
    group.command("compact")(compact_command)
    app.add_typer(group, name="ingest")


def ingest_command(
    context: typer.Context,
    broker: Annotated[
        str | None, typer.Option("--broker", help="mqtt://HOST[:PORT] or mqtts://HOST[:PORT].", show_default=False)
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Folder or s3://BUCKET/PREFIX to write to.", show_default=False)
    ] = None,
    group: Annotated[str, typer.Option("--group", help="Workers of one group share the messages.")] = "ingest",
    batch: Annotated[int, typer.Option("--batch", min=1, max=30000, help="Most records of a file.")] = 2000,
    period: Annotated[
        float, typer.Option("--period", min=0.01, max=3600, help="Seconds that a record waits for others at most.")
    ] = 5.0,
    ca: Annotated[Path | None, typer.Option("--ca", help="Certificates that sign the broker's (PEM).")] = None,
    cert: Annotated[Path | None, typer.Option("--cert", help="The worker's certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="The key of --cert (PEM).")] = None,
    models: Packages = None,
    json: Json = False,
) -> None:
    """Move captured records from a broker into Parquet files, until interrupted; run as many as you need.

    A record is acknowledged after the file that holds it is durable: a worker killed at any moment loses nothing that
    a gateway was told is safe. AWS_ENDPOINT_URL and the AWS_... credentials say where a bucket is.

    Example: `intaglio ingest --broker mqtt://localhost:1883 --to captures`
    """
    if context.invoked_subcommand is not None:
        return
    import signal
    import threading
    from dataclasses import asdict

    from intaglio.host.ingest.broker import Subscription, parse_address
    from intaglio.host.ingest.models import Models
    from intaglio.host.ingest.place import new_place
    from intaglio.host.ingest.worker import Worker
    from intaglio.host.parquet import arrow
    from intaglio.quantizer.errors import UsageError

    if broker is None or to is None:
        raise UsageError("ingest", "--broker and --to are needed", "see `intaglio ingest --help`")
    if not group or any(sign in group for sign in "/+#\0"):
        raise UsageError(f"--group {group!r}", "is not the name of a group", "use letters, digits and dashes")
    address = parse_address(broker, ca, cert, key)
    arrow()
    place = new_place(to)
    there = place.check()
    worker = Worker(place, Models(_store(models)), batch=batch, period=period, warn=_warn)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # Twice a batch: the next one arrives while this one is written.
    with Subscription(address, group, 2 * batch).open() as subscription:
        if not there:
            place.mark()
        if not json:
            typer.echo(f"records of {address} go to {place.where}; Ctrl-C ends it")
        worker.run(subscription, stop)
    if json:
        print_json(asdict(worker.counts))
        return
    table("ingest", ("fact", "value"), list(asdict(worker.counts).items()))


def compact_command(
    place: Annotated[str, typer.Argument(help="Folder or s3://BUCKET/PREFIX.", show_default=False)],
    delta: Annotated[bool, typer.Option("--delta", help="Move the records into the Delta table of the place.")] = False,
    models: Packages = None,
    json: Json = False,
) -> None:
    """Merge the small files of each partition into one, each record once; safe beside workers and readers.

    With `--delta` the records of all partitions go into one Delta table, which many machines may write to.

    Example: `intaglio ingest compact captures`
    """
    from dataclasses import asdict

    from intaglio.host.ingest.compact import compact, compact_into_table
    from intaglio.host.ingest.models import Models
    from intaglio.host.ingest.place import open_place

    opened = open_place(place)
    with progress("compacting", None) as bar:
        merge = compact_into_table if delta else compact
        done = merge(opened, Models(_store(models)), lambda: bar.advance(1))
    if json:
        print_json(asdict(done))
        return
    table(place, ("fact", "value"), list(asdict(done).items()))


def _store(named: str | None) -> str:
    if named is not None:
        return named
    from intaglio.host.artefacts import store_place

    return store_place()


def _warn(text: str) -> None:
    typer.echo(f"intaglio: {text}", err=True)
