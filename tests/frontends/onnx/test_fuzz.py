"""Damaged ONNX files: a graph or one of our errors, never anything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import verify

DIGITS = (Path(__file__).parents[3] / "docs" / "examples" / "digits" / "digits.onnx").read_bytes()

# Weights carry no structure: damage goes to the names, shapes, attributes and lengths around them.
STRUCTURE = [i for i in range(len(DIGITS)) if i < 900 or i > len(DIGITS) - 300]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The digits model with bytes changed, taken out, put in or cut off."""
    data = bytearray(DIGITS)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.sampled_from(STRUCTURE)) % max(len(data), 1)
        kind = draw(st.sampled_from(("change", "remove", "insert", "cut")))
        if kind == "change" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 8))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del data[max(at, 1) :]
    return bytes(data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged())
def test_a_damaged_model_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    try:
        verify(load_model(path), "frontend")
    except IntaglioError as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.slow
def test_damage_takes_no_more_than_a_gigabyte(tmp_path: Path) -> None:
    """The same under a limit of the address space, over seeded damage."""
    code = """
import random, resource, sys
from pathlib import Path
from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.frontends import load_model
data = Path(sys.argv[1]).read_bytes()
path = Path(sys.argv[2]) / "damaged.onnx"
load_model(Path(sys.argv[1]))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
rng = random.Random(1)
for _ in range(2000):
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        changed[rng.choice((rng.randrange(900), rng.randrange(len(data) - 300, len(data))))] = rng.randrange(256)
    path.write_bytes(changed)
    try:
        load_model(path)
    except IntaglioError:
        pass
"""
    source = tmp_path / "digits.onnx"
    source.write_bytes(DIGITS)
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path)],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
