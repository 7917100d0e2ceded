"""Commands on a device at the end of a line: devices, models, describe, predict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.host.cli.options import Json
from intaglio.host.cli.output import print_json, progress, table

if TYPE_CHECKING:
    from intaglio.host.client import Client, Model
    from intaglio.host.tensors import TensorMeta

Port = Annotated[str, typer.Option("--port", help="/dev/tty..., COM3, socket://host:port or sim:BOARD.")]
Baud = Annotated[int, typer.Option("--baud", min=1200, help="Bits per second of a serial port.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Name or index on the device; else the only one.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("devices")(devices_command)
    app.command("models")(models_command)
    app.command("describe")(describe_command)
    app.command("predict")(predict_command)


@contextmanager
def connected(port: str, baud: int) -> Iterator[Client]:
    """A client on a port; a progress bar while the line is opened and the device answers."""
    from intaglio.host.client import Client

    with progress(f"connecting to {port}", None):
        client = Client.open(port, baud)
    with client:
        yield client


def devices_command(json: Json = False) -> None:
    """List the serial ports of this machine and the boards that can be simulated.

    Example: `intaglio devices`
    """
    from serial.tools.list_ports import comports

    from intaglio.boards.board import board_names, load_board

    ports = [{"port": p.device, "what": p.description, "hardware": p.hwid} for p in sorted(comports())]
    boards = [load_board(name) for name in board_names()]
    simulated = [{"port": f"sim:{b.name}", "what": b.title, "hardware": b.mcu} for b in boards if b.simulators.qemu]
    if json:
        print_json(ports + simulated)
        return
    table("lines to devices", ("port", "what", "hardware"), [tuple(row.values()) for row in ports + simulated])


def models_command(port: Port, baud: Baud = 115200, json: Json = False) -> None:
    """List the models on a device, and what its slots hold.

    Example: `intaglio models --port /dev/ttyACM0`
    """
    from dataclasses import asdict

    with connected(port, baud) as client:
        models, slots = client.models(), client.slots.list()
    if json:
        held = {slot.model: slot for slot in slots if slot.model is not None}
        print_json([_model_facts(m) | {"slot": asdict(held[m.index]) if m.index in held else None} for m in models])
        return
    rows = [(m.index, m.name, m.layers, m.arena_bytes, m.state_bytes, m.digest[:16]) for m in models]
    table("models", ("index", "name", "layers", "arena bytes", "state bytes", "digest"), rows)
    if slots:
        held_rows = [(s.index, s.state, s.name, s.version, s.model, s.size, s.digest[:16]) for s in slots]
        table("slots", ("slot", "state", "name", "version", "model", "room", "package"), held_rows)


def describe_command(port: Port, model: ModelName = None, baud: Baud = 115200, json: Json = False) -> None:
    """Describe a device and one of its models: tensors with shape, type, scale and zero point.

    Example: `intaglio describe --port /dev/ttyACM0 --model digits`
    """
    from dataclasses import asdict

    with connected(port, baud) as client:
        hello, found = client.hello, _choose(client, model)
        beat = client.heartbeat()
    if json:
        print_json({"device": asdict(hello), "model": _model_facts(found), "heartbeat": beat})
        return
    table("device", ("fact", "value"), list(asdict(hello).items()))
    table("heartbeat", ("counter", "value"), list(beat.items()))
    rows = [
        (side, t.name, "x".join(map(str, t.shape)), t.dtype, t.scale, t.zero_point, t.nbytes)
        for side, tensors in (("input", found.inputs), ("output", found.outputs))
        for t in tensors
    ]
    table(found.name, ("side", "name", "shape", "dtype", "scale", "zero point", "bytes"), rows)


def predict_command(
    port: Port,
    samples_file: Annotated[Path, typer.Option("--samples", help=".npz (x, and y for labels) or .npy.")],
    model: ModelName = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="At most so many samples.")] = None,
    capture: Annotated[bool, typer.Option("--capture", help="Record inputs and outputs on the device.")] = False,
    store: Annotated[Path | None, typer.Option("--store", help="Move captured records into this store.")] = None,
    baud: Baud = 115200,
    json: Json = False,
) -> None:
    """Run samples on a device and print its predictions; with labels, its accuracy.

    Example: `intaglio predict --port sim:microbit --samples digits_test.npz --capture --store captures.db`
    """
    from intaglio.host.predicting import device_samples, predict_all

    with connected(port, baud) as client:
        found = _choose(client, model)
        samples, labels = device_samples(samples_file, found, count)
        with progress(f"predicting on {client.hello.board}", len(samples)) as bar:
            results = predict_all(client, found, samples, capture or store is not None, store, bar.advance)
    predicted = [int(r.outputs[0].argmax()) for r in results]
    right = None if labels is None else sum(int(p == y) for p, y in zip(predicted, labels, strict=True))
    if json:
        rows: list[dict[str, Any]] = [
            {"outputs": [o.ravel().tolist() for o in r.outputs], "us": r.us, "cycles": r.cycles, "record": r.record}
            for r in results
        ]
        print_json({"predictions": rows, "samples": len(results), "right": right})
        return
    shown = [
        (i, p, None if labels is None else int(labels[i]), r.us, r.cycles or None, r.record)
        for i, (p, r) in enumerate(zip(predicted, results, strict=True))
    ]
    table(found.name, ("sample", "class", "label", "microseconds", "cycles", "record"), shown[:20])
    if len(shown) > 20:
        typer.echo(f"... {len(shown) - 20} more; --json prints all")
    if right is not None:
        typer.echo(f"accuracy {right / len(results):.4f} ({right} of {len(results)})")


def _choose(client: Client, model: str | None) -> Model:
    from intaglio.quantizer.errors import UsageError

    if model is not None:
        return client.describe(int(model) if model.isdigit() else model)
    models = client.models()
    if len(models) != 1:
        names = ", ".join(m.name for m in models) or "none"
        raise UsageError("--model", f"the device has {len(models)} models ({names})", "name one")
    return models[0]


def _model_facts(model: Model) -> dict[str, Any]:
    def port(t: TensorMeta) -> dict[str, Any]:
        return {"name": t.name, "dtype": t.dtype, "shape": list(t.shape), "scale": t.scale, "zero_point": t.zero_point}

    return {
        "index": model.index,
        "name": model.name,
        "digest": model.digest,
        "arena_bytes": model.arena_bytes,
        "state_bytes": model.state_bytes,
        "layers": model.layers,
        "inputs": [port(t) for t in model.inputs],
        "outputs": [port(t) for t in model.outputs],
    }
