"""What LiteRT does not run, against TensorFlow Lite Micro, with ==.

SVDF with an int8 state: LiteRT takes the state and the weights over time for int16 whatever their type, and so reads
and writes beyond them. person_detect: LiteRT refuses the axis of its biases' scales.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exactness.litert.cases import Case, Draw, rng
from exactness.litert.oracle import assert_equal, random_inputs
from frontends.tflite.builder import options
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.frontends.tflite import read
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode

runtime = pytest.importorskip(
    "tflite_micro.python.tflite_micro.runtime", reason="needs TensorFlow Lite Micro: pip install tflite-micro"
)


@st.composite
def svdf(draw: Draw) -> bytes:
    """int8 throughout; TFLM takes no other activation than RELU, and ignores it."""
    case = Case(draw, "int8")
    main, r = case.model.main, rng(draw)
    size, units, rank, memory = (draw(st.integers(1, n)) for n in (9, 5, 3, 6))
    filters = units * rank
    x = case.input((1, size))
    # Down to scales whose state saturates, and then wraps around when its zero point is added.
    reach = draw(st.sampled_from([100, 140, 1000, 20000]))
    state_scale = float(np.float32(x.scale * 0.01 * 255 * 127 * size / reach))
    time_scale = float(np.float32(draw(st.floats(0.001, 0.02))))
    feature = case.constant(r.integers(-127, 128, (filters, size)), "int8", scale=0.01)
    time = case.constant(r.integers(-127, 128, (filters, memory)), "int8", scale=time_scale)
    bias = case.constant(r.integers(-5000, 5000, units), "int32", scale=state_scale * time_scale)
    zero = draw(st.sampled_from([0, -20, 20]))
    state = main.tensor((1, filters * memory), "int8", state_scale, zero, variable=True)
    y = case.port((1, units), scale=float(np.float32(state_scale * time_scale * 150)))
    opts = options("SVDFOptions", rank=rank, fusedActivationFunction=1)
    return case.op("SVDF", [x.number, feature, time, bias, state], [y.number], opts, 3)


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(svdf())
def test_svdf_of_int8_state(model: bytes) -> None:
    graph = lower(read(model, "svdf.tflite", "svdf"))
    ours = Evaluator(graph, Mode.INTEGER)
    theirs = runtime.Interpreter.from_bytes(model)
    for number, (sample,) in enumerate(random_inputs(graph, 8)):
        theirs.set_input(sample.astype(np.int8), 0)
        theirs.invoke()
        assert_equal(ours.run([sample])[graph.outputs[0]], theirs.get_output(0), f"invoke {number}")


def test_person_detect(models: Path) -> None:
    path = models / "tflite" / "person_detect.tflite"
    graph = lower(load_model(path))
    ours = Evaluator(graph, Mode.INTEGER)
    theirs = runtime.Interpreter.from_file(str(path))
    for number, (sample,) in enumerate(random_inputs(graph, 5)):
        theirs.set_input(sample, 0)
        theirs.invoke()
        assert_equal(ours.run([sample])[graph.outputs[0]], theirs.get_output(0), f"sample {number}")
