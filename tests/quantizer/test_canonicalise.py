"""Canonical form: reals stay the same up to binary32 rounding, integers stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builder import Builder, same_on_live_channels, scales

from intaglio.quantizer.ir import Contract, Graph, QParams, verify
from intaglio.quantizer.ops.accumulate import RELU, Clamp
from intaglio.quantizer.ops.add import AddAttrs
from intaglio.quantizer.ops.clip import ClipAttrs
from intaglio.quantizer.ops.conv2d import Conv2DAttrs
from intaglio.quantizer.ops.depthwise_conv2d import DepthwiseConv2DAttrs
from intaglio.quantizer.ops.pad import PadAttrs
from intaglio.quantizer.ops.reshape import ReshapeAttrs
from intaglio.quantizer.ops.transpose import TransposeAttrs
from intaglio.quantizer.passes.canonicalise import canonicalise
from intaglio.quantizer.passes.fold_constants import fold_constants
from intaglio.quantizer.passes.fuse import compose
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.reference import Evaluator, Mode


def real_outputs(graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    values = Evaluator(graph, Mode.REAL).run([x])
    return [values[name] for name in graph.outputs]


def check_real(graph: Graph, ops_left: list[str]) -> Graph:
    """Canonicalise; the operators that are left and the outputs are as expected."""
    result = canonicalise(graph)
    verify(result, "canonicalise")
    assert [node.op for node in result.nodes] == ops_left
    x = np.random.default_rng(0).normal(size=graph.types[graph.inputs[0]].shape)
    for expected, got in zip(real_outputs(graph, x), real_outputs(result, x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    return result


def conv(b: Builder, x: str, name: str, attrs: Conv2DAttrs, kernel: int = 3, bias: bool = True) -> str:
    rng = np.random.default_rng(len(b.nodes))
    channels = b.types[x].shape[-1]
    inputs = [x, b.constant(f"{name}.w", rng.normal(size=(4, kernel, kernel, channels)))]
    if bias:
        inputs.append(b.constant(f"{name}.b", rng.normal(size=4)))
    return b.node("Conv2D", name, inputs, attrs)


@pytest.mark.parametrize("bias", [True, False])
def test_multiplications_and_additions_fold_into_the_layer_before(bias: bool) -> None:
    b = Builder()
    y = conv(b, b.input("x", (1, 5, 6, 3)), "c", Conv2DAttrs(pads=(1, 1, 1, 1)), bias=bias)
    y = b.node("Mul", "m", [y, b.constant("s", np.array([0.5, -2.0, 0.0, 1.5]))])
    y = b.node("Add", "a", [b.constant("t", np.array([[1.0, -1.0, 2.0, 0.25]])), y])
    y = b.node("Sub", "n", [b.constant("u", np.array(3.0)), y])
    y = b.node("Div", "d", [y, b.constant("v", np.array(4.0))])
    y = b.node("Clip", "r", [y], ClipAttrs(0.0, None))
    y = b.node("Clip", "r6", [y], ClipAttrs(None, 6.0))
    result = check_real(b.graph(y), ["Conv2D"])
    assert result.nodes[0].attrs.clamp == Clamp(0.0, 6.0)
    assert result.nodes[0].outputs == ("r6",)


def test_affine_before_a_padded_layer_stays_when_the_padding_would_see_it() -> None:
    for pads, left in (((0, 0, 0, 0), ["Conv2D"]), ((1, 1, 1, 1), ["DepthwiseConv2D", "Conv2D"])):
        b = Builder()
        y = b.node("Add", "a", [b.input("x", (1, 5, 6, 3)), b.constant("t", np.array([1.0, -1.0, 2.0]))])
        check_real(b.graph(conv(b, y, "c", Conv2DAttrs(pads=pads))), left)
    b = Builder()
    y = b.node("Mul", "a", [b.input("x", (1, 5, 6, 3)), b.constant("t", np.array([1.0, -1.0, 2.0]))])
    check_real(b.graph(conv(b, y, "c", Conv2DAttrs(pads=(1, 1, 1, 1)))), ["Conv2D"])


@pytest.mark.parametrize("shape", [(1, 5, 6, 3), (1, 3), (1, 4, 3)])
def test_what_no_layer_takes_becomes_one_depthwise_layer(shape: tuple[int, ...]) -> None:
    b = Builder()
    y = b.node("Clip", "r", [b.input("x", shape)], ClipAttrs(0.0, None))
    y = b.node("Mul", "m", [y, b.constant("s", np.array([0.5, -2.0, 3.0]))])
    y = b.node("Add", "a", [y, b.constant("t", np.array([1.0, -1.0, 2.0]))], AddAttrs(RELU))
    middle = ["DepthwiseConv2D"] if len(shape) == 4 else ["Reshape", "DepthwiseConv2D", "Reshape"]
    check_real(b.graph(b.node("Tanh", "y", [y])), ["Clip", *middle, "Tanh"])


def test_scalars_stay_elementwise() -> None:
    b = Builder()
    y = b.node("Mul", "m", [b.input("x", (1, 5, 6, 3)), b.constant("s", np.array(0.5))])
    check_real(b.graph(b.node("Tanh", "y", [y])), ["Mul", "Tanh"])


def test_a_value_that_others_read_is_not_folded_away() -> None:
    b = Builder()
    c = conv(b, b.input("x", (1, 5, 6, 3)), "c", Conv2DAttrs())
    y = b.node("Clip", "r", [c], ClipAttrs(0.0, None))
    check_real(b.graph(y, c), ["Conv2D", "Clip"])
    b = Builder()
    c = conv(b, b.input("x", (1, 5, 6, 3)), "c", Conv2DAttrs())
    y = b.node("Clip", "r", [c], ClipAttrs(0.0, None))
    check_real(b.graph(b.node("Add", "s", [c, y])), ["Conv2D", "Clip", "Add"])


def test_depthwise_layers_take_affine_maps_and_pads() -> None:
    b = Builder()
    x = b.input("x", (1, 5, 6, 3))
    y = b.node("Pad", "p", [x], PadAttrs(((0, 0), (1, 2), (0, 1), (0, 0)), "constant", 0.0))
    w = b.constant("w", np.random.default_rng(1).normal(size=(1, 3, 3, 6)))
    y = b.node("DepthwiseConv2D", "d", [y, w], DepthwiseConv2DAttrs(pads=(1, 0, 0, 0)))
    y = b.node("Mul", "m", [y, b.constant("s", np.linspace(-1, 1, 6))])
    result = check_real(b.graph(y), ["DepthwiseConv2D"])
    assert result.nodes[0].attrs.pads == (2, 2, 0, 1)


@pytest.mark.parametrize(
    "attrs",
    [
        PadAttrs(((0, 0), (1, 1), (1, 1), (0, 0)), "constant", 1.0),
        PadAttrs(((0, 0), (1, 1), (1, 1), (0, 0)), "reflect", 0.0),
        PadAttrs(((0, 0), (1, 1), (1, 1), (1, 0)), "constant", 0.0),
    ],
)
def test_other_pads_stay(attrs: PadAttrs) -> None:
    b = Builder()
    y = b.node("Pad", "p", [b.input("x", (1, 5, 6, 3))], attrs)
    check_real(b.graph(conv(b, y, "c", Conv2DAttrs())), ["Pad", "Conv2D"])


def test_reshapes_and_transposes_merge_and_cancel() -> None:
    b = Builder()
    y = b.node("Transpose", "t1", [b.input("x", (1, 2, 3, 4))], TransposeAttrs((0, 3, 1, 2)))
    y = b.node("Transpose", "t2", [y], TransposeAttrs((0, 2, 3, 1)))
    y = b.node("Clip", "r", [y], ClipAttrs(0.0, None))
    y = b.node("Reshape", "s1", [y], ReshapeAttrs((6, 4)))
    y = b.node("Reshape", "s2", [y], ReshapeAttrs((24,)))
    check_real(b.graph(y), ["Clip", "Reshape"])
    b = Builder()
    y = b.node("Transpose", "t1", [b.input("x", (1, 2, 1, 4))], TransposeAttrs((0, 2, 1, 3)))
    result = check_real(b.graph(y), ["Reshape"])
    assert result.outputs == ("t1",)


def test_a_graph_output_keeps_its_name() -> None:
    b = Builder()
    y = b.node("Clip", "r", [b.input("x", (1, 4))], ClipAttrs(0.0, 1.0))
    y = b.node("Reshape", "out", [y], ReshapeAttrs((1, 4)))
    assert check_real(b.graph(y), ["Clip"]).outputs == ("out",)
    b = Builder()
    y = b.node("Reshape", "out", [b.input("x", (1, 4))], ReshapeAttrs((1, 4)))
    assert check_real(b.graph(y), ["Reshape"]).outputs == ("out",)


def test_constants_fold_through_the_operators_own_reference() -> None:
    b = Builder()
    x = b.input("x", (1, 4))
    c = b.node("Add", "c", [b.constant("p", np.arange(4.0)[None]), b.constant("q", np.ones((1, 4)))])
    c = b.node("Clip", "d", [c], ClipAttrs(0.0, 3.0))
    graph = b.graph(b.node("Add", "y", [x, c]))
    folded = fold_constants(graph)
    verify(folded, "fold")
    assert [n.op for n in folded.nodes] == ["Add"]
    assert np.array_equal(folded.constants["d"], np.array([[1, 2, 3, 3]], np.float32))


@pytest.mark.parametrize("first", [Clamp(), RELU, Clamp(-1.0, 2.0), Clamp(None, -3.0), Clamp(5.0, 7.0)])
@pytest.mark.parametrize("second", [Clamp(), RELU, Clamp(0.0, 6.0), Clamp(-2.0, -1.0), Clamp(1.0, None)])
def test_composed_clamps_equal_one_after_the_other(first: Clamp, second: Clamp) -> None:
    x = np.linspace(-10, 10, 201)
    assert np.array_equal(compose(first, second).apply(x), second.apply(first.apply(x)))


def quantised_chain(contract: Contract, clip_like_input: bool) -> Graph:
    """Pad, convolution, ReLU6 and another clip, quantised."""
    rng = np.random.default_rng(3)
    b = Builder(contract)
    x = b.input("x", (1, 6, 5, 3), QParams.of(0.05, -7))
    y = b.node("Pad", "p", [x], PadAttrs(((0, 0), (1, 1), (2, 1), (0, 0)), "constant", 0.0))
    w = b.constant("w", rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), scales(rng, 4, 0))
    out = QParams.of(0.06, -20)
    y = b.node("Conv2D", "c", [y, w], Conv2DAttrs(stride=(2, 1)), out)
    y = b.node("Clip", "r", [y], ClipAttrs(0.0, 6.0), out if clip_like_input else QParams.of(0.03, -128))
    return b.graph(y)


@pytest.mark.parametrize("contract", list(Contract))
@pytest.mark.parametrize("same", [True, False])
def test_fusions_keep_every_integer_of_a_quantised_graph(contract: Contract, same: bool) -> None:
    graph = quantised_chain(contract, same)
    fused = canonicalise(graph)
    verify(fused, "canonicalise")
    assert [n.op for n in fused.nodes] == (["Conv2D"] if same else ["Conv2D", "Clip"])
    before, after = (Evaluator(lower(g), Mode.INTEGER) for g in (graph, fused))
    rng = np.random.default_rng(4)
    for _ in range(6):
        x = rng.integers(-128, 128, (1, 6, 5, 3))
        assert same_on_live_channels(before.run([x]), after.run([x]), fused) == len(fused.nodes)


def test_a_pad_on_another_scale_is_not_fused() -> None:
    rng = np.random.default_rng(3)
    b = Builder(Contract.ONNX)
    x = b.input("x", (1, 6, 5, 3), QParams.of(0.05, -7))
    attrs = PadAttrs(((0, 0), (1, 1), (1, 1), (0, 0)), "constant", 0.0)
    y = b.node("Pad", "p", [x], attrs, QParams.of(0.05, 3))
    w = b.constant("w", rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), scales(rng, 4, 0))
    graph = b.graph(b.node("Conv2D", "c", [y, w], Conv2DAttrs(), QParams.of(0.06, -20)))
    assert [n.op for n in canonicalise(graph).nodes] == ["Pad", "Conv2D"]


def test_residual_add_takes_the_relu() -> None:
    b = Builder()
    x = b.input("x", (1, 5, 6, 4))
    y = b.node("Add", "a", [x, conv(b, x, "c", Conv2DAttrs(pads=(1, 1, 1, 1)))], AddAttrs())
    result = check_real(b.graph(b.node("Clip", "r", [y], ClipAttrs(0.0, None))), ["Conv2D", "Add"])
    assert result.nodes[1].attrs.clamp == RELU
