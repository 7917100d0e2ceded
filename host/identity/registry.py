"""What there is in a fleet: one SQLite file of fleets, device types, devices, gateways, workers and certificates.

Names are unique per kind. A device is bound to the unique id of its chip: the id is unique too, stands in the device's
certificate, and is the device's level in its topics.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intaglio.host.identity.certificates import Reason, Revoked
from intaglio.host.identity.names import taken, unknown
from intaglio.quantizer.errors import IdentityError

SESSION_KEY_BYTES = 32
_APPLICATION_ID = 0x494E5446
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE fleets (
    name TEXT PRIMARY KEY,
    created INTEGER NOT NULL
) STRICT;
CREATE TABLE types (
    name TEXT PRIMARY KEY,
    board TEXT NOT NULL,
    models TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;
CREATE TABLE members (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER,
    PRIMARY KEY (kind, name)
) STRICT;
CREATE TABLE devices (
    name TEXT PRIMARY KEY,
    chip TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL REFERENCES types(name),
    fleet TEXT NOT NULL REFERENCES fleets(name),
    gateway TEXT,
    key BLOB NOT NULL,
    kind TEXT NOT NULL DEFAULT 'device',
    gateway_kind TEXT NOT NULL DEFAULT 'gateway',
    FOREIGN KEY (kind, name) REFERENCES members(kind, name),
    FOREIGN KEY (gateway_kind, gateway) REFERENCES members(kind, name)
) STRICT;
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    made INTEGER NOT NULL,
    until INTEGER NOT NULL,
    revoked INTEGER,
    reason TEXT,
    FOREIGN KEY (kind, name) REFERENCES members(kind, name)
) STRICT;
CREATE INDEX certificates_by_member ON certificates (kind, name);
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
"""
_DEVICES = """
SELECT d.name, d.chip, d.type, d.fleet, d.gateway, m.revoked, m.created, d.key
FROM devices d JOIN members m ON m.kind = 'device' AND m.name = d.name
"""
_MAKE = {
    "fleet": "intaglio fleet create NAME",
    "device type": "intaglio device-type add NAME --board BOARD",
    "device": "intaglio device register NAME --type TYPE --fleet FLEET --id HEX",
    "gateway": "intaglio ca issue gateway NAME -o FOLDER",
    "worker": "intaglio ca issue worker NAME -o FOLDER",
    "broker": "intaglio fleet broker -o FOLDER",
}


@dataclass(frozen=True)
class DeviceType:
    """Devices that are alike: their board, and the models that are meant for them."""

    name: str
    board: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class Device:
    """A registered device.

    Attributes:
        chip: unique id in lower-case hexadecimal; the board's name where the board has none.
        gateway: that may speak for it; None when it speaks for itself only.
        revoked: when, in seconds since 1970-01-01 UTC; None when it is not.
        key: of its authorised sessions, 32 bytes.
    """

    name: str
    chip: str
    type: str
    fleet: str
    gateway: str | None
    revoked: int | None
    created: int
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Entry:
    """A certificate that was issued; times in seconds since 1970-01-01 UTC, serial in hexadecimal."""

    serial: str
    kind: str
    name: str
    made: int
    until: int
    revoked: int | None
    reason: Reason | None

    @property
    def identity(self) -> str:
        return f"{self.kind}:{self.name}"

    def state(self, at: int) -> str:
        """valid, expired or revoked."""
        if self.revoked is not None:
            return "revoked"
        return "valid" if at <= self.until else "expired"


class Registry:
    """The registry in one file; a context manager.

    Args:
        path: made when missing, readable by its owner alone, since it holds the devices' session keys.

    Raises:
        IdentityError: it cannot be read or written, or is not a registry of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors():
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.touch(0o600)
            except OSError as error:
                raise _unwritable(path, str(error.strerror)) from None
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("PRAGMA foreign_keys=ON")
                self._create()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what the block writes, or nothing."""
        with self._errors():
            # IMMEDIATE: two writers queue here, where the time-out holds, not at their first write.
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                    self._db.execute("ROLLBACK")
                raise

    def add_fleet(self, name: str, at: int) -> None:
        """Raises: IdentityError: the name is taken."""
        self._insert("fleet", name, "INSERT INTO fleets VALUES (?, ?)", name, at)

    def fleets(self) -> dict[str, int]:
        """Number of devices by fleet."""
        sql = "SELECT f.name, count(d.name) FROM fleets f LEFT JOIN devices d ON d.fleet = f.name GROUP BY f.name"
        return dict(self._all(f"{sql} ORDER BY f.name"))

    def check_fleet(self, name: str) -> None:
        """Raises: IdentityError: there is no such fleet; the message names the nearest."""
        self._check("fleet", name, self.fleets())

    def add_type(self, made: DeviceType, at: int) -> None:
        """Raises: IdentityError: the name is taken."""
        row = (made.name, made.board, json.dumps(made.models), at)
        self._insert("device type", made.name, "INSERT INTO types VALUES (?, ?, ?, ?)", *row)

    def types(self) -> dict[str, DeviceType]:
        """Device types by name."""
        rows = self._all("SELECT name, board, models FROM types ORDER BY name")
        return {name: DeviceType(name, board, tuple(json.loads(models))) for name, board, models in rows}

    def type(self, name: str) -> DeviceType:
        """Raises: IdentityError: there is none of this name; the message names the nearest."""
        types = self.types()
        self._check("device type", name, types)
        return types[name]

    def add_member(self, kind: str, name: str, at: int) -> None:
        """A gateway, worker, broker or device that certificates are issued for."""
        self._insert(kind, name, "INSERT INTO members (kind, name, created) VALUES (?, ?, ?)", kind, name, at)

    def members(self, kind: str) -> dict[str, int | None]:
        """By name, when they were revoked; None when not."""
        return dict(self._all("SELECT name, revoked FROM members WHERE kind = ? ORDER BY name", kind))

    def check_member(self, kind: str, name: str) -> None:
        """Raises: IdentityError: there is none of this name, or it is revoked."""
        members = self.members(kind)
        self._check(kind, name, members)
        if members[name] is not None:
            raise IdentityError(f"{kind} {name!r}", "is revoked", f"register another {kind}: a revoked one stays so")

    def revoke_member(self, kind: str, name: str, at: int, reason: Reason) -> int:
        """Revoke a member and what was issued for it; returns how many certificates that was."""
        self._run("UPDATE members SET revoked = ? WHERE kind = ? AND name = ? AND revoked IS NULL", at, kind, name)
        return self.revoke_certificates(kind, name, at, reason)

    def add_device(self, device: Device) -> None:
        """Raises: IdentityError: the name is taken, or the chip is registered already."""
        for other in self._select(f"{_DEVICES} WHERE d.chip = ?", device.chip):
            what = f"is registered already, as {other.name!r}"
            hint = "`intaglio device show` tells more" if other.revoked is None else "it was revoked, and stays so"
            raise IdentityError(f"chip {device.chip}", what, hint)
        self.add_member("device", device.name, device.created)
        row = (device.name, device.chip, device.type, device.fleet, device.gateway, device.key)
        self._run("INSERT INTO devices (name, chip, type, fleet, gateway, key) VALUES (?, ?, ?, ?, ?, ?)", *row)

    def move_device(self, name: str, fleet: str, gateway: str | None) -> None:
        """Put a device into another fleet or behind another gateway."""
        self._run("UPDATE devices SET fleet = ?, gateway = ? WHERE name = ?", fleet, gateway, name)

    def devices(self, fleet: str | None = None) -> list[Device]:
        """Devices by name: all, or those of a fleet."""
        if fleet is None:
            return self._select(f"{_DEVICES} ORDER BY d.name")
        return self._select(f"{_DEVICES} WHERE d.fleet = ? ORDER BY d.name", fleet)

    def device(self, name: str) -> Device:
        """Raises: IdentityError: there is none of this name; the message names the nearest."""
        found = self._select(f"{_DEVICES} WHERE d.name = ?", name)
        if not found:
            raise unknown("device", name, self.members("device"), _MAKE["device"])
        return found[0]

    def add_certificate(self, entry: Entry) -> None:
        """Note a certificate."""
        row = (entry.serial, entry.kind, entry.name, entry.made, entry.until)
        self._run("INSERT INTO certificates (serial, kind, name, made, until) VALUES (?, ?, ?, ?, ?)", *row)

    def drop_certificate(self, serial: str) -> None:
        """Forget a certificate that nobody ever had."""
        self._run("DELETE FROM certificates WHERE serial = ?", serial)

    def certificates(self, kind: str | None = None, name: str | None = None) -> list[Entry]:
        """Certificates in the order in which they were made: all, or those of a member."""
        sql = "SELECT serial, kind, name, made, until, revoked, reason FROM certificates"
        order = "ORDER BY made, rowid"
        if kind is None:
            return [Entry(*row) for row in self._all(f"{sql} {order}")]
        return [Entry(*row) for row in self._all(f"{sql} WHERE kind = ? AND name = ? {order}", kind, name)]

    def holders(self, kind: str, at: int) -> set[str]:
        """Names of the members that have a certificate which is neither revoked nor expired."""
        sql = "SELECT DISTINCT name FROM certificates WHERE kind = ? AND revoked IS NULL AND until >= ?"
        return {name for (name,) in self._all(sql, kind, at)}

    def certificate(self, serial: str) -> Entry | None:
        """The certificate of a serial number, or None."""
        sql = "SELECT serial, kind, name, made, until, revoked, reason FROM certificates WHERE serial = ?"
        return next((Entry(*row) for row in self._all(sql, serial)), None)

    def revoke_certificates(self, kind: str, name: str, at: int, reason: Reason, but: str = "") -> int:
        """Revoke what was issued for a member, but for one serial number; returns how many were not revoked before."""
        return self._run(
            "UPDATE certificates SET revoked = ?, reason = ? "
            "WHERE kind = ? AND name = ? AND serial <> ? AND revoked IS NULL",
            *(at, reason, kind, name, but),
        )

    def revoke_certificate(self, serial: str, at: int, reason: Reason) -> int:
        """Revoke one certificate; returns 0 when it was revoked before."""
        sql = "UPDATE certificates SET revoked = ?, reason = ? WHERE serial = ? AND revoked IS NULL"
        return self._run(sql, at, reason, serial)

    def revoked(self) -> list[Revoked]:
        """The entries of the revocation list; expired certificates stay on it."""
        sql = "SELECT serial, revoked, reason FROM certificates WHERE revoked IS NOT NULL ORDER BY revoked, serial"
        return [Revoked(*row) for row in self._all(sql)]

    def setting(self, name: str, default: str) -> str:
        """A value that the registry keeps."""
        rows = self._all("SELECT value FROM settings WHERE name = ?", name)
        return str(rows[0][0]) if rows else default

    def set_setting(self, name: str, value: str) -> None:
        """Keep a value."""
        self._run("INSERT INTO settings VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", name, value)

    def _check(self, what: str, name: str, known: dict[str, Any]) -> None:
        if name not in known:
            raise unknown(what, name, known, _MAKE[what])

    def _insert(self, what: str, name: str, sql: str, *values: object) -> None:
        try:
            self._db.execute(sql, values)
        except sqlite3.IntegrityError:
            raise taken(what, name) from None

    def _run(self, sql: str, *values: object) -> int:
        with self._errors():
            return self._db.execute(sql, values).rowcount

    def _all(self, sql: str, *values: object) -> list[Any]:
        with self._errors():
            return self._db.execute(sql, values).fetchall()

    def _select(self, sql: str, *values: object) -> list[Device]:
        return [Device(*row) for row in self._all(sql, *values)]

    def _create(self) -> None:
        with self.transaction():
            application, version = (
                self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            if (application, version) == (_APPLICATION_ID, _SCHEMA_VERSION):
                return
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if application or version or tables:
                raise IdentityError(str(self.path), "is not a registry of this version", "name another INTAGLIO_FLEET")
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _unwritable(self.path, str(error).lower()) from None


def _unwritable(path: Path, why: str) -> IdentityError:
    return IdentityError(str(path), f"cannot be used ({why})", "name another folder in INTAGLIO_FLEET")
