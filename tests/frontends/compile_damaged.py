"""Compile damaged copies of a model file: python compile_damaged.py MODEL COUNT SEED FOLDER.

Every copy must end in C or in one of our errors, of one line, within `SECONDS`. Prints how many of each, and the
most memory that the process has had, in bytes.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

from intaglio.boards.cores import CORES
from intaglio.codegen.emit import emit
from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import Graph, verify
from intaglio.quantizer.pipeline import Options, run_passes

SECONDS = 60
"""For one file: many times what the largest of the models takes."""

WORDS = (0, 1, 2, 3, 4, 8, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to four edits, nine in ten of them near the ends, where files describe what lies between."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        size = len(result)
        at = rng.choice((rng.randrange(min(size, 2048)), size - 1 - rng.randrange(min(size, 8192))))
        if rng.random() < 0.1:
            at = rng.randrange(size)
        kind = rng.randrange(5)
        if kind == 0:
            result[at] = rng.randrange(256)
        elif kind == 1:
            result[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            result[at & ~3 : (at & ~3) + 4] = rng.choice(WORDS).to_bytes(4, "little")
        elif kind == 3:
            source = rng.randrange(size)
            result[at : at + 8] = result[source : source + 8]
        elif rng.random() < 0.1:
            del result[max(at, 1) :]
    return bytes(result)


def noise(graph: Graph, folder: Path) -> Path:
    """Calibration data of a graph's inputs."""
    path = folder / "noise.npz"
    rng = np.random.default_rng(0)
    np.savez(path, **{name: rng.normal(size=(1, *graph.types[name].shape)) for name in graph.inputs})
    return path


def compile_file(path: Path, folder: Path) -> None:
    """A file to C, all in memory."""
    graph = load_model(path)
    verify(graph, "frontend")
    data = noise(graph, folder) if graph.contract is None else None
    emit(run_passes(graph, Options(data=data, range_method="min-max")), "damaged", CORES["cortex-m0"])


def too_long(*_: object) -> None:
    raise TimeoutError(f"still compiling after {SECONDS} s")


def main(model: Path, count: int, seed: int, folder: Path) -> None:
    data, rng = model.read_bytes(), random.Random(seed)
    path = folder / f"damaged{model.suffix}"
    compiled = refused = 0
    warnings.simplefilter("error")
    signal.signal(signal.SIGALRM, too_long)
    for number in range(count):
        path.write_bytes(damaged(data, rng))
        signal.alarm(SECONDS)
        try:
            compile_file(path, folder)
            compiled += 1
        except IntaglioError as error:
            refused += 1
            assert "\n" not in str(error) and "our mistake" not in str(error), str(error)
        except BaseException:
            print(f"{model.name}, damage {number} of seed {seed}, is kept as {path}", file=sys.stderr)
            raise
        signal.alarm(0)
    print(compiled, refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
