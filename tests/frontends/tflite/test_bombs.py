"""Small files that describe a lot: refused within bounded memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frontends.tflite.builder import ModelBuilder, options

from intaglio.quantizer.errors import ModelError
from intaglio.quantizer.frontends.tflite import read


def one_sum() -> bytes:
    """A model that adds its input to itself."""
    model = ModelBuilder()
    g = model.main
    x, y = g.tensor((1, 4), "int8", 0.1), g.tensor((1, 4), "int8", 0.1)
    g.op("ADD", [x, x], [y], options("AddOptions", potScaleInt16=False))
    g.ports([x], [y])
    return model.bytes()


def bombs() -> dict[str, bytes]:
    """Small files that describe a lot."""
    result = {}

    def add(name: str, build: Callable[[Any], list[int]]) -> None:
        model = ModelBuilder()
        g = model.main
        x = g.tensor((1, 4), "int8", 0.1)
        outputs = build(g)
        g.ports([x], outputs)
        result[name] = model.bytes()

    def constant(g: Any, values: Any, dtype: str = "int32") -> int:
        values = np.array(values, dtype)
        return int(g.tensor(values.shape, dtype, data=values))

    def fill(g: Any) -> list[int]:
        size, value = constant(g, [1 << 12, 1 << 12]), constant(g, 1.0, "float32")
        outputs = [g.tensor((), "float32") for _ in range(500)]
        for out in outputs:
            g.op("FILL", [size, value], [out], options("FillOptions"))
        return outputs[:1]

    def outer(g: Any) -> list[int]:
        column, row = constant(g, np.ones((1 << 13, 1))), constant(g, np.ones((1, 1 << 13)))
        outputs = [g.tensor((), "int32") for _ in range(300)]
        for out in outputs:
            g.op("MUL", [column, row], [out], options("MulOptions"))
        return outputs[:1]

    def doubling(g: Any) -> list[int]:
        part = constant(g, np.ones(1 << 10))
        for _ in range(40):
            both = g.tensor((), "int32")
            g.op("CONCATENATION", [part] * 2, [both], options("ConcatenationOptions", axis=0))
            part = both
        return [part]

    def packing(g: Any) -> list[int]:
        out = g.tensor((), "int8", 0.1)
        g.op("PACK", [0] * 100_000, [out], options("PackOptions", valuesCount=100_000))
        return [out]

    def joining(g: Any) -> list[int]:
        part = 0
        for _ in range(60):
            both = g.tensor((), "int8", 0.1)
            g.op("CONCATENATION", [part] * 2, [both], options("ConcatenationOptions", axis=1))
            part = both
        return [part]

    def padding(g: Any) -> list[int]:
        out = g.tensor((), "int8", 0.1)
        g.op("PAD", [0, constant(g, [[0, 2**31 - 1]] * 2)], [out], options("PadOptions"))
        return [out]

    def indices(g: Any) -> list[int]:
        table, out = constant(g, np.ones((2, 1 << 14))), g.tensor((), "int32")
        g.op("GATHER", [table, constant(g, np.zeros(1 << 14))], [out], options("GatherOptions"))
        return [out]

    def scales(g: Any) -> list[int]:
        return [g.tensor((1, 1 << 20), "int8", np.full(1 << 20, 0.1), axis=1)]

    def claimed(g: Any) -> list[int]:
        out = g.tensor((), "float32")
        weights = g.tensor((1 << 15, 1 << 15), "int8", 0.1, data=np.zeros(8, np.int8))
        g.op("DEQUANTIZE", [weights], [out], options("DequantizeOptions"))
        return [out]

    def ports(g: Any) -> list[int]:
        for _ in range(20_000):
            g.op("QUANTIZE", [0], [0], options("QuantizeOptions"))
        return [0] * 20_000

    for build in (fill, outer, doubling, packing, joining, padding, indices, scales, claimed, ports):
        add(build.__name__, build)
    return result


LIMITED = """
import resource, sys
from pathlib import Path
from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.frontends import load_model
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for path in map(Path, sys.argv[1:]):
    try:
        load_model(path)
    except IntaglioError as error:
        print(path.stem, error)
"""


def test_small_files_that_describe_a_lot(tmp_path: Path) -> None:
    """Every one is refused within 1 GB of address space, libraries included."""
    paths = []
    for name, data in bombs().items():
        paths.append(tmp_path / f"{name}.tflite")
        paths[-1].write_bytes(data)
    command = [sys.executable, "-c", LIMITED, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    refused = {line.split()[0] for line in done.stdout.splitlines()}
    assert refused == {path.stem for path in paths}, done.stdout


def repeated(data: bytes, count: int) -> bytes:
    """Append a vector of `count` offsets, all to the first tensor, and let the first subgraph's tensors be it."""

    def number(position: int, kind: str) -> int:
        return int(np.frombuffer(data, kind, 1, position)[0])

    def field(table: int, index: int) -> int:
        return table + number(table - number(table, "<i4") + 4 + 2 * index, "<u2")

    def follow(position: int) -> int:
        return position + number(position, "<u4")

    subgraph = follow(follow(field(follow(0), 2)) + 4)
    tensors = field(subgraph, 0)
    first = follow(follow(tensors) + 4)
    # Offsets are unsigned, so the table is copied behind the vector with its vtable where it was.
    start = -(-len(data) // 4) * 4
    table = start + 4 + 4 * count
    body = bytearray(data.ljust(start, b"\0"))
    body[tensors : tensors + 4] = (start - tensors).to_bytes(4, "little")
    body += count.to_bytes(4, "little")
    body += np.arange(table - start - 4, table - start - 4 - 4 * count, -4, dtype=np.int64).astype("<u4").tobytes()
    vtable = first - number(first, "<i4")
    body += (table - vtable).to_bytes(4, "little", signed=True)
    return bytes(body + data[first + 4 :])


def test_table_named_over_and_over() -> None:
    with pytest.raises(ModelError, match="more than 500000 values are described"):
        read(repeated(one_sum(), 200_000), "hostile.tflite", "hostile")
