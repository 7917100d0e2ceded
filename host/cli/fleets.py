"""Commands on fleets and what is in them: fleet, device-type, device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.host.cli.identity import (
    Days,
    Name,
    Out,
    Replace,
    Request,
    Why,
    checked_reason,
    date,
    entry_facts,
    office,
    show_issued,
    show_revoked,
)
from intaglio.host.cli.options import Json
from intaglio.host.cli.output import print_json, table

if TYPE_CHECKING:
    from intaglio.host.identity.registry import Device

Gateway = Annotated[str | None, typer.Option("--gateway", help="Gateway that speaks for it.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    fleet = typer.Typer(no_args_is_help=True, help="Fleets and their broker: create, list, show, broker.")
    fleet.command("create")(fleet_create_command)
    fleet.command("list")(fleet_list_command)
    fleet.command("show")(fleet_show_command)
    fleet.command("broker")(fleet_broker_command)
    app.add_typer(fleet, name="fleet")
    kind = typer.Typer(no_args_is_help=True, help="Types of devices: add, list.")
    kind.command("add")(type_add_command)
    kind.command("list")(type_list_command)
    app.add_typer(kind, name="device-type")
    device = typer.Typer(no_args_is_help=True, help="Devices: register, list, show, move, key, cert, revoke.")
    device.command("register")(device_register_command)
    device.command("list")(device_list_command)
    device.command("show")(device_show_command)
    device.command("move")(device_move_command)
    device.command("key")(device_key_command)
    device.command("cert")(device_cert_command)
    device.command("revoke")(device_revoke_command)
    app.add_typer(device, name="device")


def fleet_create_command(name: Name, json: Json = False) -> None:
    """Create a fleet: devices whose topics and captures belong together.

    Example: `intaglio fleet create meadow`
    """
    with office() as desk:
        desk.create_fleet(name)
    if json:
        print_json({"name": name})
    else:
        typer.echo(f"fleet {name}")


def fleet_list_command(json: Json = False) -> None:
    """List the fleets.

    Example: `intaglio fleet list`
    """
    with office() as desk:
        fleets = desk.registry.fleets()
    if json:
        print_json([{"name": name, "devices": count} for name, count in fleets.items()])
        return
    table("fleets", ("name", "devices"), list(fleets.items()))


def fleet_show_command(name: Name, json: Json = False) -> None:
    """Show a fleet: its devices, their types and gateways, and how many of each there are.

    Example: `intaglio fleet show meadow`
    """
    from collections import Counter

    with office() as desk:
        desk.registry.check_fleet(name)
        devices = desk.registry.devices(name)
    facts = {
        "name": name,
        "devices": len(devices),
        "revoked": sum(device.revoked is not None for device in devices),
        "types": dict(Counter(device.type for device in devices)),
        "gateways": dict(Counter(device.gateway for device in devices if device.gateway)),
    }
    if json:
        print_json(facts | {"members": [device_facts(device) for device in devices]})
        return
    flat = {key: ", ".join(f"{k}: {n}" for k, n in v.items()) if isinstance(v, dict) else v for key, v in facts.items()}
    table(f"fleet {name}", ("fact", "value"), [(key, str(value)) for key, value in flat.items()])
    device_table(f"devices of {name}", devices)


def fleet_broker_command(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder; what is there of an earlier time is brought up to date.")
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", help="Name or address of the broker, as clients call it; may be given again.", show_default=False
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="To listen on.")] = 8883,
    bind: Annotated[str | None, typer.Option("--bind", help="Address to listen on; all when not given.")] = None,
    json: Json = False,
) -> None:
    """Write mosquitto's configuration: listener with TLS, who may use which topics, whose certificates are revoked.

    Run it again after every change, and send mosquitto a SIGHUP. The broker's key and certificate stay as long as they
    hold; the list of revoked certificates is signed anew, and has to be once in a year.

    Example: `intaglio fleet broker -o broker --host broker.example.org`
    """
    from dataclasses import asdict

    from intaglio.host.identity.broker import CONFIGURATION, write_broker

    with office() as desk:
        written = write_broker(desk, out, tuple(host or ()), port, bind)
    if json:
        print_json(asdict(written))
        return
    counts = f"{written.devices} devices, {written.gateways} gateways, {written.workers} workers"
    typer.echo(f"{counts}; start it: mosquitto -c {written.folder / CONFIGURATION}")


def type_add_command(
    name: Name,
    board: Annotated[str, typer.Option("--board", help="Board of these devices.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Name of a package meant for them; may be given again.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Add a type of devices: one board, and the models that are meant for it.

    Example: `intaglio device-type add leaf --board microbit --model kws`
    """
    from dataclasses import asdict

    with office() as desk:
        made = desk.add_type(name, board, tuple(model or ()))
    if json:
        print_json(asdict(made))
    else:
        typer.echo(f"device type {name}: board {board}")


def type_list_command(json: Json = False) -> None:
    """List the types of devices.

    Example: `intaglio device-type list`
    """
    from dataclasses import asdict

    with office() as desk:
        types = desk.registry.types().values()
    if json:
        print_json([asdict(one) for one in types])
        return
    table("device types", ("name", "board", "models"), [(t.name, t.board, ", ".join(t.models)) for t in types])


def device_register_command(
    name: Name,
    type_: Annotated[str, typer.Option("--type", help="Device type.")],
    fleet: Annotated[str, typer.Option("--fleet", help="Fleet that it joins.")],
    id_: Annotated[
        str | None, typer.Option("--id", help="Unique id of its chip, hexadecimal.", show_default=False)
    ] = None,
    port: Annotated[
        str | None, typer.Option("--port", help="Read the id from the device on this port.", show_default=False)
    ] = None,
    gateway: Gateway = None,
    json: Json = False,
) -> None:
    """Register a device: a name bound to the unique id of its chip, and a key for its authorised sessions.

    A board whose chip has no unique id goes by the board's name, so that there can be one of it.

    Example: `intaglio device register leaf-1 --type leaf --fleet meadow --id 0123456789abcdef --gateway barn`
    """
    from intaglio.quantizer.errors import UsageError

    if id_ is not None and port is not None:
        raise UsageError("--id, --port", "one of the two is enough", "leave the other out")
    with office() as desk:
        if port is not None:
            id_ = read_chip(port, desk.registry.type(type_).board)
        device = desk.register(name, type_, fleet, gateway, id_)
    if json:
        print_json(device_facts(device))
    else:
        typer.echo(f"{device.name}: chip {device.chip}, fleet {device.fleet}")


def read_chip(port: str, board: str) -> str | None:
    """The unique id of the device on a port; None when its chip has none.

    Raises:
        IdentityError: it is another board.
        LinkError: no device answers there.
    """
    from intaglio.host.cli.device import connected
    from intaglio.quantizer.errors import IdentityError

    with connected(port, 115200) as client:
        hello = client.hello
    if hello.board != board:
        raise IdentityError(port, f"the device is a {hello.board}, not a {board}", "choose another --type or --port")
    return None if hello.device == hello.board else hello.device


def device_facts(device: Device) -> dict[str, Any]:
    """A device as the commands print it; its key is not printed."""
    return {
        "name": device.name,
        "chip": device.chip,
        "type": device.type,
        "fleet": device.fleet,
        "gateway": device.gateway,
        "state": "active" if device.revoked is None else "revoked",
        "registered": date(device.created),
    }


def device_table(title: str, devices: list[Device]) -> None:
    """Print devices."""
    columns = ("name", "chip", "type", "fleet", "gateway", "state")
    rows = [tuple(device_facts(device)[column] for column in columns) for device in devices]
    table(title, columns, rows)


def device_list_command(
    fleet: Annotated[str | None, typer.Option("--fleet", help="Only those of this fleet.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """List the registered devices.

    Example: `intaglio device list --fleet meadow`
    """
    with office() as desk:
        if fleet is not None:
            desk.registry.check_fleet(fleet)
        devices = desk.registry.devices(fleet)
    if json:
        print_json([device_facts(device) for device in devices])
        return
    device_table("devices", devices)


def device_show_command(name: Name, json: Json = False) -> None:
    """Show a device: its chip, its topics and its certificates.

    Example: `intaglio device show leaf-1`
    """
    from intaglio.host.identity.broker import device_topics

    with office() as desk:
        device = desk.registry.device(name)
        entries = [entry_facts(entry) for entry in desk.registry.certificates("device", name)]
    facts = device_facts(device) | dict(zip(("up", "down"), device_topics(device), strict=True))
    if json:
        print_json(facts | {"certificates": entries})
        return
    table(f"device {name}", ("fact", "value"), list(facts.items()))
    table("certificates", ("serial", "state", "until"), [(e["serial"], e["state"], e["until"]) for e in entries])


def device_move_command(
    name: Name,
    fleet: Annotated[str | None, typer.Option("--fleet", help="Fleet to join.", show_default=False)] = None,
    gateway: Annotated[
        str | None,
        typer.Option("--gateway", help="Gateway that speaks for it from now on; '' for none.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Move a device to another fleet or gateway. Its certificates stay valid; its topics follow the fleet.

    Example: `intaglio device move leaf-1 --gateway ''`
    """
    from intaglio.quantizer.errors import UsageError

    if fleet is None and gateway is None:
        raise UsageError("--fleet, --gateway", "at least one is needed", "say where the device goes")
    with office() as desk:
        device = desk.move(name, fleet, gateway)
    if json:
        print_json(device_facts(device))
    else:
        typer.echo(f"{device.name}: fleet {device.fleet}, gateway {device.gateway or 'none'}")


def device_key_command(
    name: Name,
    out: Annotated[Path, typer.Option("-o", "--out", help="New file, which its owner alone can read.")],
    json: Json = False,
) -> None:
    """Write the key of a device's authorised sessions, 32 bytes, for whoever may load models and configure it.

    Example: `intaglio device key leaf-1 -o leaf-1.key`
    """
    from intaglio.host.identity.authority import write_key, writing

    with office() as desk:
        desk.registry.check_member("device", desk.registry.device(name).name)
        key = desk.registry.device(name).key
    with writing(out):
        write_key(out, key)
    if json:
        print_json({"device": name, "file": str(out)})


def device_cert_command(
    name: Name,
    out: Out,
    days: Days = None,
    replace: Replace = False,
    csr: Request = None,
    json: Json = False,
) -> None:
    """Issue a certificate with a new key to a device that connects by itself; again, to renew it.

    Earlier certificates stay valid, for the change-over, unless --replace is given.

    Example: `intaglio device cert leaf-1 -o leaf-1`
    """
    with office() as desk:
        show_issued(desk.issue("device", name, out, days, replace, csr), out, json)


def device_revoke_command(name: Name, reason: Why = "unspecified", json: Json = False) -> None:
    """Revoke a device for good, with all its certificates; `intaglio fleet broker` then tells the broker.

    Example: `intaglio device revoke leaf-1 --reason key_compromise`
    """
    with office() as desk:
        show_revoked(f"device:{name}", desk.revoke("device", name, checked_reason(reason)), json)
