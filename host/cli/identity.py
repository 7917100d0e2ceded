"""Commands on the certificate authority: ca."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.host.cli.options import Json
from intaglio.host.cli.output import print_json, table

if TYPE_CHECKING:
    from intaglio.host.identity.certificates import Reason
    from intaglio.host.identity.office import Office
    from intaglio.host.identity.registry import Entry

Name = Annotated[str, typer.Argument(help="Its name.", show_default=False)]
Out = Annotated[Path, typer.Option("-o", "--out", help="New or empty folder for key, certificate and root.")]
Days = Annotated[int | None, typer.Option("--days", help="How long the certificate lasts.", show_default=False)]
Replace = Annotated[bool, typer.Option("--replace", help="Revoke the earlier certificates of the same one.")]
Request = Annotated[
    Path | None,
    typer.Option("--csr", help="Signing request (PEM) of an EC P-256 key that stays where it is.", show_default=False),
]
Why = Annotated[
    str, typer.Option("--reason", help="unspecified, key_compromise, superseded or cessation_of_operation.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    ca = typer.Typer(no_args_is_help=True, help="The certificate authority: init, issue, list, check, revoke.")
    ca.command("init")(ca_init_command)
    ca.command("issue")(ca_issue_command)
    ca.command("list")(ca_list_command)
    ca.command("check")(ca_check_command)
    ca.command("revoke")(ca_revoke_command)
    app.add_typer(ca, name="ca")


def office() -> Office:
    """The authority and the registry that commands mean."""
    from intaglio.host.identity.office import Office

    return Office()


def ca_init_command(
    name: Annotated[str, typer.Option("--name", help="Common name of the root.")] = "Intaglio fleet root",
    days: Annotated[int, typer.Option("--days", help="How long the root lasts.")] = 7305,
    json: Json = False,
) -> None:
    """Make the certificate authority of a fleet in its folder ($INTAGLIO_FLEET, else ~/.local/share/intaglio/fleet).

    Example: `intaglio ca init`
    """
    from datetime import timedelta

    from intaglio.host.identity.authority import KEY, fleet_folder, new_authority

    folder = fleet_folder()
    root = new_authority(folder, name, timedelta(days=days))
    until = root.certificate.not_valid_after_utc
    if json:
        print_json({"folder": str(folder), "name": name, "serial": root.serial, "until": until.isoformat()})
        return
    typer.echo(f"{name}, until {until:%Y-%m-%d}; its key is {folder / KEY}: back the folder up, and show it to nobody")


def ca_issue_command(
    kind: Annotated[str, typer.Argument(help="gateway or worker.", show_default=False)],
    name: Name,
    out: Out,
    days: Days = None,
    replace: Replace = False,
    csr: Request = None,
    json: Json = False,
) -> None:
    """Issue a certificate with a new key to a gateway or an ingest worker; again, to renew it.

    Earlier certificates stay valid, for the change-over, unless --replace is given.

    Example: `intaglio ca issue gateway barn -o barn`
    """
    with office() as desk:
        show_issued(desk.issue(kind, name, out, days, replace, csr), out, json)


def show_issued(entry: Entry, out: Path, json: bool) -> None:
    """Print what a certificate says, and where it is."""
    if json:
        print_json(entry_facts(entry) | {"folder": str(out)})
        return
    typer.echo(f"{entry.identity}: {entry.serial}, until {date(entry.until)}, in {out}")


def entry_facts(entry: Entry) -> dict[str, Any]:
    """A certificate as the commands print it."""
    return {
        "identity": entry.identity,
        "serial": entry.serial,
        "state": entry.state(seconds()),
        "made": date(entry.made),
        "until": date(entry.until),
        "revoked": None if entry.revoked is None else date(entry.revoked),
        "reason": entry.reason,
    }


def date(at: int) -> str:
    """Seconds since 1970-01-01 UTC as a date."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def seconds() -> int:
    """The time, in seconds since 1970-01-01 UTC."""
    return int(datetime.now(UTC).timestamp())


def ca_list_command(json: Json = False) -> None:
    """List the certificates that were issued: of whom, until when, revoked or not.

    Example: `intaglio ca list`
    """
    with office() as desk:
        entries = [entry_facts(entry) for entry in desk.registry.certificates()]
    if json:
        print_json(entries)
        return
    rows = [(e["identity"], e["state"], e["until"], e["serial"]) for e in entries]
    table("certificates", ("identity", "state", "until", "serial"), rows)


def ca_check_command(
    file: Annotated[Path, typer.Argument(help="Certificate in PEM.", show_default=False)],
    json: Json = False,
) -> None:
    """Say whose a certificate is and whether it holds; one of another authority is refused.

    Example: `intaglio ca check barn/gateway.pem`
    """
    with office() as desk:
        facts = entry_facts(desk.check(file))
    if json:
        print_json(facts)
        return
    table(str(file), ("fact", "value"), list(facts.items()))


def ca_revoke_command(
    who: Annotated[str, typer.Argument(help="gateway:NAME, worker:NAME, or a certificate's file.", show_default=False)],
    reason: Why = "unspecified",
    json: Json = False,
) -> None:
    """Revoke a gateway or worker for good, or one certificate; `intaglio fleet broker` then tells the broker.

    Example: `intaglio ca revoke barn/gateway.pem --reason superseded`
    """
    kind, colon, name = who.partition(":")
    why = checked_reason(reason)
    with office() as desk:
        if colon and kind in ("gateway", "worker"):
            show_revoked(who, desk.revoke(kind, name, why), json)
        else:
            entry = desk.revoke_certificate(Path(who), why)
            show_revoked(f"{entry.identity} {entry.serial}", 1, json)


def checked_reason(reason: str) -> Reason:
    """Raises: UsageError: not a reason."""
    from intaglio.host.identity.certificates import REASONS
    from intaglio.quantizer.errors import UsageError

    for known in REASONS:
        if reason == known:
            return known
    raise UsageError(f"--reason {reason}", "is not a reason", f"try {', '.join(REASONS)}")


def show_revoked(who: str, certificates: int, json: bool) -> None:
    """Print what was revoked."""
    if json:
        print_json({"revoked": who, "certificates": certificates})
        return
    what = "1 certificate" if certificates == 1 else f"{certificates} certificates"
    typer.echo(f"revoked {who}: {what}; write the broker's files anew: intaglio fleet broker -o FOLDER")
