"""Files of captures in a folder and in a bucket: written whole, merged, read once each."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from intaglio.host.ingest.compact import compact
from intaglio.host.ingest.message import RejectedError
from intaglio.host.ingest.models import Described, Models
from intaglio.host.ingest.place import new_place, open_place
from intaglio.host.ingest.query import Captures
from intaglio.host.ingest.worker import Worker
from intaglio.host.store import Record
from intaglio.quantizer.errors import StoreError, UsageError

from .conftest import DIGEST, INPUTS, NOON, OUTPUTS, Nobody, delivery, keep, made, make_record

HOUR = 3_600_000_000


def read(where: str) -> list[Record]:
    with Captures(where) as captures:
        return list(captures.records())


def test_a_file_stands_in_the_folder_of_its_partition(where: str) -> None:
    keep(where, [delivery(make_record(1)), delivery(make_record(2, time_us=None, model="a/b=c.."))])
    folders = [path.rpartition("/")[0] for path in open_place(where).parts()]
    assert folders == [
        "fleet=acme/model=a%2Fb%3Dc../date=none/hour=none",
        "fleet=acme/model=digits/date=2023-11-14/hour=22",
    ]
    assert read(where) == [make_record(1), make_record(2, time_us=None, model="a/b=c..")]


def test_a_batch_written_again_is_the_same_file(where: str) -> None:
    batch = [delivery(make_record(n)) for n in range(5)]
    counts = keep(where, batch, batch[::-1], [*batch, *batch])
    assert (counts.messages, counts.stored) == (20, 15)
    assert len(open_place(where).parts()) == 1


def test_overlapping_batches_are_read_once_and_merged(where: str) -> None:
    records = [make_record(n, time_us=NOON + n % 2 * HOUR) for n in range(20)]
    keep(where, *([delivery(record) for record in records[n : n + 6]] for n in range(0, 20, 3)))
    assert read(where) == records
    place = open_place(where)
    before = len(place.parts())
    done = compact(place, Models(None))
    assert (done.before, done.after, done.records) == (before, 2, 20) and done.repeats > 0
    assert len(place.parts()) == 2 and read(where) == records
    again = compact(place, Models(None))
    assert (again.before, again.after, again.repeats) == (2, 2, 0)


def test_of_two_records_with_one_key_readers_and_compaction_keep_the_same(where: str) -> None:
    record = make_record(1)
    keep(where, [delivery(record)], [delivery(replace(record, cycles=5)), delivery(make_record(2))])
    first = read(where)
    assert [r.cycles for r in first] == [5, 17]
    compact(open_place(where), Models(None))
    assert read(where) == first


class Cut(BaseException):
    """Stands for `kill -9`."""


def test_compaction_cut_off_at_any_step_loses_nothing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [make_record(n, time_us=NOON + n % 2 * HOUR) for n in range(12)]
    kinds = type(made(where))
    put, delete = kinds.put, kinds.delete
    keep(where, *([delivery(record) for record in records[n : n + 3]] for n in range(0, 12, 2)))
    steps = 0
    for limit in range(100):
        left = limit

        def step() -> None:
            nonlocal left
            if left == 0:
                raise Cut
            left -= 1

        monkeypatch.setattr(kinds, "put", lambda self, path, data: (step(), put(self, path, data))[1])
        monkeypatch.setattr(kinds, "delete", lambda self, path: (step(), delete(self, path))[1])
        try:
            compact(open_place(where), Models(None))
            break
        except Cut:
            steps += 1
            assert read(where) == records
        finally:
            monkeypatch.setattr(kinds, "put", put)
            monkeypatch.setattr(kinds, "delete", delete)
    assert steps >= 3 and read(where) == records and len(open_place(where).parts()) == 2


def test_several_may_compact_while_others_write_and_read(tmp_path: Path) -> None:
    where = str(tmp_path)
    records = [make_record(n) for n in range(200)]
    keep(where)
    failures: list[BaseException] = []

    def watched(work: object) -> threading.Thread:
        def run() -> None:
            try:
                work()  # type: ignore[operator]
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    over = threading.Event()

    def write() -> None:
        for n in range(0, 200, 5):
            keep(where, [delivery(record) for record in records[n : n + 8]])

    def merge() -> None:
        while not over.is_set():
            compact(open_place(where), Models(None))

    seen = 0
    mergers = [watched(merge), watched(merge)]
    writer = watched(write)
    while writer.is_alive():
        with Captures(where) as captures:
            ((count, distinct),) = captures.ask(
                "SELECT count(*), count(DISTINCT (device, boot, sequence)) FROM captures"
            ).rows
        assert count == distinct and count >= seen
        seen = count
    over.set()
    for thread in mergers:
        thread.join()
    assert failures == [] and read(where) == records


def test_a_model_that_becomes_known_gives_its_records_their_tensors(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(where, [delivery(make_record(1), described=False)])
    assert read(where)[0].output_tensors == ()
    known = Described("digits", INPUTS, OUTPUTS)
    monkeypatch.setattr(Models, "find", lambda self, digest: known if digest == DIGEST else None)
    done = compact(open_place(where), Models("somewhere"))
    assert done.described == 1 and read(where) == [make_record(1)]


def test_a_damaged_file_is_named(where: str) -> None:
    keep(where, [delivery(make_record(1))])
    place = open_place(where)
    (path,) = place.parts()
    place.put(path, place.get(path)[:-30])  # type: ignore[index]
    with pytest.raises(StoreError, match=r"part-[0-9a-f]{64}\.parquet: is no file of captures"):
        compact(place, Models(None))
    with pytest.raises(StoreError, match="ingest compact` names a damaged file"):
        read(where)


def test_a_place_with_other_files_is_left_alone(where: str) -> None:
    new_place(where).put("letters/mine.txt", b"mine")
    for opening in (open_place, made):
        with pytest.raises(StoreError, match=r"holds other files \(letters/mine.txt\)"):
            opening(where)
    assert list(new_place(where).names()) == ["letters/mine.txt"]


@pytest.mark.parametrize(
    "marker", [b"", b"[]", b'{"format":"x"}', json.dumps({"format": "intaglio captures"}).encode()]
)
def test_a_marker_of_another_version_is_refused(tmp_path: Path, marker: bytes) -> None:
    (tmp_path / "_captures.json").write_bytes(marker)
    with pytest.raises(StoreError, match="is of another version"):
        made(str(tmp_path))


def test_nothing_captured_is_said(where: str) -> None:
    with pytest.raises(StoreError, match="there are no captures"):
        open_place(where)
    keep(where)
    assert read(where) == []
    with Captures(where) as captures:
        assert captures.ask("SELECT count(*) FROM captures, rejected").rows == [(0,)]


def test_a_full_disk_leaves_nothing_and_acknowledges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = made(str(tmp_path / "captures"))
    said: list[str] = []
    worker = Worker(place, Models(None), batch=9, period=1, warn=said.append)
    subscription = Nobody()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(StoreError, match="no space left on device; free some space; nothing was acknowledged"):
        worker.keep([delivery(make_record(1))], subscription)  # type: ignore[arg-type]
    assert (subscription.done_, subscription.published, len(said)) == ([], [], 5)
    assert [path for path in (tmp_path / "captures").rglob("*") if path.is_file()] == [
        tmp_path / "captures" / "_captures.json"
    ]


def test_a_disk_that_recovers_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = made(str(tmp_path / "captures"))
    worker = Worker(place, Models(None), batch=9, period=1, warn=lambda text: None)
    subscription = Nobody()
    fsync = os.fsync
    failures = iter([True, True, False])

    def sometimes(handle: int) -> None:
        if next(failures, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", sometimes)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    worker.keep([delivery(make_record(1))], subscription)  # type: ignore[arg-type]
    assert subscription.published == ["intaglio/acme/0a0b/down/ack"]
    assert read(str(tmp_path / "captures")) == [make_record(1)]


def test_a_file_is_durable_before_it_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, then name, then folders, then PUBACK, then the gateway."""
    place = made(str(tmp_path / "captures"))
    order: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")  # noqa: PTH112
        fsync(handle)

    class Noting(Nobody):
        def done(self, message: object) -> None:
            order.append("puback")

        def publish(self, topic: str, payload: bytes) -> None:
            order.append("ack")

    monkeypatch.setattr(os, "fsync", noted)
    worker = Worker(place, Models(None), batch=9, period=1, warn=lambda text: None)
    worker.keep([delivery(make_record(1))], Noting())  # type: ignore[arg-type]
    # hour=, date=, model=, fleet= are new, and the place holds the first of them.
    assert order == ["file", *["folder"] * 5, "puback", "ack"]


def test_s3_that_is_away_is_said(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("intaglio.host.bucket.RETRIES", {"max_retries": 0})
    with pytest.raises(StoreError, match=r"does not answer: .*; check the network, AWS_ENDPOINT_URL"):
        made(bucket)


def test_a_bucket_that_is_not_there_is_said(bucket: str) -> None:
    with pytest.raises(StoreError, match=r"nobucket/x: .*(no such bucket|does not answer)"):
        made("s3://nobucket/x")


@pytest.mark.parametrize("url", ["ftp://x/y", "gs://x", "http://x"])
def test_other_urls_are_no_places(url: str) -> None:
    with pytest.raises(UsageError, match="is no place for captures"):
        open_place(url)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(StoreError, match="not a directory"):
        made(str(tmp_path / "x"))


def test_the_bytes_of_another_model_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Described("digits", INPUTS, ())
    monkeypatch.setattr(Models, "find", lambda self, digest: wrong)
    with pytest.raises(RejectedError, match="22 bytes, the tensors of its model have 16"):
        from intaglio.host.ingest.message import parse_message

        message = delivery(make_record(1))
        Models("x").record(parse_message(message.topic, message.payload, message.properties))


def test_what_a_killed_writer_left_half_written_goes_with_compaction(tmp_path: Path) -> None:
    keep(str(tmp_path), [delivery(make_record(1))])
    (part,) = tmp_path.rglob("part-*")
    old, young = part.with_name(".part-0123"), part.with_name(".part-4567")
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert read(str(tmp_path)) == [make_record(1)]
    compact(open_place(str(tmp_path)), Models(None))
    assert young.exists() and not old.exists()
