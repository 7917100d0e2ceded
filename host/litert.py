"""LiteRT's reference kernels as an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from intaglio.quantizer.errors import ToolError
from intaglio.quantizer.ir import Graph
from intaglio.quantizer.reference import surviving

Array = NDArray[Any]


def tensors_by_name(interpreter: Interpreter) -> dict[str, dict[str, Any]]:
    """LiteRT's tensors by the names that our frontend gives them: numbered where the file does not name them apart."""
    details = interpreter.get_tensor_details()
    numbered = {f"{d['name'] or 'tensor'}:{d['index']}": d for d in details}
    return {**numbered, **{d["name"]: d for d in details if d["name"]}}


def run_litert(
    path: Path, graph: Graph, samples: Sequence[Sequence[Array]], tensors: Sequence[str]
) -> list[tuple[str, list[Array]]]:
    """Run a TFLite model with BUILTIN_REF kernels and return the tensors whose names both sides know.

    Args:
        path: the model.
        graph: as our frontend reads it; an integer input may lie behind a QUANTIZE, then it is set there.
        samples: per sample one integer array per graph input.
        tensors: names of the tensors wanted.

    Returns:
        Per tensor, one flat int64 array per sample; tensors that LiteRT does not have are left out.

    Raises:
        ToolError: LiteRT does not take the model.
    """
    try:
        interpreter = Interpreter(
            str(path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        said = str(error).partition(". ")[0].partition(".Tensor")[0]
        raise ToolError("LiteRT", f"refuses the model: {said}", "compare with the definition instead") from error
    details = tensors_by_name(interpreter)
    inputs = interpreter.get_input_details()
    wanted = [t for t in tensors if t in details and _comparable(tuple(details[t]["shape"]), t, graph)]
    result: dict[str, list[Array]] = {t: [] for t in wanted}
    for sample in samples:
        for port, value, name in zip(inputs, sample, graph.inputs, strict=True):
            kind = graph.types[name]
            if port["dtype"] == np.float32 and not kind.dtype.is_float:
                value = ((value.astype(np.float32) - kind.zero_point) * np.float32(kind.scale)).astype(np.float32)
            interpreter.set_tensor(port["index"], value.reshape(port["shape"]).astype(port["dtype"]))
        interpreter.invoke()
        for t in wanted:
            value = interpreter.get_tensor(details[t]["index"]).astype(np.int64)
            result[t].append(surviving(value, t, graph).ravel())
    return list(result.items())


def _comparable(shape: tuple[int, ...], tensor: str, graph: Graph) -> bool:
    """Whether LiteRT's tensor holds as many elements as ours, after dead channels are taken out of it."""
    kind = graph.types[tensor]
    if tensor not in graph.live:
        return int(np.prod(shape)) == kind.elements
    kept = len(graph.live[tensor])
    return int(np.prod(shape[:-1])) * kept == kind.elements and max(graph.live[tensor]) < shape[-1]
