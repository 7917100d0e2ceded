"""What must hold of any file."""

from __future__ import annotations

import warnings

from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.frontends.onnx import read
from intaglio.quantizer.ir import verify
from intaglio.quantizer.passes.canonicalise import canonicalise
from intaglio.quantizer.passes.check_finite import check_finite
from intaglio.quantizer.passes.fold_constants import fold_constants
from intaglio.quantizer.passes.lower import lower


def survives(data: bytes) -> None:
    """Read, verify, bring into form, lower: only our errors may be raised, of one line, and no numpy warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _survives(data)


def _survives(data: bytes) -> None:
    try:
        graph = read(data, "hostile.onnx", "hostile")
    except IntaglioError as error:
        message = str(error)
        assert message.startswith("hostile.onnx") and "\n" not in message and "our mistake" not in message, message
        return
    verify(graph, "frontend")
    try:
        graph = canonicalise(fold_constants(check_finite(graph)))
        if graph.contract is not None:
            lower(graph)
    except IntaglioError as error:
        assert "our mistake" not in str(error), str(error)
