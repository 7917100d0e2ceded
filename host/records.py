"""The bytes that go into and come out of a measuring harness (`harness/harness.h`)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from intaglio.host.tensors import DTYPES
from intaglio.quantizer.errors import ToolError, UsageError

Array = npt.NDArray[np.generic]

_TENSOR, _TRACE, _OUTPUT, _DONE, _OVERRUN, _MISMATCH, _FAULT = range(1, 8)


class Trace(NamedTuple):
    """One tensor at a layer boundary: layer index, output index within the layer, raw bytes."""

    layer: int
    output: int
    data: bytes


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as the library's `intaglio_tensor` describes it."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    bytes: int


@dataclass
class Sample:
    """What one call of `invoke` gave."""

    outputs: list[Array] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    stack_bytes: int = 0


@dataclass
class Run:
    """Everything one harness run returned."""

    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    samples: list[Sample]


def pack(inputs: Sequence[Sequence[Array]], *, reset_each: bool) -> bytes:
    """Samples as the harness reads them.

    Args:
        inputs: per sample, one array per model input, of the input's dtype; the shape is free as long as
            the number of bytes is that of the input.
        reset_each: call `reset` before every sample instead of once.

    Raises:
        UsageError: an array has a dtype that no generated library takes.
    """
    parts = [struct.pack("<II", len(inputs), int(reset_each))]
    for index, sample in enumerate(inputs):
        for array in sample:
            if array.dtype.name not in DTYPES:
                raise UsageError(
                    f"sample {index}",
                    f"dtype {array.dtype} is not one of a generated library's",
                    "pass the integers of the model's input",
                )
            data = np.ascontiguousarray(array).tobytes()
            parts += [struct.pack("<II", DTYPES.index(array.dtype.name), len(data)), data]
    return b"".join(parts)


def parse(data: bytes, where: str, expected: int) -> Run:
    """Read the records of a run of `expected` samples.

    Args:
        where: the library and place, for messages.

    Raises:
        ToolError: the run is cut short, faulted, wrote outside its arena or returned a negative status.
        UsageError: an input did not have the size or dtype of the model's.
    """
    run = Run([], [], [])
    sample = Sample()
    at = 0
    while at + 16 <= len(data):
        kind, a, b, size = struct.unpack_from("<IIII", data, at)
        body = data[at + 16 : at + 16 + size]
        if len(body) != size:
            break
        at += 16 + size
        number = len(run.samples)
        if kind == _TENSOR:
            dtype, total, rank = struct.unpack_from("<III", body)
            shape = struct.unpack_from(f"<{rank}i", body, 12)
            (run.outputs if a else run.inputs).append(TensorInfo(np.dtype(DTYPES[dtype]), shape, total))
        elif kind == _TRACE:
            sample.traces.append(Trace(a, b, body))
        elif kind == _OUTPUT:
            info = run.outputs[a]
            sample.outputs.append(np.frombuffer(body, info.dtype).reshape(info.shape))
        elif kind == _DONE:
            status = a - (1 << 32) if a >> 31 else a
            if status != 0:
                raise ToolError(where, f"invoke returned {status} on sample {number}", "the code refused its input")
            sample.stack_bytes = b
            run.samples.append(sample)
            sample = Sample()
        elif kind == _OVERRUN:
            side = "after the end" if a else "before the start"
            raise ToolError(
                where,
                f"sample {number} wrote {b} bytes {side} of the arena",
                "this is a fault of the generated code; report the model",
            )
        elif kind == _MISMATCH:
            want = run.inputs[a]
            raise UsageError(
                where,
                f"input {a} of sample {number} has {b} bytes or the wrong dtype",
                f"it takes {want.dtype} of shape {list(want.shape)}, {want.bytes} bytes",
            )
        elif kind == _FAULT:
            raise ToolError(
                where,
                f"hard fault at pc {a:#010x} (status {b:#x}) in sample {number}",
                "this is a fault of the generated code; report the model",
            )
        else:
            raise ToolError(where, f"record of unknown kind {kind}", "the output file is damaged")
    if at != len(data) or len(run.samples) != expected:
        raise ToolError(where, f"stopped after {len(run.samples)} of {expected} samples", "run it with one sample")
    return run
