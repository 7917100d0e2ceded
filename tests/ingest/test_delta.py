"""The Delta table of a place: many write to it, readers see each record once, whatever is cut off."""

from __future__ import annotations

import threading

import pytest
from deltalake import DeltaTable

from intaglio.host.ingest.compact import compact_into_table
from intaglio.host.ingest.delta import Table
from intaglio.host.ingest.models import Models
from intaglio.host.ingest.place import open_place
from intaglio.host.ingest.query import Captures
from intaglio.host.store import Record

from .conftest import NOON, delivery, keep, make_record

DAY = 86_400_000_000
RECORDS = [make_record(n, time_us=NOON + n % 2 * DAY, fleet=f"f{n % 2}") for n in range(30)]


def read(where: str) -> list[Record]:
    with Captures(where) as captures:
        return list(captures.records())


def fill(where: str, first: int = 0, last: int = 30) -> None:
    keep(where, *([delivery(record) for record in RECORDS[n : n + 6]] for n in range(first, last, 3)))


def test_records_move_into_the_table_and_are_read_from_there(where: str) -> None:
    fill(where, 0, 15)
    assert read(where) == RECORDS[:18]
    done = compact_into_table(open_place(where), Models(None))
    assert (done.records, open_place(where).parts()) == (18, []) and done.repeats > 0
    assert read(where) == RECORDS[:18]
    fill(where)
    assert read(where) == RECORDS
    done = compact_into_table(open_place(where), Models(None))
    assert (done.records, open_place(where).parts()) == (12, [])
    assert read(where) == RECORDS
    assert compact_into_table(open_place(where), Models(None)).records == 0


class Cut(BaseException):
    """Stands for `kill -9`."""


def test_cut_off_between_commit_and_removal(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(where)
    kind = type(open_place(where))
    delete = kind.delete
    for left in range(3):
        remaining = [left]

        def cut(self: object, path: str, remaining: list[int] = remaining) -> None:
            if remaining[0] == 0:
                raise Cut
            remaining[0] -= 1
            delete(self, path)  # type: ignore[arg-type]

        monkeypatch.setattr(kind, "delete", cut)
        with pytest.raises(Cut):
            compact_into_table(open_place(where), Models(None))
        monkeypatch.setattr(kind, "delete", delete)
        assert read(where) == RECORDS
    assert compact_into_table(open_place(where), Models(None)).records == 0
    assert read(where) == RECORDS


def test_many_write_one_table(where: str) -> None:
    keep(where)
    failures: list[BaseException] = []

    def write(part: int) -> None:
        try:
            table = Table(open_place(where))
            for n in range(part, 30, 3):
                table.merge([RECORDS[n], RECORDS[(n + 1) % 30]])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(part,)) for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and read(where) == RECORDS


def test_other_tools_read_the_table(tmp_path: object) -> None:
    where = str(tmp_path)
    fill(where)
    compact_into_table(open_place(where), Models(None))
    table = DeltaTable(f"{where}/delta").to_pyarrow_table(columns=["sequence", "date"])
    assert sorted(table.column("sequence").to_pylist()) == list(range(30))
    assert set(table.column("date").to_pylist()) == {"2023-11-14", "2023-11-15"}
