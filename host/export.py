"""Captured predictions as files for others: JSON Lines and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from intaglio.host.files import whole_file
from intaglio.host.store import Record
from intaglio.host.tensors import TensorMeta, split, to_array
from intaglio.quantizer.errors import StoreError, UsageError


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
    try:
        with whole_file(out) as scratch:
            count = writers[out.suffix](records, scratch)
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
                    {**_describe(meta), "values": to_array(meta, piece).ravel().tolist()}
                    for meta, piece in split(tensors, data)
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
                    row[side] = [{**_describe(meta), "data": piece} for meta, piece in split(tensors, data)]
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


def _describe(meta: TensorMeta) -> dict[str, Any]:
    return {
        "name": meta.name,
        "dtype": meta.dtype,
        "shape": list(meta.shape),
        "scale": meta.scale,
        "scale_bits": meta.scale_bits,
        "zero_point": meta.zero_point,
    }
