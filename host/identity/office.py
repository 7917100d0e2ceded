"""Authority and registry together: whatever is issued or revoked is noted, and whatever is noted is on the list.

A certificate is noted before its files appear, so that there is none that could not be revoked; the revocation list is
written before the registry is changed for good, so that a cut between the two leaves somebody out, never in.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from intaglio.host.files import whole_file
from intaglio.host.identity.authority import (
    CERTIFICATE,
    CRL,
    REGISTRY,
    check_issuer,
    checked_life,
    crl_date,
    fleet_folder,
    load_authority,
    occupied,
    read_certificate,
    read_request,
    write_key,
    writing,
)
from intaglio.host.identity.certificates import (
    Issued,
    Reason,
    Subject,
    certify,
    common_name,
    make_certificate,
    make_crl,
    now,
    serial_of,
)
from intaglio.host.identity.names import check_chip_id, check_name
from intaglio.host.identity.registry import SESSION_KEY_BYTES, Device, DeviceType, Entry, Registry
from intaglio.quantizer.errors import IdentityError, UsageError

KINDS = ("gateway", "worker")
"""Who gets a certificate by name alone; devices are registered, the broker has its own command."""

GROUP = "group"
"""The file of a worker's folder that holds the name of the workers' group."""

EVERYTHING = "intaglio/+/+/up/#"
"""The topic filter of what comes from all devices."""

CRL_LIFE = timedelta(days=365)
"""After so long without a new list the broker refuses everybody: an old list may hide a revocation."""

LIVES = {
    "broker": timedelta(days=365),
    "gateway": timedelta(days=365),
    "worker": timedelta(days=365),
    "device": timedelta(days=1825),
}
"""How long certificates last; devices are hard to reach."""


class Office:
    """The authority and the registry of one folder; a context manager.

    Args:
        folder: `authority.fleet_folder()` when None.

    Raises:
        IdentityError: the registry cannot be used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or fleet_folder()
        self.registry = Registry(self.folder / REGISTRY)

    def __enter__(self) -> Office:
        return self

    def __exit__(self, *details: object) -> None:
        self.registry.__exit__(*details)

    def create_fleet(self, name: str) -> None:
        """Raises: UsageError, IdentityError: not a name, or taken."""
        with self.registry.transaction():
            self.registry.add_fleet(check_name("fleet", name), _seconds())

    def add_type(self, name: str, board: str, models: tuple[str, ...]) -> DeviceType:
        """Raises: UsageError, BoardError, IdentityError: not a name, no such board, or taken."""
        from intaglio.boards.board import load_board

        made = DeviceType(
            check_name("device type", name), load_board(board).name, tuple(check_name("model", m) for m in models)
        )
        with self.registry.transaction():
            self.registry.add_type(made, _seconds())
        return made

    def register(self, name: str, type_: str, fleet: str, gateway: str | None, chip: str | None) -> Device:
        """Register a device.

        Args:
            chip: unique id in hexadecimal; None where the board's chip has none, and the board's name stands for it.

        Raises:
            UsageError: not a name or an id, or the id has another length than the board's.
            IdentityError: unknown type, fleet or gateway; the name is taken or the chip registered.
        """
        check_name("device", name)
        with self.registry.transaction():
            board = self.registry.type(type_).board
            self._check_place(fleet, gateway)
            key = secrets.token_bytes(SESSION_KEY_BYTES)
            device = Device(name, _chip(board, chip), type_, fleet, gateway, None, _seconds(), key)
            self.registry.add_device(device)
        return device

    def move(self, name: str, fleet: str | None, gateway: str | None) -> Device:
        """Put a device into another fleet, or behind another gateway; None leaves it, the empty gateway is none."""
        with self.registry.transaction():
            device = self.registry.device(name)
            self.registry.check_member("device", name)
            place = fleet or device.fleet, device.gateway if gateway is None else gateway or None
            self._check_place(*place)
            self.registry.move_device(name, *place)
            return self.registry.device(name)

    def issue(
        self,
        kind: str,
        name: str,
        out: Path,
        days: int | None = None,
        replace: bool = False,
        request: Path | None = None,
    ) -> Entry:
        """Issue a client certificate: the folder `out` appears whole, with key, certificate and root.

        Args:
            kind: device, or one of KINDS; these come to be with their first certificate.
            days: life; LIVES when None.
            replace: revoke the member's earlier certificates as superseded. Without it they stay valid, so that a
                client can change over in its own time.
            request: signing request of a key that is made and stays elsewhere; None to make the key here.

        Raises:
            UsageError: no such kind, or not a name.
            IdentityError: unknown or revoked member, no authority, no fit request, or `out` holds something.
        """
        if kind not in (*KINDS, "device"):
            raise UsageError(f"kind {kind!r}", "gets no certificate by this command", f"try {' or '.join(KINDS)}")
        root = load_authority(self.folder)
        public, key = _key_pair(request)
        with _whole_folder(out) as scratch:
            with self.registry.transaction():
                chip = self.registry.device(name).chip if kind == "device" else None
                if kind != "device" and name not in self.registry.members(kind):
                    self.registry.add_member(kind, check_name(kind, name), _seconds())
                self.registry.check_member(kind, name)
                made = certify(root, Subject(kind, name, chip), _life(kind, days), now(), public)
                entry = self._note(kind, name, made)
            try:
                if key:
                    write_key(scratch / f"{kind}.key.pem", Issued(made, key).key_pem())
                (scratch / f"{kind}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
                (scratch / CERTIFICATE).write_bytes(root.certificate_pem())
                if kind == "worker":
                    (scratch / GROUP).write_text(f"{self.group()}\n", encoding="ascii")
                scratch.replace(out)
            except BaseException:
                self.registry.drop_certificate(entry.serial)
                raise
        if replace:
            with self.registry.transaction():
                self.registry.revoke_certificates(kind, name, _seconds(), "superseded", entry.serial)
                self._write_crl(root)
        return entry

    def group(self) -> str:
        """The group in which ingest workers share what comes up: `$share/GROUP/intaglio/+/+/up/#`; their secret.

        Mosquitto lets every client join a shared subscription: what falls to one that may not read it is lost to the
        others. So the name cannot be guessed.
        """
        with self.registry.transaction():
            group = self.registry.setting("share group", "") or f"ingest-{secrets.token_hex(16)}"
            self.registry.set_setting("share group", group)
        return group

    def issue_broker(self, hosts: tuple[str, ...], key: ec.EllipticCurvePrivateKey | None) -> Issued:
        """Issue the broker's certificate, and note it; the caller writes it.

        Args:
            hosts: DNS names and IP addresses under which clients reach it.
            key: to go on with; None for a new one.
        """
        root = load_authority(self.folder)
        with self.registry.transaction():
            if "broker" not in self.registry.members("broker"):
                self.registry.add_member("broker", "broker", _seconds())
            subject = Subject("broker", "broker", hosts=hosts)
            issued = make_certificate(root, subject, LIVES["broker"], now(), key)
            self._note("broker", "broker", issued.certificate)
        return issued

    def revoke(self, kind: str, name: str, reason: Reason) -> int:
        """Revoke a device, gateway or worker for good, with all its certificates; returns how many those were.

        Raises:
            IdentityError: unknown, or revoked already.
        """
        root = load_authority(self.folder)
        with self.registry.transaction():
            if kind == "device":
                self.registry.device(name)
            self.registry.check_member(kind, name)
            count = self.registry.revoke_member(kind, name, _seconds(), reason)
            self._write_crl(root)
        return count

    def revoke_certificate(self, path: Path, reason: Reason) -> Entry:
        """Revoke one certificate, given as a file; its owner's others stay valid.

        Raises:
            IdentityError: not a certificate, of another authority, or revoked already.
        """
        root = load_authority(self.folder)
        with self.registry.transaction():
            entry = self._entry(root, path)
            if not self.registry.revoke_certificate(entry.serial, _seconds(), reason):
                raise IdentityError(str(path), "is revoked already", "there is nothing to do")
            self._write_crl(root)
        return entry

    def check(self, path: Path) -> Entry:
        """What the registry knows of a certificate of this authority, given as a file.

        Raises:
            IdentityError: not a certificate, or of another authority.
        """
        return self._entry(load_authority(self.folder), path)

    def renew_crl(self) -> bytes:
        """Sign a new revocation list; returns it as PEM."""
        root = load_authority(self.folder)
        with self.registry.transaction():
            return self._write_crl(root)

    def _entry(self, root: Issued, path: Path) -> Entry:
        certificate = read_certificate(path)
        check_issuer(root, certificate, str(path))
        entry = self.registry.certificate(serial_of(certificate))
        if entry is None:
            what = f"is of this authority but not in its registry ({common_name(certificate) or 'no name'})"
            raise IdentityError(str(path), what, "restore the registry from its backup")
        return entry

    def _check_place(self, fleet: str, gateway: str | None) -> None:
        self.registry.check_fleet(fleet)
        if gateway is not None:
            self.registry.check_member("gateway", gateway)

    def _note(self, kind: str, name: str, certificate: x509.Certificate) -> Entry:
        until = int(certificate.not_valid_after_utc.timestamp())
        entry = Entry(serial_of(certificate), kind, name, _seconds(), until, None, None)
        self.registry.add_certificate(entry)
        return entry

    def _write_crl(self, root: Issued) -> bytes:
        number = int(self.registry.setting("crl number", "0")) + 1
        self.registry.set_setting("crl number", str(number))
        made = crl_date(self.folder, now())
        crl: x509.CertificateRevocationList = make_crl(root, self.registry.revoked(), number, made, CRL_LIFE)
        pem = crl.public_bytes(serialization.Encoding.PEM)
        with writing(self.folder), whole_file(self.folder / CRL) as scratch:
            scratch.write_bytes(pem)
        return pem


def _chip(board: str, given: str | None) -> str:
    from intaglio.boards.board import load_board

    unique = load_board(board).unique_id
    if unique is None:
        if given is not None:
            raise UsageError(f"--id {given}", f"the chip of board {board} has no unique id", "leave --id out")
        return board
    if given is None:
        raise UsageError(
            "--id", f"is missing: board {board} has a unique id", "give --port to have it read from the device"
        )
    chip = check_chip_id(given)
    if len(chip) != 2 * unique.length:
        hint = f"the unique id of board {board} has {2 * unique.length}"
        raise UsageError(f"--id {given}", f"has {len(chip)} hexadecimal digits", hint)
    return chip


def _key_pair(request: Path | None) -> tuple[ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey | None]:
    """The public key of a request; of a new key, together with it, when there is no request."""
    if request is not None:
        return read_request(request), None
    key = ec.generate_private_key(ec.SECP256R1())
    return key.public_key(), key


def _life(kind: str, days: int | None) -> timedelta:
    return LIVES[kind] if days is None else checked_life(timedelta(days=days))


def _seconds() -> int:
    return int(now().timestamp())


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """Yield a scratch folder, readable by its owner alone, for the block to put in the place of `out`.

    Raises:
        IdentityError: `out` holds something, or cannot be written.
    """
    scratch = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}")
    with writing(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise occupied(out)
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(mode=0o700)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
