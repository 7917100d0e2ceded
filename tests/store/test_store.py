"""The capture store: durable when `add` returns, each record once, whatever happens to the writer."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sqlite3
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intaglio.host.export import export
from intaglio.host.store import Record, Store
from intaglio.host.tensors import TensorMeta
from intaglio.quantizer.errors import StoreError, UsageError

INPUTS = (
    TensorMeta("x", "int8", (2, 3), 0x3F000000, -3, 6),
    TensorMeta("y", "int16", (2,), 0x3DCCCCCD, 0, 4),
)
OUTPUTS = (TensorMeta("z", "int32", (1,), 0, 0, 4),)


def make(sequence: int, **changes: object) -> Record:
    rng = random.Random(sequence)
    record = Record(
        device="6d6f",
        boot="00000000000000ff",
        sequence=sequence,
        model="digits",
        digest="ab" * 32,
        time_us=1_700_000_000_000_000 + sequence,
        up_us=sequence,
        cycles=17,
        input_tensors=INPUTS,
        output_tensors=OUTPUTS,
        inputs=rng.randbytes(10),
        outputs=rng.randbytes(4),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "captures.db") as opened:
        yield opened


def test_records_come_back_as_they_went_in(store: Store) -> None:
    records = [make(n) for n in range(5)]
    assert store.add(records) == 5
    assert list(store.query()) == records


def test_adding_again_changes_nothing(store: Store) -> None:
    store.add([make(n) for n in range(3)])
    later = [replace(make(n), time_us=5) for n in range(5)]  # another reading of the clocks
    assert store.add(later) == 2
    assert [r.time_us for r in store.query()][:3] == [make(n).time_us for n in range(3)]


def test_a_key_with_other_contents_is_an_error_and_adds_nothing(store: Store) -> None:
    store.add([make(0)])
    with pytest.raises(StoreError, match="6d6f/00000000000000ff/0: is stored already with other contents"):
        store.add([make(1), make(0, outputs=b"abcd")])
    assert store.count() == 1


def test_query_by_device_model_and_time(store: Store) -> None:
    store.add([make(0), make(1, device="aa"), make(2, digest="cd" * 32), make(3, time_us=None)])
    assert [r.sequence for r in store.query(device="aa")] == [1]
    assert [r.sequence for r in store.query(digest="cd" * 32)] == [2]
    start = 1_700_000_000_000_000
    assert [r.sequence for r in store.query(since_us=start, until_us=start + 2)] == [0, 1]
    assert [r.sequence for r in store.query()] == [0, 2, 3, 1]
    assert list(store.query(device="' OR 1=1 --")) == []


def test_files_that_are_no_store_are_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("my notes, long enough to be no empty database" * 30)
    with pytest.raises(StoreError, match=r"notes\.txt: file is not a database"):
        Store(text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (x)")
    with pytest.raises(StoreError, match="not a capture store of this version; name another file"):
        Store(other)
    with pytest.raises(StoreError, match="unable to open"):
        Store(tmp_path / "nowhere" / "s.db")
    assert text.read_text().startswith("my notes")


def test_json_lines(store: Store, tmp_path: Path) -> None:
    records = [make(n) for n in range(3)]
    store.add(records)
    assert export(store.query(), tmp_path / "out.jsonl") == 3
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[1] == {
        "device": "6d6f",
        "boot": "00000000000000ff",
        "sequence": 1,
        "model": "digits",
        "digest": "ab" * 32,
        "time": 1_700_000_000_000_001,
        "up_us": 1,
        "cycles": 17,
        "inputs": [
            {
                "name": "x",
                "dtype": "int8",
                "shape": [2, 3],
                "scale": 0.5,
                "scale_bits": 0x3F000000,
                "zero_point": -3,
                "values": list(struct.unpack("<6b", records[1].inputs[:6])),
            },
            {
                # binary32's nearest to 0.1, not 0.1
                "name": "y",
                "dtype": "int16",
                "shape": [2],
                "scale": 0.10000000149011612,
                "scale_bits": 0x3DCCCCCD,
                "zero_point": 0,
                "values": list(struct.unpack("<2h", records[1].inputs[6:])),
            },
        ],
        "outputs": [
            {
                "name": "z",
                "dtype": "int32",
                "shape": [1],
                "scale": None,
                "scale_bits": 0,
                "zero_point": 0,
                "values": list(struct.unpack("<i", records[1].outputs)),
            }
        ],
    }


def test_parquet(store: Store, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    records = [make(n) for n in range(600)]  # more than one row group
    records[7] = replace(records[7], time_us=None)
    store.add(records)
    assert export(store.query(), tmp_path / "out.parquet") == 600
    table = pq.read_table(tmp_path / "out.parquet")
    rows = table.to_pylist()
    assert [row["sequence"] for row in rows] == list(range(600))
    for row, record in zip(rows, records, strict=True):
        assert row["inputs"][0]["data"] + row["inputs"][1]["data"] == record.inputs
        assert row["outputs"][0]["data"] == record.outputs
    x = rows[3]["inputs"][0]
    assert (x["dtype"], x["shape"], x["scale"], x["scale_bits"], x["zero_point"]) == (
        *("int8", [2, 3], 0.5, 0x3F000000, -3),
    )
    assert np.frombuffer(x["data"], x["dtype"]).reshape(x["shape"]).tolist() == [
        list(struct.unpack("<3b", records[3].inputs[:3])),
        list(struct.unpack("<3b", records[3].inputs[3:6])),
    ]
    assert rows[7]["time"] is None
    assert rows[8]["time"].timestamp() == pytest.approx(1_700_000_000.000008, abs=1e-6)


def test_exports_are_whole_or_not_there(store: Store, tmp_path: Path) -> None:
    store.add([make(n) for n in range(50)])
    with pytest.raises(UsageError, match=r"end it in one of \.jsonl, \.parquet, "):
        export(store.query(), tmp_path / "out.csv")
    with pytest.raises(StoreError, match="cannot be written: no such file"):
        export(store.query(), tmp_path / "nowhere" / "out.jsonl")
    out = tmp_path / "out.jsonl"
    out.write_text("yesterday's\n")

    def child() -> int:
        # What a full disk does to a writer, for one process: write() fails part of the way.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            export((make(n) for n in range(50)), out)
        except StoreError as error:
            return 7 if "cannot be written: file too large" in str(error) else 8
        return 9

    assert in_child(child) == 7
    assert out.read_text() == "yesterday's\n"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_full_disk_is_one_line(store: Store) -> None:
    store.add([make(0)])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreError) as error:
        store.add(make(n, inputs=bytes(2000)) for n in range(1, 50))
    assert str(error.value) == (f"{store.path}: database or disk is full; free some space; nothing was acknowledged")
    assert [r.sequence for r in store.query()] == [0]
    store._db.execute("PRAGMA max_page_count=100000")
    assert store.add(make(n) for n in range(1, 50)) == 49


def test_two_writers_take_turns(store: Store) -> None:
    def child(first: int) -> int:
        with Store(store.path) as own:
            for n in range(first, first + 50):
                own.add([make(n)])
        return 0

    pids = [fork(lambda first=first: child(first)) for first in (0, 25, 50)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    assert [r.sequence for r in store.query()] == list(range(100))


def fork(body: object) -> int:
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = body()  # type: ignore[operator]
        finally:
            os._exit(status)
    return pid


def in_child(body: object) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(fork(body), 0)[1])


def test_a_writer_killed_at_any_moment(tmp_path: Path) -> None:
    """100 writers and more are killed by SIGKILL at random moments, until 100 records are in. Each begins a little
    before the last acknowledged record, as a drain does whose acknowledgement was lost."""
    path = tmp_path / "captures.db"
    rng = random.Random(6)
    acknowledged = -1
    before = kills = 0
    while kills < 100 or acknowledged <= 100:
        kills += 1
        reading, writing = os.pipe()
        start = max(0, acknowledged + 1 - rng.randrange(4))

        def writer(start: int = start, writing: int = writing) -> int:
            with Store(path) as store:
                sequence = start
                while True:
                    batch = [make(n, inputs=random.Random(n).randbytes(3000)) for n in range(sequence, sequence + 3)]
                    store.add(batch)
                    sequence = batch[-1].sequence + 1
                    os.write(writing, struct.pack("<q", batch[-1].sequence))  # the acknowledgement

        pid = fork(writer)
        os.close(writing)
        time.sleep(rng.uniform(0.0, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        with os.fdopen(reading, "rb") as pipe:
            words = pipe.read()
        for (sequence,) in struct.iter_unpack("<q", words):
            acknowledged = max(acknowledged, sequence)
        with Store(path) as store:
            sequences = [record.sequence for record in store.query()]
            assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert sequences == list(range(len(sequences)))  # each once, none missing
        assert len(sequences) > acknowledged
        assert len(sequences) == before or (len(sequences) - start) % 3 == 0  # three or none of a batch
        before = len(sequences)
    with Store(path) as store:
        for record in store.query():
            assert record.inputs == random.Random(record.sequence).randbytes(3000)
