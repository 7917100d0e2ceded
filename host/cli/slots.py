"""Commands that change which models a running device has: load, unload."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.host.cli.device import Baud, Port, connected
from intaglio.host.cli.options import Json
from intaglio.host.cli.output import print_json, progress

if TYPE_CHECKING:
    from intaglio.host.package import Package


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("load")(load_command)
    app.command("unload")(unload_command)


def load_command(
    wanted: Annotated[str, typer.Argument(metavar="PACKAGE", help="A package's file, or NAME[@VERSION] in the store.")],
    port: Port,
    place: Annotated[
        str | None,
        typer.Option("--store", help="Folder or s3://BUCKET/PREFIX; else $INTAGLIO_STORE.", show_default=False),
    ] = None,
    baud: Baud = 115200,
    json: Json = False,
) -> None:
    """Put a package into a free slot of a running device and load it: no reboot, and other models go on.

    A model of the same name leaves when the new one is there. What was cut off goes on where it stopped.

    Example: `intaglio load kws-1.2.0-microbit.ipkg --port /dev/ttyACM0`
    """
    with connected(port, baud) as client:
        package = _find(wanted, place, client.hello.board)
        done = 0
        with progress(f"loading {package.manifest.name}", None) as bar:

            def moved(sent: int, total: int) -> None:
                nonlocal done
                bar.of(total)
                bar.advance(sent - done)
                done = sent

            slot = client.slots.install(package, moved)
    if json:
        print_json(asdict(slot))
        return
    typer.echo(f"{slot.name} {slot.version} is model {slot.model}, in slot {slot.index}")


def unload_command(
    name: Annotated[str, typer.Argument(help="Name of the model.", show_default=False)],
    port: Port,
    baud: Baud = 115200,
    json: Json = False,
) -> None:
    """Take a loaded model away from a running device; its slot is free then.

    Example: `intaglio unload kws --port /dev/ttyACM0`
    """
    from intaglio.quantizer.errors import UsageError

    with connected(port, baud) as client:
        loaded = [slot for slot in client.slots.list() if slot.model is not None]
        found = next((slot for slot in loaded if slot.name == name), None)
        if found is None:
            names = ", ".join(slot.name for slot in loaded) or "none"
            raise UsageError(f"model {name}", "is in no slot of the device", f"loaded there: {names}")
        client.slots.unload(found.index)
    if json:
        print_json(asdict(found))
        return
    typer.echo(f"unloaded {found.name} {found.version} from slot {found.index}")


def _find(wanted: str, place: str | None, board: str) -> Package:
    """The package of a file, or of the store for the board at hand."""
    from intaglio.host.artefacts import ArtefactStore, store_place
    from intaglio.host.package import SUFFIX, read_package

    if wanted.endswith(SUFFIX) or Path(wanted).is_file():
        return read_package(Path(wanted))
    store = ArtefactStore(place or store_place())
    return store.pull(store.find(wanted, board).digest)
