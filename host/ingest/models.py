"""What the bytes of a record mean: the tensors of a model, by the digest of its integer graph."""

from __future__ import annotations

import json
import struct
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from intaglio.host.ingest.message import Arrival, RejectedError
from intaglio.host.store import Record
from intaglio.host.tensors import DTYPES, TensorMeta
from intaglio.quantizer.errors import PackageError

_LOOK_AGAIN = 60.0
"""Seconds between two looks into the artefact store for a digest that it did not have."""

_MOST_TENSORS = 64
_MOST_RANK = 8
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Described:
    """A model's name and tensors."""

    name: str
    inputs: tuple[TensorMeta, ...]
    outputs: tuple[TensorMeta, ...]


class Models:
    """Models by digest: from the packages of an artefact store, else as the message itself describes them.

    A description that came with a message holds for that message alone: a device can say nothing about the records
    of others.

    Args:
        place: the artefact store, a folder or s3:// URL; None: only descriptions.
    """

    def __init__(self, place: str | None) -> None:
        self._place = place
        self._known: dict[str, Described] = {}
        self._seen: set[str] = set()
        self._looked = float("-inf")

    def find(self, digest: str) -> Described | None:
        """The model of a package, or None.

        Raises:
            PackageError: the artefact store does not answer.
        """
        if digest not in self._known and self._place is not None and time.monotonic() - self._looked > _LOOK_AGAIN:
            self._look()
        return self._known.get(digest)

    def record(self, arrival: Arrival) -> Record:
        """The arrival as a record.

        A model that nobody knows leaves the bytes as they are: one input `record` of uint8, no output, and the
        beginning of the digest as name. `compact` gives them their tensors when a package has turned up.

        Raises:
            RejectedError: the description is malformed, or the bytes are not those of the tensors.
        """
        model = self.find(arrival.digest)
        if model is None and arrival.description is not None:
            try:
                model = parse_description(arrival.description)
            except ValueError as error:
                raise RejectedError(f"property model: {error}", arrival.key) from None
        if model is None:
            model = _opaque(arrival.digest, len(arrival.data))
        size = sum(meta.nbytes for meta in model.inputs)
        whole = size + sum(meta.nbytes for meta in model.outputs)
        if whole != len(arrival.data):
            raise RejectedError(f"{len(arrival.data)} bytes, the tensors of its model have {whole}", arrival.key)
        return Record(
            device=arrival.key.device,
            boot=arrival.key.boot,
            sequence=arrival.key.sequence,
            model=model.name,
            digest=arrival.digest,
            time_us=arrival.time_us,
            up_us=arrival.up_us,
            cycles=arrival.cycles,
            input_tensors=model.inputs,
            output_tensors=model.outputs,
            inputs=arrival.data[:size],
            outputs=arrival.data[size:],
            fleet=arrival.key.fleet,
        )

    def _look(self) -> None:
        from intaglio.host.artefacts import ArtefactStore

        assert self._place is not None
        if "://" not in self._place and not Path(self._place).is_dir():
            return
        store = ArtefactStore(self._place)
        for entry in store.entries():
            if entry.digest in self._seen:
                continue
            self._seen.add(entry.digest)
            try:
                package = store.pull(entry.digest)
                facts = package.facts
                model = Described(
                    package.manifest.name, *(tuple(map(_fact, facts[side])) for side in ("inputs", "outputs"))
                )
            except (PackageError, KeyError, TypeError, ValueError):
                continue  # a damaged package describes nothing; `intaglio store show` says what is wrong with it
            self._known[package.manifest.graph.hex()] = model
        self._looked = time.monotonic()


def describe(model: str, inputs: tuple[TensorMeta, ...], outputs: tuple[TensorMeta, ...]) -> str:
    """The property `model` of a message: JSON that `parse_description` reads."""
    sides = {"inputs": inputs, "outputs": outputs}
    return json.dumps(
        {"name": model} | {side: [_to_json(meta) for meta in metas] for side, metas in sides.items()},
        separators=(",", ":"),
    )


@lru_cache(maxsize=256)  # a fleet has few models, and each of its messages may bring the same
def parse_description(text: str) -> Described:
    """What `describe` wrote, or anything else that came over the wire.

    Raises:
        ValueError: it is something else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(value, dict) or not _is_name(value.get("name")):
        raise ValueError("no name")
    sides = []
    for side in ("inputs", "outputs"):
        metas = value.get(side)
        if not isinstance(metas, list) or len(metas) > _MOST_TENSORS:
            raise ValueError(f"{side} is not a list of at most {_MOST_TENSORS} tensors")
        sides.append(tuple(_from_json(meta) for meta in metas))
    return Described(value["name"], *sides)


def _to_json(meta: TensorMeta) -> dict[str, Any]:
    return {
        "name": meta.name,
        "dtype": meta.dtype,
        "shape": list(meta.shape),
        "scale_bits": meta.scale_bits,
        "zero_point": meta.zero_point,
        "nbytes": meta.nbytes,
    }


def _from_json(value: Any) -> TensorMeta:
    if not isinstance(value, dict) or not _is_name(value.get("name")) or value.get("dtype") not in DTYPES:
        raise ValueError("a tensor without name or dtype")
    shape = value.get("shape")
    if not isinstance(shape, list) or len(shape) > _MOST_RANK:
        raise ValueError("a tensor without shape")
    numbers = (value.get("scale_bits"), value.get("zero_point"), value.get("nbytes"), *shape)
    if not all(type(number) is int and -(1 << 31) <= number < 1 << 32 for number in numbers):
        raise ValueError("a tensor with something else than numbers")
    if not 0 <= value["scale_bits"] < 1 << 32 or value["zero_point"] >= 1 << 31:
        raise ValueError("a tensor with a scale or zero point out of range")
    if value["scale_bits"] & 0x7F800000 == 0x7F800000 or any(extent >= 1 << 31 for extent in shape):
        raise ValueError("a tensor with a scale or shape out of range")
    meta = TensorMeta(
        value["name"], value["dtype"], tuple(shape), value["scale_bits"], value["zero_point"], value["nbytes"]
    )
    if not meta.consistent:
        raise ValueError("a tensor whose bytes are not those of its shape")
    return meta


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME and _is_text(value)


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return False
    return True


def _fact(fact: dict[str, Any]) -> TensorMeta:
    """A tensor as the facts of a package name it."""
    import math

    import numpy as np

    shape = tuple(int(extent) for extent in fact["shape"])
    scale = fact.get("scale")
    bits = 0 if scale is None else struct.unpack("<I", struct.pack("<f", scale))[0]
    size = math.prod(shape) * np.dtype(fact["dtype"]).itemsize
    return TensorMeta(fact["name"], fact["dtype"], shape, bits, int(fact.get("zero_point") or 0), size)


def _opaque(digest: str, size: int) -> Described:
    return Described(digest[:16], (TensorMeta("record", "uint8", (size,), 0, 0, size),), ())


def is_opaque(record: Record) -> bool:
    """Whether a record was written without knowing its model."""
    return record.model == record.digest[:16] and not record.output_tensors
