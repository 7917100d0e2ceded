"""Recompute captured predictions from the package that made them, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from intaglio.host.emulate import EmulatedModel
from intaglio.host.package import Package
from intaglio.host.store import Record
from intaglio.host.tensors import split, to_array


@dataclass(frozen=True)
class Difference:
    """The first integer in which a captured prediction is not what its model computes.

    Attributes:
        device, boot, sequence: the record's key.
        tensor: name of the output; index: of the element in it, in C order.
        captured, computed: the two integers.
        count: how many integers of the record differ.
    """

    device: str
    boot: str
    sequence: int
    tensor: str
    index: int
    captured: int
    computed: int
    count: int


@dataclass(frozen=True)
class Replayed:
    """What was recomputed of one model.

    Attributes:
        model: its name; digest: SHA-256 of its integer graph, hexadecimal.
        package: name, version and board of what was executed; empty when there was none.
        records, integers: how many were compared.
        differences: of the records that differ.
        skipped: why nothing was compared; empty otherwise.
    """

    model: str
    digest: str
    package: str
    records: int
    integers: int
    differences: tuple[Difference, ...]
    skipped: str = ""


def replay(records: Iterable[Record], packages: Iterable[Package]) -> Iterator[Replayed]:
    """Recompute records, model by model.

    Args:
        records: captured predictions.
        packages: to look for their models in, by the digest of the integer graph; of several the first serves, since
            one graph computes one thing on every core.

    Yields:
        One result per model, in the order of their digests.

    Raises:
        PackageError: see `EmulatedModel`.
        MissingToolError: see `EmulatedModel`.
    """
    by_model: dict[str, list[Record]] = {}
    for record in records:
        by_model.setdefault(record.digest, []).append(record)
    found: dict[str, Package] = {}
    for package in packages:
        found.setdefault(package.manifest.graph.hex(), package)
    for digest, group in sorted(by_model.items()):
        name = group[0].model
        if digest not in found:
            yield Replayed(name, digest, "", 0, 0, (), "no package of this model is in the store")
        elif found[digest].manifest.state:
            why = "keeps a state between predictions, which a record does not hold"
            yield Replayed(name, digest, _title(found[digest]), 0, 0, (), why)
        else:
            yield _replay_model(group, found[digest])


def _replay_model(records: list[Record], package: Package) -> Replayed:
    model = EmulatedModel(package)
    integers, differences = 0, []
    for record in records:
        inputs = [data for _, data in split(record.input_tensors, record.inputs)]
        computed = model.predict(inputs, [tensor.nbytes for tensor in record.output_tensors])
        first: Difference | None = None
        wrong = 0
        for (tensor, theirs), ours in zip(split(record.output_tensors, record.outputs), computed, strict=True):
            mine, was = to_array(tensor, ours).ravel(), to_array(tensor, theirs).ravel()
            integers += mine.size
            places = np.flatnonzero(mine != was)
            wrong += places.size
            if first is None and places.size:
                at = int(places[0])
                key = (record.device, record.boot, record.sequence)
                first = Difference(*key, tensor.name, at, int(was[at]), int(mine[at]), 0)
        if first is not None:
            differences.append(Difference(**{**vars(first), "count": wrong}))
    return Replayed(records[0].model, records[0].digest, _title(package), len(records), integers, tuple(differences))


def _title(package: Package) -> str:
    made = package.manifest
    return f"{made.name} {made.version} for {made.board}"
