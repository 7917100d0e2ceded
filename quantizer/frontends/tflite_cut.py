"""Cut the QUANTIZE at float inputs and the DEQUANTIZE at float outputs: the integers become the model's ports."""

from __future__ import annotations

from dataclasses import replace

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.frontends.tflite_schema import Operator, SubGraph

MAX_PORTS = 256
"""Inputs and outputs of a model."""


def cut_ports(graph: SubGraph, where: str) -> SubGraph:
    """Return the subgraph with its integer tensors as inputs and outputs, where it has them.

    Raises:
        UnsupportedError: a float input is quantised in two ways, so no integers stand for it.
    """
    if len(graph.inputs) + len(graph.outputs) > MAX_PORTS:
        raise UnsupportedError(where, f"more than {MAX_PORTS} inputs and outputs", "split the model")
    inputs, renamed, cut = list(graph.inputs), dict[int, int](), set[int]()
    readers = _readers(graph)
    for position, number in enumerate(inputs):
        quantizers = readers.get(number, [])
        if not quantizers or any(o.builtin != "QUANTIZE" or len(o.outputs) != 1 for o in quantizers):
            continue
        if not graph.tensors[number].type.startswith("float") or number in graph.outputs:
            continue
        made = [o.outputs[0] for o in quantizers]
        first = graph.tensors[made[0]]
        for tensor in (graph.tensors[other] for other in made[1:]):
            if (tensor.type, tensor.quantisation) != (first.type, first.quantisation):
                raise UnsupportedError(
                    f"{where}: input '{graph.tensors[number].name}'",
                    "is quantised in two ways",
                    "quantise the input in one way",
                )
        inputs[position] = made[0]
        renamed.update(dict.fromkeys(made, made[0]))
        cut.update(o.index for o in quantizers)
    makers = {n: o for o in graph.operators if o.builtin == "DEQUANTIZE" and len(o.inputs) == 1 for n in o.outputs}
    outputs = []
    for number in graph.outputs:
        source = makers[number].inputs[0] if number in makers else -1
        if source < 0 or graph.tensors[source].data is not None:
            outputs.append(renamed.get(number, number))
            continue
        outputs.append(renamed.get(source, source))
        if number not in readers:
            cut.add(makers[number].index)
    operators = tuple(
        replace(o, inputs=tuple(renamed.get(n, n) for n in o.inputs)) for o in graph.operators if o.index not in cut
    )
    return replace(graph, inputs=tuple(inputs), outputs=tuple(outputs), operators=operators)


def _readers(graph: SubGraph) -> dict[int, list[Operator]]:
    """Each tensor to the operators that read it, each once."""
    readers: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        for number in dict.fromkeys(operator.inputs):
            readers.setdefault(number, []).append(operator)
    return readers
