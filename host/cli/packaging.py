"""Commands on packages: key, package, store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.host.cli.options import Json, Model, Quantiser, takes_quantiser
from intaglio.host.cli.output import print_json, progress, table

if TYPE_CHECKING:
    from intaglio.host.artefacts import ArtefactStore
    from intaglio.host.keys import PublicKey
    from intaglio.host.package import Package

Place = Annotated[
    str | None,
    typer.Option("--store", help="Folder or s3://BUCKET/PREFIX; else $INTAGLIO_STORE.", show_default=False),
]
Wanted = Annotated[str, typer.Argument(help="NAME, NAME@VERSION, or a digest's first digits.", show_default=False)]
BoardOf = Annotated[str | None, typer.Option("--board", help="Which, when packaged for several.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(no_args_is_help=True, help="Keys that sign packages: new, list, export.")
    keys.command("new")(key_new_command)
    keys.command("list")(key_list_command)
    keys.command("export")(key_export_command)
    app.add_typer(keys, name="key")
    app.command("package")(takes_quantiser(package_command))
    store = typer.Typer(no_args_is_help=True, help="The store of packages: push, list, show, pull, gc.")
    store.command("push")(store_push_command)
    store.command("list")(store_list_command)
    store.command("show")(store_show_command)
    store.command("pull")(store_pull_command)
    store.command("gc")(store_gc_command)
    app.add_typer(store, name="store")


def package_command(
    model: Model,
    board: Annotated[str, typer.Option("--board", help="Board to package for; it has to have model slots.")],
    version: Annotated[str, typer.Option("--version", help="Semantic version, such as 1.2.0.")],
    key: Annotated[str, typer.Option("--key", help="Name of the signing key, or path of its PEM file.")],
    quantiser: Quantiser,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File; NAME-VERSION-BOARD.ipkg if not given.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the model; else of its file.")] = None,
    counter: Annotated[
        int, typer.Option("--counter", min=0, help="Security counter: devices refuse to go back below it.")
    ] = 0,
    json: Json = False,
) -> None:
    """Link a model for every slot of a board and sign it: what a device loads at run time.

    The same model, options, key and compiler give the same bytes.

    Example: `intaglio package kws.tflite --board microbit --version 1.2.0 --key release`
    """
    from intaglio.boards.board import load_board
    from intaglio.host.files import write_file
    from intaglio.host.keys import load_signing_key
    from intaglio.host.lineage import lineage
    from intaglio.host.packager import make_package
    from intaglio.host.sizing import add_sizes, temporary_library

    signing = load_signing_key(key)
    target = load_board(board).core
    options = quantiser.options()
    with progress("packaging", None), temporary_library(model, target, name, options, board) as compiled:
        sized = add_sizes(compiled, target, board)
        package = make_package(
            sized.folder, sized.manifest, board, version, signing, counter, lineage(model, compiled.graph, options)
        )
    path = out or Path(package.file_name)
    write_file(path, package.data)
    show(package, signing.public, json, {"file": str(path), "bytes": len(package.data)})


def show(package: Package, key: PublicKey | None, json: bool, more: dict[str, object]) -> None:
    """Print what a package holds."""
    made = package.manifest
    facts: dict[str, object] = {
        "name": made.name,
        "version": made.version,
        "board": made.board,
        "core": made.core,
        "contract": made.contract,
        "digest": package.digest,
        "graph": made.graph.hex(),
        "security counter": made.counter,
        "arena bytes": made.arena,
        "state bytes": made.state,
        "stack bytes": made.stack,
        "signed by": f"{key.name} ({key.id.hex()})" if key else f"{made.key.hex()} (not among the keys here)",
        **more,
    }
    slots = [{"address": s.address, "bytes": s.size, "sha256": s.digest.hex()} for s in made.slots]
    if json:
        print_json({key.replace(" ", "_"): value for key, value in facts.items()} | {"slots": slots} | package.facts)
        return
    table(f"{made.name} {made.version} for {made.board}", ("fact", "value"), list(facts.items())[2:])
    table("slots", ("address", "bytes"), [(f"{s.address:#010x}", s.size) for s in made.slots])


def key_new_command(
    name: Annotated[str, typer.Argument(help="Name of the key.", show_default=False)],
    json: Json = False,
) -> None:
    """Make an Ed25519 key pair in the folder of keys ($INTAGLIO_KEYS, else ~/.config/intaglio/keys).

    Example: `intaglio key new release`
    """
    from intaglio.host.keys import keys_folder, new_key

    key = new_key(name)
    path = keys_folder() / f"{name}.pem"
    if json:
        print_json({"name": name, "id": key.id.hex(), "public": key.raw.hex(), "file": str(path)})
        return
    typer.echo(f"{name}: {key.id.hex()}; the private key is {path}: back it up, and give it to nobody")


def key_list_command(json: Json = False) -> None:
    """List the keys of this user: those that sign, and those that only check.

    Example: `intaglio key list`
    """
    from intaglio.host.keys import keys_folder, list_keys

    keys = list_keys()
    if json:
        print_json([{"name": k.name, "id": k.id.hex(), "public": k.raw.hex(), "private": mine} for k, mine in keys])
        return
    rows = [(k.name, k.id.hex(), "signs and checks" if mine else "checks") for k, mine in keys]
    table(f"keys in {keys_folder()}", ("name", "id", "use"), rows)


def key_export_command(
    name: Annotated[str, typer.Argument(help="Name of the key, or path of a public key.", show_default=False)],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File; standard output when not given.")] = None,
    json: Json = False,
) -> None:
    """Write the public half of a key as PEM, for whoever checks packages.

    Example: `intaglio key export release -o release.pub.pem`
    """
    from intaglio.host.files import write_file
    from intaglio.host.keys import load_public_key

    key = load_public_key(name)
    pem = key.pem()
    if out is not None:
        write_file(out, pem.encode())
    if json:
        print_json({"name": key.name, "id": key.id.hex(), "public": key.raw.hex(), "pem": pem})
    elif out is None:
        typer.echo(pem, nl=False)


def open_store(place: str | None) -> ArtefactStore:
    """The store that a command means."""
    from intaglio.host.artefacts import ArtefactStore, store_place

    return ArtefactStore(place or store_place())


def store_push_command(
    files: Annotated[list[Path], typer.Argument(help="Packages.", show_default=False)],
    place: Place = None,
    json: Json = False,
) -> None:
    """Add packages to the store. A version never changes: another package of the same version is refused.

    Example: `intaglio store push kws-1.2.0-microbit.ipkg`
    """
    from dataclasses import asdict

    from intaglio.host.package import read_package

    store = open_store(place)
    packages = [read_package(path) for path in files]
    with progress("pushing", len(packages)) as bar:
        entries = []
        for package in packages:
            entries.append(store.push(package))
            bar.advance()
    if json:
        print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        typer.echo(f"{entry.name} {entry.version} for {entry.board}: {entry.digest}")


def store_list_command(place: Place = None, json: Json = False) -> None:
    """List the packages in the store.

    Example: `intaglio store list`
    """
    from dataclasses import asdict

    store = open_store(place)
    entries = store.entries()
    if json:
        print_json([asdict(entry) for entry in entries])
        return
    rows = [(e.name, e.version, e.board, e.digest[:16]) for e in entries]
    table(f"packages in {store.place}", ("name", "version", "board", "digest"), rows)


def store_show_command(wanted: Wanted, board: BoardOf = None, place: Place = None, json: Json = False) -> None:
    """Show what a package holds, and which key of this user signed it.

    Example: `intaglio store show kws@1.2.0`
    """
    store = open_store(place)
    package = store.pull(store.find(wanted, board).digest)
    show(package, signer(package), json, {"bytes": len(package.data)})


def signer(package: Package) -> PublicKey | None:
    """The key of this user that signed a package; None when none did."""
    from intaglio.host.keys import list_keys
    from intaglio.quantizer.errors import PackageError

    try:
        return package.check_signature(key for key, _ in list_keys())
    except PackageError:
        return None


def store_pull_command(
    wanted: Wanted,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File; NAME-VERSION-BOARD.ipkg if not given.")] = None,
    board: BoardOf = None,
    place: Place = None,
    json: Json = False,
) -> None:
    """Fetch a package; its digest is checked on the way.

    Example: `intaglio store pull kws@1.2.0 -o kws.ipkg`
    """
    from intaglio.host.files import write_file

    store = open_store(place)
    with progress("fetching", None):
        package = store.pull(store.find(wanted, board).digest)
    path = out or Path(package.file_name)
    write_file(path, package.data)
    if json:
        print_json({"file": str(path), "digest": package.digest})
    else:
        typer.echo(f"{path}: {package.digest}")


def store_gc_command(
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, help="Drop all but the newest so many versions of each.")
    ] = None,
    grace: Annotated[float, typer.Option("--grace", min=0, help="Hours that a package without a name stays.")] = 1.0,
    place: Place = None,
    json: Json = False,
) -> None:
    """Remove packages that no version names.

    Example: `intaglio store gc --keep 5`
    """
    from datetime import timedelta

    removed = open_store(place).collect(keep, timedelta(hours=grace))
    if json:
        print_json(removed)
    else:
        typer.echo(f"removed {len(removed)} packages")
