"""An ingest worker: messages in, Parquet out, acknowledged when durable.

At least once in: a message is acknowledged to the broker (PUBACK) and to its gateway (`.../down/ack`) after the file
that holds it is durable, so a worker killed at any moment loses nothing that anybody was told is safe. Exactly once
when read: a record that came twice has one key, and readers and `compact` keep one of each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from intaglio.host import parquet
from intaglio.host.ingest.broker import Delivery, Subscription
from intaglio.host.ingest.message import Key, RejectedError, parse_message
from intaglio.host.ingest.models import Models
from intaglio.host.ingest.place import Place, part_name, partition, record_key
from intaglio.host.store import Record
from intaglio.quantizer.errors import PackageError, StoreError

_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between attempts to write a batch; after the last the worker gives up, having acknowledged nothing of it."""


@dataclass
class Counts:
    """What a worker did.

    Attributes:
        messages: taken from the broker and acknowledged.
        stored: records written, repeats in one batch counted once.
        rejected: messages that are no records, kept aside.
        files: written.
    """

    messages: int = 0
    stored: int = 0
    rejected: int = 0
    files: int = 0


class Worker:
    """Moves what a subscription gives into a place.

    Args:
        batch: most messages of a file.
        period: seconds that a message waits at most for others to share its file.
        warn: told, in one line, what delays the worker.
    """

    def __init__(self, place: Place, models: Models, *, batch: int, period: float, warn: Callable[[str], None]) -> None:
        self._place = place
        self._models = models
        self._batch = batch
        self._period = period
        self._warn = warn
        self.counts = Counts()

    def run(self, subscription: Subscription, stop: threading.Event) -> None:
        """Work until `stop` is set; then what has been taken is written and acknowledged.

        Raises:
            StoreError: the place cannot be written; nothing of the last batch is acknowledged.
            LinkError: the broker refuses us.
        """
        while not stop.is_set():
            waiting = self._collect(subscription, stop)
            if waiting:
                self.keep(waiting, subscription)
            subscription.check()

    def keep(self, deliveries: Sequence[Delivery], subscription: Subscription) -> None:
        """Make messages durable, then acknowledge them.

        Raises:
            StoreError: see `run`.
        """
        keys: list[Key | None] = []
        records: dict[str, list[Record]] = {}
        rejected: list[tuple[Delivery, str]] = []
        seen = set()
        for delivery in deliveries:
            try:
                arrival = parse_message(delivery.topic, delivery.payload, delivery.properties)
                record = self._patiently(lambda arrival=arrival: self._models.record(arrival))  # type: ignore[misc]
            except RejectedError as error:
                keys.append(error.key)
                rejected.append((delivery, str(error)))
                continue
            keys.append(arrival.key)
            if record_key(record) not in seen:
                seen.add(record_key(record))
                records.setdefault(partition(record), []).append(record)
        for folder, members in records.items():
            self._put(f"{folder}/{part_name([record_key(record) for record in members])}", file_of(members))
        if rejected:
            self._put(*_aside(rejected))
        for delivery, key in zip(deliveries, keys, strict=True):
            subscription.done(delivery)
            if key is not None:
                subscription.publish(key.ack_topic, key.ack())
        self.counts.messages += len(deliveries)
        self.counts.stored += len(seen)
        self.counts.rejected += len(rejected)

    def _collect(self, subscription: Subscription, stop: threading.Event) -> list[Delivery]:
        found: list[Delivery] = []
        end = time.monotonic() + self._period
        while len(found) < self._batch and not stop.is_set():
            delivery = subscription.take(min(end - time.monotonic(), 0.2))
            if delivery is not None:
                if not found:
                    end = time.monotonic() + self._period
                found.append(delivery)
            elif time.monotonic() >= end:
                break
        return found

    def _put(self, path: str, data: bytes) -> None:
        self._patiently(lambda: self._place.put(path, data))
        self.counts.files += 1

    def _patiently(self, attempt: Callable[[], Any]) -> Any:
        for pause in _PAUSES:
            try:
                return attempt()
            except (StoreError, PackageError) as error:
                self._warn(f"{error}; trying again in {pause:.0f} s")
                time.sleep(pause)
        return attempt()


def file_of(records: Sequence[Record]) -> bytes:
    """A Parquet file of records, in the order of their keys."""
    pa = parquet.arrow()
    out = pa.BufferOutputStream()
    ordered = sorted(records, key=lambda record: (record.device, record.boot, record.sequence))
    pa.parquet.write_table(parquet.table(ordered), out, compression="zstd")
    data: bytes = out.getvalue().to_pybytes()
    return data


def rejected_schema() -> Any:
    """The columns of the messages that are kept aside."""
    pa = parquet.arrow()
    columns = {"received": pa.timestamp("us", tz="UTC"), "topic": pa.string(), "reason": pa.string()}
    columns |= {"properties": pa.map_(pa.string(), pa.string()), "payload": pa.binary()}
    return pa.schema(list(columns.items()))


def _aside(rejected: Sequence[tuple[Delivery, str]]) -> tuple[str, bytes]:
    """Path and bytes of the file of messages that are no records, with the reason of each."""
    import hashlib

    pa = parquet.arrow()
    now = datetime.now(UTC)
    rows, names = [], []
    for delivery, reason in rejected:
        pairs = sorted(delivery.properties.items())
        rows.append(
            {
                "received": now,
                "topic": delivery.topic,
                "reason": reason,
                "properties": pairs,
                "payload": delivery.payload,
            }
        )
        digest = hashlib.sha256(repr((delivery.topic, pairs)).encode() + delivery.payload).hexdigest()
        names.append(digest)
    out = pa.BufferOutputStream()
    pa.parquet.write_table(pa.Table.from_pylist(rows, schema=rejected_schema()), out, compression="zstd")
    return f"rejected/date={now:%Y-%m-%d}/{part_name(names)}", out.getvalue().to_pybytes()
