"""Compare the integer reference with LiteRT's reference kernels, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from intaglio.host.litert import tensors_by_name
from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.frontends.tflite import read
from intaglio.quantizer.ir import Graph, verify
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode

Array = NDArray[Any]


def interpreter(model: Path | bytes) -> Interpreter:
    """LiteRT with BUILTIN_REF kernels, every tensor preserved."""
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    result = Interpreter(
        **source,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    result.allocate_tensors()
    return result


def random_inputs(graph: Graph, count: int, seed: int = 0) -> Iterator[list[Array]]:
    """The extremes of each input's type, then random integers, of the graph's input shapes."""
    rng = np.random.default_rng(seed)
    kinds = [graph.types[name] for name in graph.inputs]
    for number in range(count):
        if number < 2:
            yield [np.full(k.shape, (k.dtype.low, k.dtype.high)[number], k.dtype.numpy) for k in kinds]
        else:
            yield [rng.integers(k.dtype.low, k.dtype.high, k.shape, k.dtype.numpy, endpoint=True) for k in kinds]


def integers(value: Array, graph: Graph, name: str) -> Array:
    """A real output of LiteRT as the integers that its last DEQUANTIZE read."""
    if value.dtype.kind == "f":
        kind = graph.types[name]
        value = np.rint(value / np.float32(kind.scale)) + kind.zero_point
    return value.astype(np.int64)


class Pair:
    """One model in both engines; state is kept between samples on both sides.

    Args:
        model: the file, or its content.
    """

    def __init__(self, model: Path | bytes) -> None:
        graph = load_model(model) if isinstance(model, Path) else read(model, "model.tflite", "model")
        verify(graph, "frontend")
        self.graph = lower(graph)
        self.ours = Evaluator(self.graph, Mode.INTEGER)
        # LiteRT reads constants from the caller's buffer, which must live as long as it does.
        self._model = model
        self.theirs = interpreter(model)
        self.by_name = tensors_by_name(self.theirs)

    def run(self, sample: Sequence[Array]) -> None:
        """Assert that every tensor that both engines know is equal.

        Raises:
            AssertionError: names the first node that differs.
        """
        graph = self.graph
        for port, name, value in zip(self.theirs.get_input_details(), graph.inputs, sample, strict=True):
            if port["dtype"] == np.float32:
                kind = graph.types[name]
                value = (value.astype(np.float32) - np.float32(kind.zero_point)) * np.float32(kind.scale)
            self.theirs.set_tensor(port["index"], value.reshape(port["shape"]).astype(port["dtype"]))
        self.theirs.invoke()
        values = self.values = self.ours.run(sample)
        for node in graph.nodes:
            for name in node.outputs:
                detail = self.by_name.get(name)
                if detail is not None and np.prod(detail["shape"]) == graph.types[name].elements:
                    assert_equal(values[name], self.theirs.get_tensor(detail["index"]), f"{node}, tensor '{name}'")
        for port, name in zip(self.theirs.get_output_details(), graph.outputs, strict=True):
            expected = integers(self.theirs.get_tensor(port["index"]), graph, name)
            assert_equal(values[name], expected, f"output '{name}'")


def assert_equal(ours: Array, theirs: Array, where: str) -> None:
    """Integers compare with ==."""
    ours, theirs = ours.ravel(), theirs.astype(np.int64).ravel()
    wrong = np.flatnonzero(ours != theirs)
    shown = [(int(i), int(ours[i]), int(theirs[i])) for i in wrong[:5]]
    assert not len(wrong), f"{where}: {len(wrong)} of {len(ours)} differ: (index, ours, LiteRT) {shown}"
