"""Questions in SQL and exports, from a store, a folder and a bucket."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from intaglio.host.cli import run
from intaglio.host.export import export
from intaglio.host.ingest.query import Captures
from intaglio.host.store import Record, Store
from intaglio.host.tensors import TensorMeta
from intaglio.quantizer.errors import StoreError, UsageError

from .conftest import DIGEST, delivery, keep, make_record

RECORDS = [make_record(n) for n in range(10)]


@pytest.fixture(params=["store", "folder", "s3"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Ten records, in a place twice."""
    if request.param == "store":
        with Store(tmp_path / "captures.db") as store:
            store.add(RECORDS)
        return str(tmp_path / "captures.db")
    where = str(tmp_path / "captures") if request.param == "folder" else str(request.getfixturevalue("bucket"))
    batch = [delivery(record) for record in RECORDS]
    keep(where, batch, batch[3:])
    return where


def ask(source: str, sql: str) -> list[tuple[object, ...]]:
    with Captures(source) as captures:
        return list(captures.ask(sql).rows)


def test_a_record_is_counted_once_and_its_tensors_are_lists(source: str) -> None:
    assert ask(source, "SELECT count(*), min(sequence), max(sequence) FROM captures") == [(10, 0, 9)]
    record = RECORDS[3]
    (row,) = ask(source, "SELECT inputs, outputs, epoch_us(time), model FROM captures WHERE sequence = 3")
    inputs, outputs, time_us, model = row
    assert inputs == [
        {
            "name": "image",
            "dtype": "int8",
            "shape": [1, 4, 4, 1],
            "scale": struct.unpack("<f", struct.pack("<I", 0x3B808081))[0],
            "zero_point": -128,
            "values": np.frombuffer(record.inputs, np.int8).tolist(),
        }
    ]
    assert outputs[0]["values"] == np.frombuffer(record.outputs, "<i2").tolist()  # type: ignore[index]
    assert (time_us, model) == (record.time_us, "digits")


def test_real_values_can_be_computed(source: str) -> None:
    sql = (
        "SELECT list_transform(o.values, lambda v: o.scale * (v - o.zero_point)) "
        "FROM (SELECT unnest(outputs) o FROM captures WHERE sequence = 1)"
    )
    ((values,),) = ask(source, sql)
    scale = struct.unpack("<f", struct.pack("<I", 0x3D4CCCCD))[0]
    assert values == [scale * v for v in np.frombuffer(RECORDS[1].outputs, "<i2").tolist()]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY captures TO '{}/x.csv'",
        "ATTACH '{}/x.db'",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "EXPORT DATABASE '{}/x'",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
    ],
)
def test_a_question_reads_the_captures_and_nothing_else(tmp_path: Path, sql: str) -> None:
    keep(str(tmp_path / "captures"), [delivery(RECORDS[0])])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="SQL: "):
        ask(str(tmp_path / "captures"), sql.format(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("SELEC 1", r"Parser Error: syntax error at or near .SELEC."),
        ("SELECT x FROM captures", r'Binder Error: Referenced column "x" not found'),
        ("SELECT 1 FROM nowhere", "Catalog Error: Table with name nowhere does not exist!"),
        ("SELECT 'x'::INTEGER", "Conversion Error: Could not convert string 'x' to INT32"),
    ],
)
def test_wrong_sql_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, sql: str, what: str) -> None:
    keep(str(tmp_path / "captures"), [delivery(RECORDS[0])])
    assert run(["captures", "query", sql, "--from", str(tmp_path / "captures")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.match(f"intaglio: SQL: {what}", line), line


def test_answers_as_table_json_and_csv(capsys: pytest.CaptureFixture[str], source: str) -> None:
    sql = "SELECT sequence, device, outputs[1].values AS scores FROM captures ORDER BY sequence LIMIT 2"
    expected = [np.frombuffer(record.outputs, "<i2").tolist() for record in RECORDS[:2]]
    assert run(["captures", "query", sql, "--from", source, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == [{"sequence": n, "device": "0a0b", "scores": expected[n]} for n in range(2)]
    assert run(["captures", "query", sql, "--from", source, "--csv"]) == 0
    lines = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert lines == [["sequence", "device", "scores"], *([str(n), "0a0b", json.dumps(expected[n])] for n in range(2))]
    assert run(["captures", "query", sql, "--from", source]) == 0
    assert "0a0b" in capsys.readouterr().out


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such folder or file"):
        Captures(str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("text that is no database, long enough to be one" * 20)
    with pytest.raises(StoreError, match="file is not a database"):
        Captures(str(tmp_path / "file"))


@pytest.mark.parametrize("form", ["jsonl", "parquet", "npz", "edge-manager", "label-studio"])
def test_a_place_is_exported_as_a_store_is(source: str, tmp_path: Path, form: str) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    assert run(["captures", "export", source, str(out), "--format", form]) == 0
    fleet = "acme" if not source.endswith(".db") else None
    export([make_record(n, fleet=fleet) for n in range(10)], other, form)
    if form == "parquet":
        import pyarrow.parquet as pq

        assert pq.read_table(out) == pq.read_table(other)
    else:
        assert out.read_bytes() == other.read_bytes()


def test_npz_holds_what_samples_are_read_from(tmp_path: Path) -> None:
    assert export([*RECORDS, make_record(10, time_us=None)], tmp_path / "x.npz") == 11
    with np.load(tmp_path / "x.npz") as arrays:
        assert set(arrays) == {"image", "scores", "device", "boot", "sequence", "time"}
        assert arrays["image"].dtype == np.int8 and arrays["image"].shape == (11, 1, 4, 4, 1)
        assert arrays["scores"].dtype == np.int16 and arrays["scores"].shape == (11, 1, 3)
        assert arrays["image"][4].tobytes() == RECORDS[4].inputs
        assert arrays["sequence"].tolist() == list(range(11)) and arrays["time"][10] == -1
    assert export([], tmp_path / "none.npz") == 0


def test_npz_of_two_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"these records are of 2; choose, for example, --digest 0{12}"):
        export([make_record(1), make_record(2, digest="00" * 32)], tmp_path / "x.npz")
    assert list(tmp_path.iterdir()) == []


def test_npz_tells_tensors_of_one_name_apart(tmp_path: Path) -> None:
    meta = TensorMeta("time", "int8", (2,), 0, 0, 2)
    record = make_record(1, input_tensors=(meta, meta), output_tensors=(meta,), inputs=b"abcd", outputs=b"ef")
    export([record], tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        found = {name: arrays[name].tobytes() for name in arrays if arrays[name].dtype == np.int8}
    assert found == {"input_time": b"ab", "input_1": b"cd", "output_time": b"ef"}


def test_edge_manager_lines_can_be_unpacked_as_its_consumers_do(tmp_path: Path) -> None:
    """`deviceFleetInputs[0].data` is base64 of the tensor's bytes (aws-samples' Edge Manager workshop)."""
    export([*RECORDS, make_record(10, time_us=None, fleet=None)], tmp_path / "x.jsonl", "edge-manager")
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [base64.b64decode(line["deviceFleetInputs"][0]["data"]) for line in lines[:10]] == [
        record.inputs for record in RECORDS
    ]
    assert struct.unpack("<3h", base64.b64decode(lines[2]["deviceFleetOutputs"][0]["data"])) == struct.unpack(
        "<3h", RECORDS[2].outputs
    )
    assert lines[2]["eventVersion"] == "0"
    assert lines[2]["eventMetadata"] == {
        "deviceId": "0a0b",
        "deviceFleetName": "acme",
        "eventId": "00000000000000ff-2",
        "inferenceTime": "2023-11-14T22:13:20",
        "modelName": "digits",
        "modelVersion": DIGEST,
    }
    assert (lines[10]["eventMetadata"]["deviceFleetName"], lines[10]["eventMetadata"]["inferenceTime"]) == (
        "local",
        None,
    )


def pixels(uri: str) -> tuple[int, int, int, bytes]:
    """Width, height, colour type and rows of a PNG with one chunk of data and no filter."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body = 8, b""
    head: tuple[int, ...] = ()
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        name, chunk = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size) == (zlib.crc32(name + chunk),)
        if name == b"IHDR":
            head = struct.unpack(">IIBBBBB", chunk)
        elif name == b"IDAT":
            body = zlib.decompress(chunk)
        at += 12 + size
    width, height, depth, colour = head[:4]
    stride = len(body) // height
    assert depth == 8 and all(body[y * stride] == 0 for y in range(height))
    return width, height, colour, b"".join(body[y * stride + 1 : (y + 1) * stride] for y in range(height))


def test_label_studio_tasks_show_images_and_series_and_the_models_choice(tmp_path: Path) -> None:
    series = TensorMeta("accel", "int8", (1, 4), 0x3F000000, 1, 4)
    other = make_record(10, input_tensors=(series,), inputs=b"\x01\x02\x03\xff", output_tensors=(), outputs=b"")
    export([*RECORDS, other], tmp_path / "x.json")
    tasks = json.loads((tmp_path / "x.json").read_text())
    assert len(tasks) == 11
    expected = bytes(value ^ 0x80 for value in RECORDS[4].inputs)
    assert pixels(tasks[4]["data"]["image"]) == (4, 4, 0, expected)
    scores = struct.unpack("<3h", RECORDS[4].outputs)
    (prediction,) = tasks[4]["predictions"]
    assert prediction["result"][0]["value"] == {"choices": [str(scores.index(max(scores)))]}
    assert prediction["model_version"] == DIGEST and tasks[4]["data"]["sequence"] == 4
    assert tasks[10]["data"]["series"] == {"index": [0, 1, 2, 3], "value": [0.0, 0.5, 1.0, -1.0]}
    assert "predictions" not in tasks[10]


@pytest.mark.parametrize("arguments", [["x.txt"], ["x.jsonl", "--format", "xml"]])
def test_another_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with Store(tmp_path / "captures.db") as store:
        store.add(RECORDS)
    out = str(tmp_path / arguments[0])
    assert run(["captures", "export", str(tmp_path / "captures.db"), out, *arguments[1:]]) == 2
    assert "no format; end it in one of .jsonl, .parquet, .npz, .json" in capsys.readouterr().err
    assert not Path(out).exists()


def test_a_digest_chooses_the_model(tmp_path: Path) -> None:
    records: list[Record] = [make_record(1), make_record(2, digest="00" * 32, model="other")]
    with Store(tmp_path / "captures.db") as store:
        store.add(records)
    keep(str(tmp_path / "captures"), [delivery(record) for record in records])
    for source in ("captures.db", "captures"):
        assert run(["captures", "export", str(tmp_path / source), str(tmp_path / "x.npz"), "--digest", "00"]) == 0
        with np.load(tmp_path / "x.npz") as arrays:
            assert arrays["sequence"].tolist() == [2]
