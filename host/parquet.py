"""Captured predictions as Parquet: one schema for what is exported from a store and for what the ingest workers write.

Columns: fleet, device, boot, sequence, model, digest, time (UTC, microseconds), up_us, cycles, and inputs and outputs,
lists of tensors. A tensor has name, dtype, shape, scale, scale_bits, zero_point and its integers' bytes (`data`,
little-endian, C order): real value = scale * (integer - zero_point).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from intaglio.host.store import Record
from intaglio.host.tensors import TensorMeta, split
from intaglio.quantizer.errors import StoreError

_TENSOR = ("name", "dtype", "shape", "scale", "scale_bits", "zero_point", "data")


@cache
def arrow() -> Any:
    """pyarrow with its Parquet module.

    Raises:
        StoreError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise StoreError(
            "Parquet", "needs pyarrow, which is not installed", "pip install 'intaglio[parquet]'"
        ) from None
    return pa


@cache
def schema() -> Any:
    """The columns, as a pyarrow.Schema."""
    pa = arrow()
    kinds = (pa.string(), pa.string(), pa.list_(pa.int32()), pa.float64(), pa.int64(), pa.int32(), pa.binary())
    tensors = pa.list_(pa.struct(list(zip(_TENSOR, kinds, strict=True))))
    columns = {"fleet": pa.string(), "device": pa.string(), "boot": pa.string(), "sequence": pa.int64()}
    columns |= {"model": pa.string(), "digest": pa.string(), "time": pa.timestamp("us", tz="UTC")}
    columns |= {"up_us": pa.int64(), "cycles": pa.int64(), "inputs": tensors, "outputs": tensors}
    return pa.schema(list(columns.items()))


def table(records: Sequence[Record]) -> Any:
    """Records as a pyarrow.Table of `schema()`."""
    pa = arrow()
    columns: dict[str, list[Any]] = {
        "fleet": [record.fleet for record in records],
        "device": [record.device for record in records],
        "boot": [record.boot for record in records],
        "sequence": [record.sequence for record in records],
        "model": [record.model for record in records],
        "digest": [record.digest for record in records],
        "time": [record.time_us for record in records],
        "up_us": [record.up_us for record in records],
        "cycles": [record.cycles for record in records],
        "inputs": [_tensors(record.input_tensors, record.inputs) for record in records],
        "outputs": [_tensors(record.output_tensors, record.outputs) for record in records],
    }
    return pa.table(columns, schema=schema())


def write(records: Iterable[Record], path: Path) -> int:
    """Write records to a file, a few hundred at a time; returns their number."""
    count = 0
    with arrow().parquet.ParquetWriter(path, schema()) as writer:
        for batch in batches(records, 512):
            writer.write_table(table(batch))
            count += len(batch)
    return count


def records(rows: Any) -> Iterator[Record]:
    """The records of a table or record batch of `schema()`."""
    # As numbers: a Python datetime would be slower, and less than the range of the column.
    times = rows.column("time").cast("int64").to_pylist()
    for row, time_us in zip(rows.to_pylist(), times, strict=True):
        inputs, outputs = ([_meta(tensor) for tensor in row[side]] for side in ("inputs", "outputs"))
        yield Record(
            device=row["device"],
            boot=row["boot"],
            sequence=row["sequence"],
            model=row["model"],
            digest=row["digest"],
            time_us=time_us,
            up_us=row["up_us"],
            cycles=row["cycles"],
            input_tensors=tuple(inputs),
            output_tensors=tuple(outputs),
            inputs=b"".join(tensor["data"] for tensor in row["inputs"]),
            outputs=b"".join(tensor["data"] for tensor in row["outputs"]),
            fleet=row["fleet"],
        )


def batches(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Records in lists of `size`, the last one shorter."""
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _tensors(tensors: Sequence[TensorMeta], data: bytes) -> list[tuple[Any, ...]]:
    return [
        (meta.name, meta.dtype, meta.shape, meta.scale, meta.scale_bits, meta.zero_point, piece)
        for meta, piece in split(tensors, data)
    ]


def _meta(tensor: dict[str, Any]) -> TensorMeta:
    bits = tensor["scale_bits"]
    if bits is None and tensor["scale"] is not None:  # a file of somebody else's making
        bits = struct.unpack("<I", struct.pack("<f", tensor["scale"]))[0]
    return TensorMeta(
        tensor["name"], tensor["dtype"], tuple(tensor["shape"]), bits or 0, tensor["zero_point"], len(tensor["data"])
    )
