"""Damaged and hostile files end in one clear error or in a graph: never in anything else, in bounded space."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frontends.tflite.builder import ModelBuilder, options
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.frontends.tflite import read
from intaglio.quantizer.ir import verify
from intaglio.quantizer.passes.lower import lower

QUICK, SLOW = 400, 5000

WORDS = (0, 1, 2, 3, 4, 8, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)


def layers() -> bytes:
    """Convolution, depthwise convolution, pooling, sum, reshape, fully connected, softmax."""
    model = ModelBuilder()
    g = model.main
    x = g.tensor((1, 6, 6, 2), "int8", 0.1, 3, signature=(-1, 6, 6, 2))
    w = g.tensor((4, 3, 3, 2), "int8", [0.01, 0.02, 0.03, 0.04], data=np.arange(72, dtype=np.int8))
    bias = g.tensor((4,), "int32", [0.001] * 4, data=np.arange(4, dtype=np.int32))
    a, b, c, d, e, f, out = (
        g.tensor(shape, "int8", scale, zero)
        for shape, scale, zero in (
            *(((1, 6, 6, 4), 0.1, 3), ((1, 6, 6, 4), 0.2, -4), ((1, 6, 6, 4), 0.3, 5), ((1, 3, 3, 4), 0.3, 5)),
            *(((1, 36), 0.3, 5), ((1, 5), 0.4, 6), ((1, 5), 1 / 256, -128)),
        )
    )
    k = g.tensor((1, 3, 3, 4), "int8", [0.01] * 4, data=np.arange(36, dtype=np.int8), axis=3)
    shape = g.tensor((2,), "int32", data=np.array([1, -1], np.int32))
    v = g.tensor((5, 36), "int8", 0.01, data=np.arange(180, dtype=np.int16).astype(np.int8))
    g.op("CONV_2D", [x, w, bias], [a], options("Conv2DOptions", strideH=1, strideW=1, fusedActivationFunction=1))
    depthwise = options("DepthwiseConv2DOptions", strideH=1, strideW=1, depthMultiplier=1)
    g.op("DEPTHWISE_CONV_2D", [a, k, bias], [b], depthwise)
    g.op("ADD", [a, b], [c], options("AddOptions", potScaleInt16=False))
    pool = options("Pool2DOptions", strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    g.op("MAX_POOL_2D", [c], [d], pool)
    g.op("RESHAPE", [d, shape], [e], options("ReshapeOptions", newShape=[1, -1]))
    g.op("FULLY_CONNECTED", [e, v, -1], [f], options("FullyConnectedOptions"))
    g.op("SOFTMAX", [f], [out], options("SoftmaxOptions", beta=1.0))
    g.ports([x], [out])
    return model.bytes()


def moves() -> bytes:
    """Shapes computed from shapes, slices, paddings, a split, a concatenation, a permutation, a gather, a resize."""
    model = ModelBuilder()
    g = model.main

    def constant(values: Any, dtype: str = "int32") -> int:
        values = np.array(values, dtype)
        return g.tensor(values.shape, dtype, data=values)

    def value(*shape: int) -> int:
        return g.tensor(shape, "int8", 0.1, 3)

    x = value(1, 4, 6, 2)
    size, part, joined = g.tensor((4,), "int32"), g.tensor((), "int32"), g.tensor((2,), "int32")
    g.op("SHAPE", [x], [size], options("ShapeOptions"))
    cut = options("StridedSliceOptions", shrinkAxisMask=1)
    g.op("STRIDED_SLICE", [size, constant([1]), constant([2]), constant([1])], [part], cut)
    g.op("PACK", [part, constant(-1)], [joined], options("PackOptions", valuesCount=2))
    flat, padded, sliced = value(4, 12), value(5, 14), value(2, 14)
    g.op("RESHAPE", [x, joined], [flat], options("ReshapeOptions"))
    g.op("PAD", [flat, constant([[0, 1], [1, 1]])], [padded], options("PadOptions"))
    steps = options("StridedSliceOptions", beginMask=2, endMask=2)
    g.op("STRIDED_SLICE", [padded, constant([1, 0]), constant([5, 9]), constant([2, -1])], [sliced], steps)
    halves, turned, picked = [value(2, 7), value(2, 7)], value(7, 4), value(3, 4)
    g.op("SPLIT", [constant(1), sliced], halves, options("SplitOptions", numSplits=2))
    both = value(4, 7)
    g.op("CONCATENATION", halves, [both], options("ConcatenationOptions", axis=0))
    g.op("TRANSPOSE", [both, constant([1, 0])], [turned], options("TransposeOptions"))
    g.op("GATHER", [turned, constant([6, 0, 3])], [picked], options("GatherOptions", axis=0))
    g.ports([x], [picked])
    return model.bytes()


def state() -> bytes:
    """A variable with an initial value, quantised and dequantised at the ports."""
    model = ModelBuilder()
    init = model.subgraph()
    handle = init.tensor((), "resource")
    value = init.tensor((1, 4), "int8", 0.1, 3, data=np.arange(4, dtype=np.int8))
    init.op("VAR_HANDLE", [], [handle], options("VarHandleOptions", sharedName=b"memory"))
    init.op("ASSIGN_VARIABLE", [handle, value], [], options("AssignVariableOptions"))
    g = model.main
    x, y = g.tensor((1, 4), "float32"), g.tensor((1, 4), "float32")
    q, old, new = (g.tensor((1, 4), "int8", 0.1, 3) for _ in range(3))
    handle = g.tensor((), "resource")
    g.op("CALL_ONCE", [], [], options("CallOnceOptions", initSubgraphIndex=1))
    g.op("VAR_HANDLE", [], [handle], options("VarHandleOptions", sharedName=b"memory"))
    g.op("QUANTIZE", [x], [q], options("QuantizeOptions"))
    g.op("READ_VARIABLE", [handle], [old], options("ReadVariableOptions"))
    g.op("ADD", [q, old], [new], options("AddOptions", potScaleInt16=False))
    g.op("ASSIGN_VARIABLE", [handle, new], [], options("AssignVariableOptions"))
    g.op("DEQUANTIZE", [new], [y], options("DequantizeOptions"))
    g.ports([x], [y])
    return model.bytes()


SEEDS = {"layers": layers(), "moves": moves(), "state": state()}


def survives(data: bytes) -> None:
    """Read, verify and lower: only our errors may be raised, and no numpy warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            graph = read(data, "hostile.tflite", "hostile")
        except IntaglioError as error:
            message = str(error)
            assert message.startswith("hostile.tflite") and "\n" not in message and "our mistake" not in message
            return
        verify(graph, "frontend")
        if graph.contract is None:
            return
        try:
            lower(graph)
        except IntaglioError:
            return


def edited(data: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    """Write words over aligned words, bytes over bytes, or copy eight bytes from elsewhere."""
    result = bytearray(data)
    for kind, position, value in edits:
        at = position % len(result)
        if kind == 0:
            result[at] = value & 255
        elif kind == 1:
            result[at & ~3 : (at & ~3) + 4] = value.to_bytes(4, "little")
        elif kind == 2:
            result[at] ^= 1 << value % 8
        else:
            source = value % len(result)
            result[at : at + 8] = result[source : source + 8]
    return bytes(result)


EDITS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 2**16),
        st.one_of(st.sampled_from(WORDS), st.integers(0, 2**32 - 1), st.integers(0, 64)),
    ),
    min_size=1,
    max_size=6,
)


def mutate(data: bytes, examples: int) -> None:
    """Let hypothesis damage a file."""

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(EDITS)
    def run(edits: list[tuple[int, int, int]]) -> None:
        survives(edited(data, edits))

    run()


@pytest.mark.parametrize("name", SEEDS)
def test_seed_is_a_model(name: str) -> None:
    graph = read(SEEDS[name], "seed.tflite", "seed")
    verify(graph, "frontend")
    lower(graph)


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_model(name: str) -> None:
    mutate(SEEDS[name], QUICK)


@pytest.mark.parametrize("name", SEEDS)
def test_truncated_model(name: str) -> None:
    data = SEEDS[name]
    for length in range(len(data)):
        survives(data[:length])


THIRD_PARTY = (
    "tflite/hello_world_int8.tflite",
    "tflite/keyword_scrambled_8bit.tflite",
    "tflite/kws_ref_model.tflite",
    "tflite/mww_v2_alexa.tflite",
    "tflite/micro_speech_quantized.tflite",
    "tflite/tflite_micro_magic_wand.tflite",
    "tflite/trained_lstm.tflite",
    "int16_goldens/strided_slice/strided_slice0.tflite",
    "int16_goldens/transpose_conv/transpose_conv0.tflite",
)


def mutate_structure(data: bytes, examples: int) -> None:
    """Damage the parts of a large file that describe it, which are mostly at its ends, rather than its weights."""
    head, tail = data[:2048], data[-6144:]
    middle = data[2048:-6144]
    if not middle:
        mutate(data, examples)
        return

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(EDITS)
    def run(edits: list[tuple[int, int, int]]) -> None:
        both = edited(head + tail, edits)
        survives(both[:2048] + middle + both[2048:])

    run()


@pytest.mark.parametrize("name", THIRD_PARTY)
def test_damaged_third_party_model(models: Path, name: str) -> None:
    mutate_structure((models / name).read_bytes(), 60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", THIRD_PARTY)
def test_damaged_third_party_model_in_depth(models: Path, name: str) -> None:
    mutate_structure((models / name).read_bytes(), 1000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SEEDS)
def test_damaged_model_in_depth(name: str) -> None:
    mutate(SEEDS[name], SLOW)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_coverage_guided_fuzzing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="not installed: pip install atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, data in SEEDS.items():
        (corpus / name).write_bytes(data)
    script = Path(__file__).with_name("fuzz_reader.py")
    command = [
        sys.executable,
        str(script),
        str(corpus),
        "-runs=30000",
        "-seed=1",
        "-max_len=8192",
        "-rss_limit_mb=1024",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
