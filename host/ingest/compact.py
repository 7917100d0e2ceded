"""Merging the small files of a partition into one, each record once.

The merged file is durable before any of its sources goes, and is never one of them that goes: a record is in a file at
every moment, so that a process killed in between leaves a record twice, which readers count once, and none missing.
Several may compact one place at a time, while workers write to it: whoever removes a file has written all of its
records to another, whose name is the digest of its keys, so that two with one name hold the same. A reader that listed
a file and finds it gone lists again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from intaglio.host import parquet
from intaglio.host.ingest.delta import Table, has_table
from intaglio.host.ingest.message import Arrival, Key, RejectedError
from intaglio.host.ingest.models import Models, is_opaque
from intaglio.host.ingest.place import Place, part_name, record_key
from intaglio.host.ingest.worker import file_of
from intaglio.host.store import Record
from intaglio.quantizer.errors import StoreError

_MOST_BYTES = 128 << 20
"""Of Parquet that are merged at a time; a partition that has more keeps several files."""


@dataclass
class Compacted:
    """What compaction did: files before and after, records written, repeats left out, records given their tensors."""

    before: int = 0
    after: int = 0
    records: int = 0
    repeats: int = 0
    described: int = 0


def compact(place: Place, models: Models, advance: Callable[[], None] = lambda: None) -> Compacted:
    """Merge the files of every partition.

    Args:
        models: for records that were written before their model was known.
        advance: called after each partition.

    Raises:
        StoreError: a file is damaged, or the place cannot be read or written; nothing is lost.
    """
    done = Compacted()
    place.sweep()
    for _, paths in groupby(place.parts(), key=lambda path: path.rpartition("/")[0]):
        for group, tables in _groups(place, list(paths)):
            _merge(place, models, group, tables, done)
        advance()
    return done


def compact_into_table(place: Place, models: Models, advance: Callable[[], None] = lambda: None) -> Compacted:
    """Move the records of every partition into the Delta table of the place.

    Raises:
        StoreError: as `compact`, and where deltalake is missing or the table cannot be written; nothing is lost.
    """
    done = Compacted()
    table = Table(place)
    place.sweep()
    for group, tables in _groups(place, place.parts()):
        records = _once(record for part in tables for record in parquet.records(part))
        _describe(models, records, done)
        new = table.merge(records)
        for path in group:
            place.delete(path)
        done.before += len(group)
        done.records += new
        done.repeats += sum(part.num_rows for part in tables) - new
        advance()
    if done.before:
        table.tidy()
    done.after = len(table.files()) if has_table(place) else 0
    return done


def _groups(place: Place, paths: list[str]) -> Iterator[tuple[list[str], list[Any]]]:
    """Files that are merged at a time: their paths and tables."""
    group: list[str] = []
    tables: list[Any] = []
    size = 0
    for path in paths:
        data = place.get(path)
        if data is None:  # somebody else has compacted it
            continue
        if tables and size + len(data) > _MOST_BYTES:
            yield group, tables
            group, tables, size = [], [], 0
        group.append(path)
        tables.append(_read(place, path, data))
        size += len(data)
    if tables:
        yield group, tables


def _merge(place: Place, models: Models, paths: list[str], tables: list[Any], done: Compacted) -> None:
    done.before += len(paths)
    done.after += 1
    total = sum(table.num_rows for table in tables)
    records = _once(record for table in tables for record in parquet.records(table))
    done.records += len(records)
    done.repeats += total - len(records)
    described = _describe(models, records, done)
    if len(paths) == 1 and total == len(records) and not described:
        return
    merged = f"{paths[0].rpartition('/')[0]}/{part_name([record_key(record) for record in records])}"
    place.put(merged, file_of(records))
    for path in paths:
        if path != merged:
            place.delete(path)


def _once(records: Iterable[Record]) -> list[Record]:
    """One record of each key: of those that differ the one that readers choose too."""
    kept: dict[tuple[str, str, int], Record] = {}
    for record in records:
        key = (record.device, record.boot, record.sequence)
        if key not in kept or _order(record) < _order(kept[key]):
            kept[key] = record
    return list(kept.values())


def _order(record: Record) -> tuple[Any, ...]:
    # NULL comes last, as in DuckDB.
    return (record.time_us is None, record.time_us or 0, record.digest, record.up_us, record.cycles)


def _describe(models: Models, records: list[Record], done: Compacted) -> int:
    """Give those records their tensors that came before their model was known; returns how many those were."""
    found = 0
    for n, record in enumerate(records):
        if is_opaque(record) and models.find(record.digest):
            key = Key(record.fleet or "", record.device, record.boot, record.sequence)
            arrival = Arrival(key, record.digest, record.time_us, record.up_us, record.cycles, None, record.inputs)
            with contextlib.suppress(RejectedError):  # its bytes are not those of the tensors: it stays as it is
                records[n] = models.record(arrival)
                found += 1
    done.described += found
    return found


def _read(place: Place, path: str, data: bytes) -> Any:
    pa = parquet.arrow()
    try:
        return (
            pa.parquet.read_table(pa.BufferReader(data), partitioning=None)
            .select(parquet.schema().names)
            .cast(parquet.schema())
        )
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        why = " ".join(str(error).split())[:120]
        raise StoreError(f"{place.where}: {path}", f"is no file of captures ({why})", "move it elsewhere") from None
