"""Captured predictions as files for others: JSON Lines, Parquet, NumPy, Edge Manager's capture files, Label Studio."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from intaglio.host import parquet
from intaglio.host.exchange import edge_manager_line, label_studio_task
from intaglio.host.files import whole_file
from intaglio.host.store import Record
from intaglio.host.tensors import TensorMeta, split, to_array
from intaglio.quantizer.errors import StoreError, UsageError

FORMATS = ("jsonl", "parquet", "npz", "edge-manager", "label-studio")
_SUFFIXES = {".jsonl": "jsonl", ".parquet": "parquet", ".npz": "npz", ".json": "label-studio"}


def export(records: Iterable[Record], out: Path, form: str | None = None) -> int:
    """Writes records to `out`; all or nothing.

    Args:
        form: one of FORMATS; None: that of the suffix (`.jsonl`, `.parquet`, `.npz`, `.json` for Label Studio).

    `jsonl`: a line has the record's fields and, per tensor, name, dtype, shape, scale, scale_bits, zero_point and the
    flat list of its integers (`values`). `parquet`: the columns of `host/parquet.py`. `npz`: see `_write_npz`.
    `edge-manager`, `label-studio`: see `host/exchange.py`.

    Returns: the number of records.

    Raises:
        StoreError: `out` cannot be written, or a library is missing.
        UsageError: another format; records that a format cannot hold together.
    """
    chosen = form or _SUFFIXES.get(out.suffix)
    if chosen not in _WRITERS:
        what = "the suffix names no format" if form is None else f"{form} is no format"
        suffixes = ", ".join(_SUFFIXES)
        raise UsageError(str(out), what, f"end it in one of {suffixes}, or give --format {'|'.join(FORMATS)}")
    try:
        with whole_file(out) as scratch:
            return _WRITERS[chosen](records, scratch)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise StoreError(str(out), f"cannot be written: {why}", "choose a folder with room and write access") from None


def _write_jsonl(records: Iterable[Record], path: Path) -> int:
    return _write_lines((_line(record) for record in records), path)


def _write_edge_manager(records: Iterable[Record], path: Path) -> int:
    return _write_lines(map(edge_manager_line, records), path)


def _write_lines(lines: Iterable[dict[str, Any]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            count += 1
    return count


def _write_label_studio(records: Iterable[Record], path: Path) -> int:
    """One JSON array, written a task at a time."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for record in records:
            file.write(",\n" if count else "\n")
            file.write(json.dumps(label_studio_task(record), allow_nan=False))
            count += 1
        file.write("\n]\n")
    return count


def _write_npz(records: Iterable[Record], path: Path) -> int:
    """Arrays of one model's records, the first axis being that of the records, in their order.

    One array per tensor by its name, of its dtype (an output that has an input's name, or one of the names below: with
    `output_` before it), and device, boot, sequence and time (microseconds since 1970-01-01 UTC, -1 for none). The
    inputs are samples for `--samples`.
    """
    import numpy as np

    kept = list(records)
    digests = sorted({record.digest for record in kept})
    if len(digests) > 1:
        raise UsageError(
            "npz",
            f"holds one model, these records are of {len(digests)}",
            f"choose, for example, --digest {digests[0][:12]}",
        )
    arrays: dict[str, Any] = {}
    if kept:
        names = _names(kept[0])
        columns = [[] for _ in names]  # type: list[list[Any]]
        for record in kept:
            pieces = [piece for _, tensors, data in _sides(record) for piece in split(tensors, data)]
            if [meta.shape for meta, _ in pieces] != [meta.shape for _, meta in names]:
                raise UsageError(
                    f"record {record.device}/{record.boot}/{record.sequence}",
                    "has other tensors than the first of its model",
                    "`intaglio ingest compact --models STORE` gives records the tensors of their package",
                )
            for column, (meta, piece) in zip(columns, pieces, strict=True):
                column.append(to_array(meta, piece))
        arrays = {name: np.stack(column) for (name, _), column in zip(names, columns, strict=True)}
    arrays["device"] = np.array([record.device for record in kept], dtype=np.str_)
    arrays["boot"] = np.array([record.boot for record in kept], dtype=np.str_)
    arrays["sequence"] = np.array([record.sequence for record in kept], dtype=np.int64)
    arrays["time"] = np.array([-1 if r.time_us is None else r.time_us for r in kept], dtype=np.int64)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return len(kept)


_WRITERS: dict[str | None, Callable[[Iterable[Record], Path], int]] = {
    "jsonl": _write_jsonl,
    "parquet": parquet.write,
    "npz": _write_npz,
    "edge-manager": _write_edge_manager,
    "label-studio": _write_label_studio,
}


def _names(record: Record) -> list[tuple[str, TensorMeta]]:
    """What the tensors of a record are called in an npz file: each name once."""
    taken = {"device", "boot", "sequence", "time", "file"}  # `file` is a parameter of numpy's savez
    found = []
    for side, tensors in (("input", record.input_tensors), ("output", record.output_tensors)):
        for index, meta in enumerate(tensors):
            choices = (meta.name, f"{side}_{meta.name}", f"{side}_{index}")
            name = next((choice for choice in choices if choice and choice not in taken), f"{side}_{index}_")
            taken.add(name)
            found.append((name, meta))
    return found


def _line(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {
        "device": record.device,
        "boot": record.boot,
        "sequence": record.sequence,
        "model": record.model,
        "digest": record.digest,
        "time": record.time_us,
        "up_us": record.up_us,
        "cycles": record.cycles,
    }
    if record.fleet is not None:
        row = {"fleet": record.fleet} | row
    for side, tensors, data in _sides(record):
        row[side] = [
            {**_describe(meta), "values": to_array(meta, piece).ravel().tolist()}
            for meta, piece in split(tensors, data)
        ]
    return row


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
