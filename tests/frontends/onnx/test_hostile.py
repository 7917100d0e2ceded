"""Damaged and hostile files end in one clear error or in a graph: never in anything else, in bounded space."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from frontends.onnx.damage import SEEDS, Model, damaged
from frontends.onnx.survival import survives
from onnx import TensorProto

from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.frontends.onnx import read
from intaglio.quantizer.ir import verify

TESTS = Path(__file__).parents[2]
QUICK, SLOW = 400, 20_000
"""Damaged forms of each seed."""


@pytest.mark.parametrize("name", SEEDS)
def test_seed_is_a_model(name: str) -> None:
    graph = read(SEEDS[name](), "seed.onnx", "seed")
    assert graph.nodes
    verify(graph, "frontend")


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_fields(name: str) -> None:
    for seed in range(QUICK):
        survives(damaged(SEEDS[name](), seed))


@pytest.mark.parametrize("name", SEEDS)
def test_truncated_model(name: str) -> None:
    data = SEEDS[name]()
    for length in range(0, len(data), 3):
        survives(data[:length])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SEEDS)
def test_damaged_fields_in_depth(name: str) -> None:
    data = SEEDS[name]()
    for seed in range(QUICK, SLOW):
        survives(damaged(data, seed))


THIRD_PARTY = ("alibaba_ad", "alibaba_kws", "alibaba_kws_qdq", "alibaba_kws_qop", "atmega_mnist")


@pytest.mark.parametrize("name", THIRD_PARTY)
def test_damaged_third_party_model(models: Path, name: str) -> None:
    data = (models / "onnx" / f"{name}.onnx").read_bytes()
    for seed in range(20):
        survives(damaged(data, seed))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", THIRD_PARTY)
def test_damaged_third_party_model_in_depth(models: Path, name: str) -> None:
    data = (models / "onnx" / f"{name}.onnx").read_bytes()
    for seed in range(20, 1000):
        survives(damaged(data, seed))


def fill() -> bytes:
    """Five hundred constants of 2^24 elements each."""
    m = Model(1, 4)
    size = m.ints(1 << 12, 1 << 12)
    made = [m.node("ConstantOfShape", size) for _ in range(500)]
    return m.bytes(m.node("Add", "x", made[-1]))


def outer() -> bytes:
    """Products of a column and a row."""
    m = Model(1, 4)
    column, row = (m.constant(np.ones(shape, np.int64)) for shape in ((1 << 13, 1), (1, 1 << 13)))
    made = [m.node("Mul", column, row) for _ in range(100)]
    return m.bytes(m.node("Add", "x", made[-1]))


def doubling() -> bytes:
    """A constant that is concatenated with itself, forty times over."""
    m = Model(1, 4)
    part = m.ints(*range(1 << 10))
    for _ in range(40):
        part = m.node("Concat", part, part, axis=0)
    return m.bytes(m.node("Add", "x", part))


def joining() -> bytes:
    """The input concatenated with itself, forty times over."""
    m = Model(1, 4)
    part = "x"
    for _ in range(40):
        part = m.node("Concat", part, part, axis=1)
    return m.bytes(part)


def padding() -> bytes:
    """Two thousand million columns."""
    m = Model(1, 4)
    return m.bytes(m.node("Pad", "x", m.ints(0, 0, 0, (1 << 31) - 1)))


def resizing() -> bytes:
    """An image of 2^30 pixels from one."""
    m = Model(1, 1, 1, 1)
    return m.bytes(m.node("Resize", "x", "", "", m.ints(1, 1, 1 << 15, 1 << 15)))


def gathering() -> bytes:
    """2^28 values from two rows."""
    m = Model(2, 1 << 14)
    return m.bytes(m.node("Gather", "x", m.constant(np.zeros(1 << 14, np.int64))))


def counting() -> bytes:
    """A range of 2^40 numbers."""
    m = Model(1, 4)
    ends = [m.constant(np.array(v, np.int64)) for v in (0, 1 << 40, 1)]
    return m.bytes(m.node("Add", "x", m.node("Range", *ends)))


def tiling() -> bytes:
    """A row repeated 2^30 times."""
    m = Model(1, 4)
    return m.bytes(m.node("Add", "x", m.node("Tile", m.real(1, 4), m.ints(1 << 30, 1))))


def spreading() -> bytes:
    """A transposed convolution whose taps lie 2^20 apart."""
    m = Model(1, 1, 2, 2)
    return m.bytes(m.node("ConvTranspose", "x", m.real(1, 1, 3, 3), dilations=[1 << 20, 1 << 20]))


def grouping() -> bytes:
    """A transposed convolution of 2^14 groups."""
    m = Model(1, 1 << 14, 1, 1)
    return m.bytes(m.node("ConvTranspose", "x", m.real(1 << 14, 1, 1, 1), group=1 << 14))


def sharing() -> bytes:
    """Four hundred layers that read one constant of 4 MB."""
    m = Model(1, 1 << 10)
    weights = m.constant(np.ones((1 << 10, 1 << 10), np.float32))
    t = "x"
    for _ in range(400):
        t = m.node("Gemm", t, weights)
    return m.bytes(t)


def port() -> bytes:
    """An input of 2^40 elements."""
    m = Model(1, 1 << 20, 1 << 20, kind=TensorProto.INT8)
    return m.bytes(m.node("Identity", "x"))


def claimed() -> bytes:
    """A constant that claims 2^60 elements and holds four."""
    m = Model(1, 4)
    weights = m.real(4)
    m.constants[0].dims[:] = [1 << 30, 1 << 30]
    return m.bytes(m.node("Add", "x", weights))


BOMBS: tuple[Callable[[], bytes], ...] = (
    *(fill, outer, doubling, joining, padding, resizing, gathering, counting, tiling),
    *(spreading, grouping, sharing, port, claimed),
)

LIMITED = """
import resource, sys
from pathlib import Path
import onnx.reference
from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.frontends.onnx import read
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for path in map(Path, sys.argv[1:]):
    try:
        read(path.read_bytes(), path.stem, path.stem)
    except IntaglioError as error:
        print(path.stem, error)
"""


def test_small_files_that_describe_a_lot(tmp_path: Path) -> None:
    """Every one is refused within 1 GB of address space, libraries included."""
    paths = []
    for build in BOMBS:
        paths.append(tmp_path / f"{build.__name__}.onnx")
        paths[-1].write_bytes(build())
    command = [sys.executable, "-c", LIMITED, *map(str, paths)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    refused = {line.split()[0] for line in done.stdout.splitlines()}
    assert refused == {path.stem for path in paths}, done.stdout
    assert "MemoryError" not in done.stdout and "allocate" not in done.stdout, done.stdout


def test_error_of_a_shape_rule_names_the_file() -> None:
    m = Model(1, 4, 5, 5)
    with pytest.raises(IntaglioError, match=r"^seed.onnx: SpaceToDepth #0 'node0': blocks of 2"):
        read(m.bytes(m.node("SpaceToDepth", "x", blocksize=2)), "seed.onnx", "seed")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_coverage_guided_fuzzing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="not installed: pip install atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, build in SEEDS.items():
        (corpus / name).write_bytes(build())
    script = Path(__file__).with_name("fuzz_reader.py")
    # libFuzzer's own records grow with every run; one allocation of a gigabyte is ours.
    limits = ["-malloc_limit_mb=1024", "-rss_limit_mb=4096", "-timeout=60"]
    command = [sys.executable, str(script), str(corpus), "-runs=30000", "-seed=1", "-max_len=16384", *limits]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1500, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
