"""Captured predictions in the layouts of other tools.

Edge Manager: the capture files of Amazon SageMaker Edge Manager's agent, one JSON object a line: `eventVersion`,
`eventMetadata` (deviceId, deviceFleetName, eventId, inferenceTime, modelName, modelVersion), `deviceFleetInputs` and
`deviceFleetOutputs`, whose entries carry name, mode, encoding, observedContentType and base64 `data`, and the
auxiliary lists. What reads them is, for one, the consumer of AWS's Edge Manager workshop, which unpacks
`deviceFleetInputs[0].data`; the example with all keys is in the documentation of Lookout for Vision's edge
components, which use the same agent. The data are a tensor's bytes, little-endian, in C order; `dataType`, `shape`,
`scale` and `zeroPoint` are ours, as its tensors were float32 and told their types elsewhere.

Label Studio: a list of tasks with `data` and `predictions` (labelstud.io, "Import data" and "Import
pre-annotations"). An input that is an image becomes a PNG in a data URI under `image`, any other a series of real
values under `series`; the model's choice is a prediction of the tag `class`.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from intaglio.host.store import Record
from intaglio.host.tensors import TensorMeta, split, to_array

_NO_FLEET = "local"


def edge_manager_line(record: Record) -> dict[str, Any]:
    """A record as a line of Edge Manager's capture files."""
    when = None
    if record.time_us is not None:
        when = f"{datetime.fromtimestamp(record.time_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}"
    return {
        "eventVersion": "0",
        "eventMetadata": {
            "deviceId": record.device,
            "deviceFleetName": record.fleet or _NO_FLEET,
            "eventId": f"{record.boot}-{record.sequence}",
            "inferenceTime": when,
            "modelName": record.model,
            "modelVersion": record.digest,
        },
        "deviceFleetInputs": _entries(record.input_tensors, record.inputs, "Input"),
        "deviceFleetOutputs": _entries(record.output_tensors, record.outputs, "Output"),
        "deviceFleetAuxiliaryInputs": [],
        "deviceFleetAuxiliaryOutputs": [],
    }


def label_studio_task(record: Record) -> dict[str, Any]:
    """A record as a task of Label Studio; its fields are in `data` too, for the labelled task to be found again."""
    data: dict[str, Any] = {
        "fleet": record.fleet,
        "device": record.device,
        "boot": record.boot,
        "sequence": record.sequence,
        "model": record.model,
        "digest": record.digest,
        "time_us": record.time_us,
    }
    shown = next(split(record.input_tensors, record.inputs), None)
    kind = "none"
    if shown is not None and _is_image(shown[0]):
        kind = "image"
        data[kind] = "data:image/png;base64," + base64.b64encode(_png(*shown)).decode("ascii")
    elif shown is not None:
        kind = "series"
        values = _real(*shown)
        data[kind] = {"index": list(range(len(values))), "value": values}
    task: dict[str, Any] = {"data": data}
    scores = next(split(record.output_tensors, record.outputs), None)
    if scores is not None and len(_real(*scores)) > 1:
        real = _real(*scores)
        best = max(range(len(real)), key=real.__getitem__)
        choice = {
            "from_name": "class",
            "to_name": "input",
            "type": "choices",
            "value": {"choices": [str(best)]},
        }
        task["predictions"] = [{"model_version": record.digest, "score": real[best], "result": [choice]}]
    return task


def _entries(tensors: Sequence[TensorMeta], data: bytes, mode: str) -> list[dict[str, Any]]:
    return [
        {
            "name": meta.name,
            "mode": mode,
            "encoding": "BASE64",
            "observedContentType": "application/octet-stream",
            "data": base64.b64encode(piece).decode("ascii"),
            "dataType": meta.dtype,
            "shape": list(meta.shape),
            "scale": meta.scale,
            "zeroPoint": meta.zero_point,
        }
        for meta, piece in split(tensors, data)
    ]


def _real(meta: TensorMeta, data: bytes) -> list[float]:
    scale = 1.0 if meta.scale is None else meta.scale
    return [scale * (value - meta.zero_point) for value in to_array(meta, data).ravel().tolist()]


def _is_image(meta: TensorMeta) -> bool:
    """One picture, NHWC, grey or RGB, of 8-bit integers."""
    plain = len(meta.shape) == 4 and meta.shape[0] == 1 and meta.shape[3] in (1, 3)
    return plain and min(meta.shape[1:3]) > 1 and meta.dtype in ("int8", "uint8")


def _png(meta: TensorMeta, data: bytes) -> bytes:
    """A PNG (ISO/IEC 15948) of a tensor; the smallest integer of its dtype is black."""
    _, height, width, channels = meta.shape
    pixels = bytes(value ^ 0x80 for value in data) if meta.dtype == "int8" else data
    stride = width * channels
    rows = b"".join(b"\0" + pixels[y * stride : (y + 1) * stride] for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
