"""Model files in: each frontend only translates, and is imported when a file needs it."""

from __future__ import annotations

import importlib
from pathlib import Path

from intaglio.quantizer.errors import ModelError
from intaglio.quantizer.ir import Graph

FRONTENDS = {".tflite": "tflite", ".onnx": "onnx"}
"""File suffix to the module of this folder whose `load(path) -> Graph` reads it."""

MAX_FILE_BYTES = 256 * 1024 * 1024


def load_model(path: Path) -> Graph:
    """Read a model file; the suffix says which format.

    Returns:
        A real-valued graph (contract None) or a quantised one (contract set).

    Raises:
        ModelError: missing, unreadable, too large, of unknown format, malformed.
        UnsupportedError: holds what no frontend or operator supports.
    """
    module = FRONTENDS.get(path.suffix.lower())
    if module is None:
        raise ModelError(
            str(path), f"unknown model format '{path.suffix}'", f"give one of {', '.join(sorted(FRONTENDS))}"
        )
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(str(path), f"cannot be read ({error.strerror})", "check the path") from error
    if size > MAX_FILE_BYTES:
        raise ModelError(str(path), f"{size} bytes", "no microcontroller holds a model of more than 256 MB")
    frontend = importlib.import_module(f"{__name__}.{module}")
    graph: Graph = frontend.load(path)
    return graph
