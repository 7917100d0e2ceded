"""Cut the QUANTIZE at float inputs and the DEQUANTIZE at float outputs: the integers become the model's ports."""

from __future__ import annotations

from dataclasses import replace

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.frontends.tflite_schema import Operator, SubGraph


def cut_ports(graph: SubGraph, where: str) -> SubGraph:
    """Return the subgraph with its integer tensors as inputs and outputs, where it has them.

    Raises:
        UnsupportedError: a float input is quantised in two ways, so no integers stand for it.
    """
    operators = list(graph.operators)
    inputs = list(graph.inputs)
    for position, number in enumerate(inputs):
        readers = [o for o in operators if number in o.inputs]
        if not readers or any(o.builtin != "QUANTIZE" for o in readers) or number in graph.outputs:
            continue
        if not graph.tensors[number].type.startswith("float") or any(len(o.outputs) != 1 for o in readers):
            continue
        made = [o.outputs[0] for o in readers]
        first = graph.tensors[made[0]]
        for other in made[1:]:
            tensor = graph.tensors[other]
            if (tensor.type, tensor.quantisation) != (first.type, first.quantisation):
                raise UnsupportedError(
                    f"{where}: input '{graph.tensors[number].name}'",
                    "is quantised in two ways",
                    "quantise the input in one way",
                )
        inputs[position] = made[0]
        operators = [_read(o, dict.fromkeys(made, made[0])) for o in operators if o not in readers]
    outputs = []
    for number in graph.outputs:
        makers = [o for o in operators if number in o.outputs and o.builtin == "DEQUANTIZE" and len(o.inputs) == 1]
        source = makers[0].inputs[0] if makers else -1
        outputs.append(number if source < 0 or graph.tensors[source].data is not None else source)
    operators = [o for o in operators if not _unused(o, operators, outputs)]
    # A port that passed straight through both cuts would be no longer made by anything.
    return replace(graph, inputs=tuple(inputs), outputs=tuple(outputs), operators=tuple(operators))


def _read(operator: Operator, renamed: dict[int, int]) -> Operator:
    return replace(operator, inputs=tuple(renamed.get(n, n) for n in operator.inputs))


def _unused(operator: Operator, operators: list[Operator], outputs: list[int]) -> bool:
    """Whether a DEQUANTIZE lost its only reader, the output."""
    return operator.builtin == "DEQUANTIZE" and not any(
        n in outputs or any(n in o.inputs for o in operators) for n in operator.outputs
    )
