"""Commands on boards: build, flash, simulate."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.host.cli.options import Json, Quantiser, complete_board, takes_quantiser
from intaglio.host.cli.output import print_json, progress, table

if TYPE_CHECKING:
    from intaglio.host.build import FirmwareImage

Models = Annotated[
    list[Path] | None,
    typer.Argument(help="Model files, or folders that `intaglio compile` wrote; none builds a bare agent."),
]
BoardName = Annotated[
    str,
    typer.Option("--board", help="Board name; `intaglio doctor --boards` lists them.", autocompletion=complete_board),
]
NoSlots = Annotated[
    bool, typer.Option("--no-slots", help="Give the program all of the flash; no models at run time then.")
]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", help="Key (name or path) whose packages the firmware loads; may be given several times."),
]
Out = Annotated[Path | None, typer.Option("-o", "--out", help="Build folder; build/firmware/BOARD when not given.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("build")(takes_quantiser(build_command))
    app.command("flash")(takes_quantiser(flash_command))
    app.command("simulate")(takes_quantiser(simulate_command))


def build_here(
    models: list[Path],
    board: str,
    out: Path | None,
    quantiser: Quantiser,
    no_slots: bool = False,
    trust: list[str] | None = None,
) -> FirmwareImage:
    """Compile the models that are files, then build the firmware.

    Raises:
        IntaglioError: see `compile_sized` and `build_firmware`; a new folder is taken away again.
    """
    from intaglio.boards.board import load_board
    from intaglio.host.build import build_firmware
    from intaglio.host.files import build_folder
    from intaglio.host.keys import load_public_key
    from intaglio.host.sizing import compile_sized

    target = load_board(board)
    keys = [load_public_key(name) for name in trust or []]
    folder = out or Path("build") / "firmware" / board
    libraries = []
    with build_folder(folder):
        for model in models:
            if model.is_dir():
                libraries.append(model)
                continue
            place = folder / "libraries" / model.stem
            libraries.append(compile_sized(model, target.core, place, None, quantiser.options(), board).folder)
        return build_firmware(libraries, target.without_slots() if no_slots else target, folder, trust=keys)


def build_command(
    board: BoardName,
    quantiser: Quantiser,
    models: Models = None,
    out: Out = None,
    no_slots: NoSlots = False,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Build firmware with PlatformIO; prove that it holds no float instruction.

    Example: `intaglio build kws.tflite --board microbit`
    """
    with progress("building", None):
        image = build_here(models or [], board, out, quantiser, no_slots, trust)
    facts = {
        "board": board,
        "elf": str(image.elf),
        "bin": str(image.bin),
        "hex": str(image.hex),
        "flash_bytes": image.flash_bytes,
        "ram_bytes": image.ram_bytes,
        "float_free": image.float_report.clean,
        "findings": list(image.float_report.findings),
    }
    if json:
        print_json(facts)
    else:
        table(f"firmware for {board}", ("fact", "value"), list(facts.items())[1:-1])
        for finding in image.float_report.findings:
            typer.echo(f"float: {finding}")
    if not image.float_report.clean:
        raise typer.Exit(1)


def flash_command(
    board: BoardName,
    quantiser: Quantiser,
    models: Models = None,
    out: Out = None,
    no_slots: NoSlots = False,
    trust: Trust = None,
    probe: Annotated[str | None, typer.Option("--probe", help="Serial number of the probe, when several.")] = None,
    json: Json = False,
) -> None:
    """Build firmware and write it to the board's flash with pyOCD, OpenOCD or its mass-storage volume.

    Example: `intaglio flash kws.tflite --board microbit`
    """
    from intaglio.boards.board import load_board
    from intaglio.host.flash import flash, ways_to_flash

    target = load_board(board)
    ways_to_flash(target)  # before anything is built
    with progress("building", None) as bar:
        image = build_here(models or [], board, out, quantiser, no_slots, trust)
        bar.describe("flashing")
        how = flash(target, image, probe=probe)
    if json:
        print_json({"board": board, "with": how, "hex": str(image.hex)})
        return
    typer.echo(f"flashed {board} with {how}")


def simulate_command(
    board: BoardName,
    quantiser: Quantiser,
    models: Models = None,
    out: Out = None,
    no_slots: NoSlots = False,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Build firmware, start it in the simulator and keep its serial line open until interrupted.

    Example: `intaglio simulate kws.tflite --board microbit`, then in another terminal
    `intaglio models --port socket://127.0.0.1:PORT`
    """
    from intaglio.boards.board import load_board
    from intaglio.host.simulate import Simulation, find_simulator

    target = load_board(board)
    find_simulator(target)  # before anything is built
    with progress("building", None):
        image = build_here(models or [], board, out, quantiser, no_slots, trust)
    with Simulation(target, image.elf, pty=True) as simulation:
        if json:
            print_json({"board": board, "address": simulation.address, "pty": simulation.pty_path})
        else:
            typer.echo(f"{board} is running; its serial line is")
            typer.echo(f"  {simulation.address}")
            if simulation.pty_path:
                typer.echo(f"  {simulation.pty_path}")
            typer.echo("Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            simulation.wait()
