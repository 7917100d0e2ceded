"""The table of a place: its records in one Delta table, which many machines may write to at a time.

    delta/_delta_log/...        the table's log: which files belong to it
    delta/date=D/....parquet    its data

Compaction moves records into the table by MERGE on (device, boot, sequence): one that is there already is left alone.
A source goes after the commit that brought its records in, so that a process killed in between leaves a record in both,
which readers count once. Two that commit at a time are told apart by the log (optimistic concurrency); the later one
merges again. A reader lists the loose files first and the table's after, and so misses none that moves meanwhile.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from intaglio.host import parquet
from intaglio.host.ingest.place import Place, partition
from intaglio.host.store import Record
from intaglio.quantizer.errors import StoreError

TABLE = "delta"
_ATTEMPTS = 20
_ON = "t.date = s.date AND t.device = s.device AND t.boot = s.boot AND t.sequence = s.sequence"


class Table:
    """The Delta table of a place; made with the first merge.

    Raises:
        StoreError: deltalake is not installed.
    """

    def __init__(self, place: Place) -> None:
        try:
            import deltalake
        except ImportError:
            raise StoreError(place.where, "Delta tables need deltalake", "pip install 'intaglio[scale]'") from None
        self._deltalake = deltalake
        self._place = place
        self._options = _options(place.where)
        self._uri = f"{place.where.rstrip('/')}/{TABLE}"

    def files(self) -> list[str]:
        """The paths of its present data, relative to the place.

        Raises:
            StoreError: the log cannot be read.
        """

        def listing() -> list[str]:
            table = self._deltalake.DeltaTable(self._uri, storage_options=self._options)
            return sorted(f"{TABLE}/{uri.rpartition(f'/{TABLE}/')[2]}" for uri in table.file_uris())

        return self._patiently(listing)  # type: ignore[no-any-return]

    def merge(self, records: Sequence[Record]) -> int:
        """Add the records that are not there; returns how many those were.

        Raises:
            StoreError: the table cannot be written; nothing was added.
        """
        pa = parquet.arrow()
        days = [partition(record).split("/")[2].removeprefix("date=") for record in records]
        rows = parquet.table(records).append_column("date", pa.array(days, pa.string()))

        def attempt() -> int:
            table = self._deltalake.DeltaTable.create(
                self._uri, rows.schema, mode="ignore", partition_by=["date"], storage_options=self._options
            )
            merged = table.merge(rows, _ON, source_alias="s", target_alias="t").when_not_matched_insert_all().execute()
            return int(merged["num_target_rows_inserted"])

        return self._patiently(attempt)  # type: ignore[no-any-return]

    def tidy(self) -> None:
        """Merge the table's own small files; remove files that left it a week ago or more.

        Raises:
            StoreError: the table cannot be written.
        """

        def attempt() -> None:
            table = self._deltalake.DeltaTable(self._uri, storage_options=self._options)
            table.optimize.compact()
            table.vacuum(dry_run=False)

        self._patiently(attempt)

    def _patiently(self, attempt: Callable[[], Any]) -> Any:
        """Do what may be refused because another has committed meanwhile."""
        for n in range(_ATTEMPTS):
            try:
                return attempt()
            except self._deltalake.exceptions.CommitFailedError as error:
                if n + 1 == _ATTEMPTS:
                    raise self._error(error) from None
                time.sleep(random.uniform(0, 0.1 * (n + 1)))
            except (self._deltalake.exceptions.DeltaError, OSError) as error:
                raise self._error(error) from None
        raise AssertionError("unreachable")

    def _error(self, error: BaseException) -> StoreError:
        text = " ".join(str(error).split())[:200]
        return StoreError(self._uri, f"cannot be used ({text})", "check the path or the network; nothing is lost")


def has_table(place: Place) -> bool:
    """Whether a place has a table."""
    return place.get(f"{TABLE}/_delta_log/00000000000000000000.json") is not None


def _options(where: str) -> dict[str, str] | None:
    """What deltalake wants to know of a bucket beside the environment."""
    if not where.startswith("s3://"):
        return None
    # A commit is a PUT of a name that must not be there yet; the store decides who was first.
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {"aws_conditional_put": "etag"} | ({"allow_http": "true"} if plain else {})
