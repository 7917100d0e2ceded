"""Captured predictions on disk: an SQLite journal.

A record is durable when `Store.add` returns: the journal is a write-ahead log synchronised at every commit
(`synchronous=FULL`), so a process killed or a machine switched off at any moment loses nothing that was added, and
leaves nothing half-added. A record is keyed (device, boot, sequence); adding it again, as a drain does that was cut
off between commit and acknowledgement, changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from intaglio.host.tensors import TensorMeta
from intaglio.quantizer.errors import StoreError

_APPLICATION_ID = 0x494E5441
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE models (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    inputs TEXT NOT NULL,
    outputs TEXT NOT NULL
) STRICT;
CREATE TABLE records (
    device TEXT NOT NULL,
    boot TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    digest TEXT NOT NULL REFERENCES models(digest),
    time_us INTEGER,
    up_us INTEGER NOT NULL,
    cycles INTEGER NOT NULL,
    inputs BLOB NOT NULL,
    outputs BLOB NOT NULL,
    PRIMARY KEY (device, boot, sequence)
) STRICT;
CREATE INDEX records_by_time ON records (time_us);
"""
_COLUMNS = "device, boot, sequence, digest, time_us, up_us, cycles, inputs, outputs"


@dataclass(frozen=True)
class Record:
    """One captured prediction.

    Attributes:
        device: unique id of the chip in hexadecimal, or the board's name where it has none.
        boot: boot identifier, 16 hexadecimal digits.
        sequence: of the record within the boot; gaps are records that the device dropped.
        model: its name; digest: SHA-256 of its integer graph, hexadecimal.
        time_us: microseconds since 1970-01-01 UTC; None when the device did not know the time.
        up_us: microseconds since the reset.
        cycles: of the prediction, by the core's cycle counter; 0 where it has none.
        inputs, outputs: the tensors' bytes, one tensor after the other.
        fleet: where it came in through a broker; None in a store of one machine, which does not keep it.
    """

    device: str
    boot: str
    sequence: int
    model: str
    digest: str
    time_us: int | None
    up_us: int
    cycles: int
    input_tensors: tuple[TensorMeta, ...]
    output_tensors: tuple[TensorMeta, ...]
    inputs: bytes
    outputs: bytes
    fleet: str | None = None


class Store:
    """The store in one file; a context manager.

    Args:
        path: created when missing, with its `-wal` and `-shm` beside it.

    Raises:
        StoreError: the path cannot be written, or the file is not a store of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors():
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("PRAGMA foreign_keys=ON")
                self._create()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def add(self, records: Iterable[Record]) -> int:
        """Makes records durable, all of them or none; those already there are left alone.

        Returns: how many were new.

        Raises:
            StoreError: disk full or not writable; or a record's key is taken by one with other contents.
        """
        new = 0
        with self._errors(), self._transaction():
            for record in records:
                new += self._add(record)
        return new

    def count(self) -> int:
        """Number of records."""
        with self._errors():
            total: int = self._db.execute("SELECT count(*) FROM records").fetchone()[0]
        return total

    def query(
        self,
        *,
        device: str | None = None,
        digest: str | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
    ) -> Iterator[Record]:
        """Records in the order of their keys, each once.

        Args:
            device, digest: only records of this device, of this model.
            since_us, until_us: only records with since_us <= time_us < until_us; one without a time has none.
        """
        wanted = {
            "device = ?": device,
            "digest = ?": digest,
            "time_us >= ?": since_us,
            "time_us < ?": until_us,
        }
        chosen = {clause: value for clause, value in wanted.items() if value is not None}
        where = f" WHERE {' AND '.join(chosen)}" if chosen else ""
        # The names of columns are constants above, the values are bound.
        sql = f"SELECT {_COLUMNS} FROM records{where} ORDER BY device, boot, sequence"
        with self._errors():
            models = {row[0]: row[1:] for row in self._db.execute("SELECT * FROM models")}
            for row in self._db.execute(sql, tuple(chosen.values())):
                yield _record(row, models[row[3]])

    def _create(self) -> None:
        with self._transaction():
            application, version = self._pragma("application_id"), self._pragma("user_version")
            if (application, version) == (_APPLICATION_ID, _SCHEMA_VERSION):
                return
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if application or version or tables:
                raise StoreError(
                    str(self.path), "not a capture store of this version", "name another file with --store"
                )
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")

    def _pragma(self, name: str) -> int:
        value: int = self._db.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    def _add(self, record: Record) -> int:
        tensors = [_to_json(side) for side in (record.input_tensors, record.output_tensors)]
        self._db.execute(
            "INSERT INTO models VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (record.digest, record.model, *tensors),
        )
        row = (
            *(record.device, record.boot, record.sequence, record.digest, record.time_us),
            *(record.up_us, record.cycles, record.inputs, record.outputs),
        )
        done = self._db.execute(
            f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row
        )
        if done.rowcount == 1:
            return 1
        # The time is left out: a second reading of the clocks may differ by their drift.
        there = self._db.execute(
            "SELECT digest, up_us, cycles, inputs, outputs FROM records WHERE device = ? AND boot = ? AND sequence = ?",
            row[:3],
        ).fetchone()
        if there != (record.digest, *row[5:]):
            raise StoreError(
                f"{self.path}: record {record.device}/{record.boot}/{record.sequence}",
                "is stored already with other contents",
                "reset the device, so that it gets a new boot identifier",
            )
        return 0

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: two writers queue here, where the time-out holds, not at their first write.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            hint = "free some space; nothing was acknowledged" if full else "check the path and its permissions"
            raise StoreError(str(self.path), f"{error}".lower(), hint) from None


def _to_json(tensors: Sequence[TensorMeta]) -> str:
    return json.dumps([asdict(meta) for meta in tensors])


def _from_json(text: str) -> tuple[TensorMeta, ...]:
    metas = (TensorMeta(**fields) for fields in json.loads(text))
    return tuple(replace(meta, shape=tuple(meta.shape)) for meta in metas)


def _record(row: tuple[Any, ...], model: tuple[str, str, str]) -> Record:
    device, boot, sequence, digest, time_us, up_us, cycles, inputs, outputs = row
    name, input_tensors, output_tensors = model
    return Record(
        device=device,
        boot=boot,
        sequence=sequence,
        model=name,
        digest=digest,
        time_us=time_us,
        up_us=up_us,
        cycles=cycles,
        input_tensors=_from_json(input_tensors),
        output_tensors=_from_json(output_tensors),
        inputs=inputs,
        outputs=outputs,
    )
