"""SVDF with a state of int8: LiteRT has no kernel for it (its int16 kernel would read the state out of bounds).

TFLite Micro has one (`EvalInt8SvdfReference`). Here its layers are computed again as what they are, a convolution over
the last inputs, with Python's integers. Where the newest activation leaves int8, TFLite Micro wraps around (its issue
2721), and so does what is compiled here. tests/exactness/litert/test_tflm.py asks TFLite Micro itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import Contract, Graph, Node
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode, Values


def scaled(value: int, real: float) -> int:
    """value * real in TFLite's two roundings."""
    mantissa, shift = np.frexp(real)
    multiplier = int(np.floor(float(mantissa) * 2**31 + 0.5))
    left, right = max(int(shift), 0), max(-int(shift), 0)
    high = ((value << left) * multiplier + (1 << 30)) >> 31
    if not right:
        return high
    size = (abs(high) + (1 << (right - 1))) >> right
    return size if high >= 0 else -size


def outputs(graph: Graph, node: Node, history: list[Values]) -> list[list[int]]:
    """The outputs of an SVDF after each of the inputs that it has seen."""
    x, feature, time = (graph.types[name] for name in node.inputs[:3])
    out, state = graph.types[node.outputs[0]], graph.variables[node.attrs.state_variable].type
    w, t, b = (graph.constants[name].astype(int).tolist() for name in node.inputs[1:4])
    single = np.float32
    first = float(single(x.scale) * single(feature.scale) / single(state.scale))
    second = float(single(state.scale) * single(time.scale) / single(out.scale))
    memory, rank = time.shape[1], node.attrs.rank
    seen: list[list[int]] = [[state.zero_point] * len(w)] * memory
    result = []
    for values in history:
        row = (values[node.inputs[0]].ravel() - x.zero_point).tolist()
        new = [scaled(sum(a * c for a, c in zip(line, row, strict=True)), first) for line in w]
        seen = [*seen[1:], [(min(max(v, -128), 127) + state.zero_point + 128) % 256 - 128 for v in new]]
        sums = [sum(t[f][m] * (seen[m][f] - state.zero_point) for m in range(memory)) for f in range(len(w))]
        units = [sum(sums[u * rank : (u + 1) * rank]) + b[u] for u in range(len(w) // rank)]
        result.append([min(max(scaled(u, second) + out.zero_point, -128), 127) for u in units])
    return result


def test_layers_with_int8_state(models: Path) -> None:
    graph = load_model(models / "tflite" / "keyword_scrambled_8bit.tflite")
    assert graph.contract is Contract.TFLITE
    layers = [node for node in graph.nodes if node.op == "Svdf"]
    assert len(layers) == 7
    # The file's biases are noise that saturates every unit whatever the input is.
    biases = [node.inputs[-1] for node in graph.nodes if node.op in ("Svdf", "FullyConnected")]
    small = {name: graph.constants[name] >> 22 for name in biases}
    graph = graph.with_(constants={**graph.constants, **small})
    evaluator = Evaluator(lower(graph), Mode.INTEGER)
    rng = np.random.default_rng(3)
    kind = graph.types[graph.inputs[0]]
    history = [evaluator.run([rng.integers(-3000, 3000, kind.shape)]) for _ in range(14)]
    for node in layers:
        expected = outputs(graph, node, history)
        assert expected == [values[node.outputs[0]].ravel().tolist() for values in history], node
        assert len({tuple(row) for row in expected}) > 11, "the inputs must matter"
