"""Coverage-guided fuzzing of the ONNX reader: python fuzz_reader.py CORPUS [libFuzzer options], PYTHONPATH=tests.

A crash is any exception that is not an IntaglioError; libFuzzer writes the input beside the working directory. Half
of the mutations change bytes, half change fields of the model.
"""

from __future__ import annotations

import random
import sys

import atheris

with atheris.instrument_imports(include=["intaglio.quantizer.frontends"]):
    from frontends.onnx.damage import damaged
    from frontends.onnx.survival import survives


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change fields, or bytes."""
    if random.Random(seed).random() < 0.5:
        changed = damaged(data, seed)
        if len(changed) <= max_size:
            return changed
    return bytes(atheris.Mutate(data, max_size))


if __name__ == "__main__":
    atheris.Setup(sys.argv, survives, custom_mutator=mutate)
    atheris.Fuzz()
