"""Captured predictions on disk: an SQLite journal, exported to JSON Lines or Parquet.

A record is durable when `Store.add` returns: the journal is a write-ahead log synchronised at every commit
(`synchronous=FULL`), so a process killed or a machine switched off at any moment loses nothing that was added, and
leaves nothing half-added. A record is keyed (device, boot, sequence); adding it again, as a drain does that was cut
off between commit and acknowledgement, changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from intaglio.quantizer.errors import StoreError, UsageError

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
class TensorMeta:
    """A tensor as the device describes it: real value = scale * (integer - zero_point).

    Attributes:
        dtype: numpy's name of the integer type; the bytes are little-endian, in C order.
        scale_bits: the scale's IEEE 754 binary32 bits; 0 when the tensor has none.
        nbytes: bytes of its values.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale_bits: int
    zero_point: int
    nbytes: int

    @property
    def scale(self) -> float | None:
        """The scale, exactly: every binary32 number is a binary64 number."""
        if self.scale_bits == 0:
            return None
        value: float = struct.unpack("<f", struct.pack("<I", self.scale_bits))[0]
        return value


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


def export(records: Iterable[Record], out: Path) -> int:
    """Writes records to `out`: JSON Lines (`.jsonl`) or Parquet (`.parquet`), by its suffix; all or nothing.

    A line of JSON has the record's fields and, per tensor, name, dtype, shape, scale, scale_bits, zero_point and the
    flat list of its integers (`values`); Parquet has the same columns with the tensors' raw bytes (`data`) and
    `time` as a UTC timestamp.

    Returns: the number of records.

    Raises:
        StoreError: `out` cannot be written, or pyarrow is missing.
        UsageError: another suffix.
    """
    writers = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if out.suffix not in writers:
        raise UsageError(str(out), "the suffix names no format", "end it in .jsonl or .parquet")
    scratch = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        try:
            count = writers[out.suffix](records, scratch)
            with scratch.open("rb") as written:
                os.fsync(written.fileno())
            scratch.replace(out)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise StoreError(str(out), f"cannot be written: {why}", "choose a folder with room and write access") from None
    return count


def _write_jsonl(records: Iterable[Record], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as lines:
        for record in records:
            row = _head(record)
            for side, tensors, data in _sides(record):
                row[side] = [
                    {**_describe(meta), "values": _integers(meta, piece)} for meta, piece in _split(tensors, data)
                ]
            lines.write(json.dumps(row, allow_nan=False) + "\n")
            count += 1
    return count


def _write_parquet(records: Iterable[Record], path: Path) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise StoreError(str(path.parent), "Parquet needs pyarrow", "pip install 'intaglio[parquet]'") from None
    tensor = pa.struct(
        {
            "name": pa.string(),
            "dtype": pa.string(),
            "shape": pa.list_(pa.int32()),
            "scale": pa.float64(),
            "scale_bits": pa.uint32(),
            "zero_point": pa.int32(),
            "data": pa.binary(),
        }
    )
    columns = {"device": pa.string(), "boot": pa.string(), "sequence": pa.int64(), "model": pa.string()}
    columns |= {"digest": pa.string(), "time": pa.timestamp("us", tz="UTC"), "up_us": pa.int64()}
    columns |= {"cycles": pa.int64(), "inputs": pa.list_(tensor), "outputs": pa.list_(tensor)}
    schema = pa.schema(list(columns.items()))
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        for batch in _batches(records, 512):
            rows = []
            for record in batch:
                row = _head(record)
                for side, tensors, data in _sides(record):
                    row[side] = [{**_describe(meta), "data": piece} for meta, piece in _split(tensors, data)]
                rows.append(row)
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _batches(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _head(record: Record) -> dict[str, Any]:
    return {
        "device": record.device,
        "boot": record.boot,
        "sequence": record.sequence,
        "model": record.model,
        "digest": record.digest,
        "time": record.time_us,
        "up_us": record.up_us,
        "cycles": record.cycles,
    }


def _sides(record: Record) -> Iterator[tuple[str, Sequence[TensorMeta], bytes]]:
    yield "inputs", record.input_tensors, record.inputs
    yield "outputs", record.output_tensors, record.outputs


def _split(tensors: Sequence[TensorMeta], data: bytes) -> Iterator[tuple[TensorMeta, bytes]]:
    offset = 0
    for meta in tensors:
        yield meta, data[offset : offset + meta.nbytes]
        offset += meta.nbytes


def _describe(meta: TensorMeta) -> dict[str, Any]:
    return {
        "name": meta.name,
        "dtype": meta.dtype,
        "shape": list(meta.shape),
        "scale": meta.scale,
        "scale_bits": meta.scale_bits,
        "zero_point": meta.zero_point,
    }


def _integers(meta: TensorMeta, data: bytes) -> list[int]:
    import numpy as np

    values: list[int] = np.frombuffer(data, np.dtype(meta.dtype).newbyteorder("<")).tolist()
    return values


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
