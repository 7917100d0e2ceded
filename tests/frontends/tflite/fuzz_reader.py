"""Coverage-guided fuzzing of the TFLite reader: python fuzz_reader.py CORPUS [libFuzzer options].

A crash is any exception that is not an IntaglioError; libFuzzer writes the input beside the working directory.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["intaglio.quantizer.frontends"]):
    from intaglio.quantizer.errors import IntaglioError
    from intaglio.quantizer.frontends.tflite import read
from intaglio.quantizer.ir import verify


def one_input(data: bytes) -> None:
    """Read one file."""
    try:
        graph = read(data, "fuzz.tflite", "fuzz")
    except IntaglioError:
        return
    verify(graph, "frontend")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
