"""Dead channels go, and every remaining channel of every remaining tensor keeps its integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_builder import Builder, same_on_live_channels, scales
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.quantizer.frontends import load_model
from intaglio.quantizer.ir import Contract, Graph, QParams, verify
from intaglio.quantizer.ops.accumulate import NO_CLAMP, RELU, Clamp
from intaglio.quantizer.ops.add import AddAttrs
from intaglio.quantizer.ops.average_pool2d import AveragePool2DAttrs
from intaglio.quantizer.ops.concat import ConcatAttrs
from intaglio.quantizer.ops.conv2d import Conv2DAttrs
from intaglio.quantizer.ops.depthwise_conv2d import DepthwiseConv2DAttrs
from intaglio.quantizer.ops.fully_connected import FullyConnectedAttrs
from intaglio.quantizer.ops.max_pool2d import MaxPool2DAttrs
from intaglio.quantizer.ops.reshape import ReshapeAttrs
from intaglio.quantizer.passes.eliminate import eliminate
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.passes.rewrite import total_macs
from intaglio.quantizer.reference import Evaluator, Mode

QX, QY = QParams.of(0.05, -7), QParams.of(0.04, 11)


class Net(Builder):
    """Quantised layers with chosen dead channels."""

    def __init__(self, contract: Contract, seed: int) -> None:
        super().__init__(contract)
        self.rng = np.random.default_rng(seed)

    def weights(self, name: str, shape: tuple[int, ...], axis: int, dead_out: list[int], dead_in: list[int]) -> str:
        value = self.rng.integers(-127, 128, shape).astype(np.int8)
        value[value == 0] = 1
        np.moveaxis(value, axis, 0)[dead_out] = 0
        if axis == 0:
            value[..., dead_in] = 0
        return self.constant(f"{name}.w", value, scales(self.rng, shape[axis], axis))

    def bias(self, name: str, x: str, count: int) -> str:
        q = self.types[f"{name}.w"].qparams
        assert q is not None
        kind = QParams(tuple(self.types[x].scale * s for s in q.scale), (0,) * count, 0)
        return self.constant(f"{name}.b", self.rng.integers(-20000, 20000, count).astype(np.int32), kind)

    def conv(
        self,
        name: str,
        x: str,
        out: int,
        kernel: int = 1,
        pad: int = 0,
        dead_out: list[int] | None = None,
        dead_in: list[int] | None = None,
        clamp: Clamp = NO_CLAMP,
        bias: bool = True,
        qparams: QParams = QY,
    ) -> str:
        shape = (out, kernel, kernel, self.types[x].shape[3])
        inputs = [x, self.weights(name, shape, 0, dead_out or [], dead_in or [])]
        if bias:
            inputs.append(self.bias(name, x, out))
        return self.node("Conv2D", name, inputs, Conv2DAttrs(pads=(pad,) * 4, clamp=clamp), qparams)

    def depthwise(self, name: str, x: str, multiplier: int = 1, dead_out: list[int] | None = None, pad: int = 1) -> str:
        out = self.types[x].shape[3] * multiplier
        inputs = [x, self.weights(name, (1, 3, 3, out), 3, dead_out or [], [])]
        inputs.append(self.bias(name, x, out))
        return self.node("DepthwiseConv2D", name, inputs, DepthwiseConv2DAttrs(pads=(pad,) * 4, clamp=RELU), QY)

    def dense(self, name: str, x: str, out: int, dead_in: list[int] | None = None) -> str:
        inputs = [x, self.weights(name, (out, self.types[x].elements), 0, [], dead_in or [])]
        return self.node("FullyConnected", name, [*inputs, self.bias(name, x, out)], FullyConnectedAttrs(), QY)


def check(graph: Graph, *, samples: int = 5) -> Graph:
    """Eliminate; compare all tensors on their live channels with ==, on extremes and random inputs."""
    smaller = eliminate(graph)
    verify(smaller, "eliminate")
    assert smaller.model_macs == total_macs(graph)
    assert eliminate(smaller).nodes == smaller.nodes, "one run is a fixed point"
    for name in (*graph.inputs, *graph.outputs):
        assert smaller.types[name] == graph.types[name]
    before, after = (Evaluator(lower(g), Mode.INTEGER) for g in (graph, smaller))
    rng = np.random.default_rng(0)
    shape = graph.types[graph.inputs[0]].shape
    drawn = [np.full(shape, -128), np.full(shape, 127), *rng.integers(-128, 128, (samples - 2, *shape))]
    for x in drawn:
        assert same_on_live_channels(before.run([x]), after.run([x]), smaller) >= 1
    return smaller


def shapes(graph: Graph) -> dict[str, int]:
    return {out: graph.types[out].shape[-1] for node in graph.nodes for out in node.outputs}


@pytest.mark.parametrize("contract", list(Contract))
def test_constant_channels_move_into_the_bias(contract: Contract) -> None:
    net = Net(contract, 1)
    x = net.input("x", (1, 5, 4, 3), QX)
    a = net.conv("a", x, 6, dead_out=[1, 4])
    result = check(net.graph(net.conv("b", a, 4, bias=contract is not Contract.ONNX)))
    assert shapes(result) == {"a": 4, "b": 4}
    assert result.live == {"a": (0, 2, 3, 5)}


@pytest.mark.parametrize("pad", [0, 1])
def test_padding_sees_a_constant_that_is_not_zero(pad: int) -> None:
    net = Net(Contract.TFLITE, 2)
    x = net.input("x", (1, 5, 4, 3), QX)
    a = net.conv("a", x, 6, dead_out=[1, 4])
    result = check(net.graph(net.conv("b", a, 4, kernel=3, pad=pad)))
    assert shapes(result)["a"] == (6 if pad else 4)


def test_a_constant_that_is_the_real_zero_goes_even_under_padding() -> None:
    net = Net(Contract.TFLITE, 3)
    x = net.input("x", (1, 5, 4, 3), QX)
    a = net.conv("a", x, 6, dead_out=[1, 4], clamp=RELU)
    net.constants["a.b"][[1, 4]] = -1000
    result = check(net.graph(net.conv("b", a, 4, kernel=3, pad=1)))
    assert result.live["a"] == (0, 2, 3, 5)


def test_channels_that_nothing_reads_vanish_upstream() -> None:
    net = Net(Contract.TFLITE, 4)
    x = net.input("x", (1, 5, 4, 3), QX)
    a = net.conv("a", x, 5)
    b = net.conv("b", a, 6, dead_in=[0])
    c = net.depthwise("c", b)
    d = net.conv("d", c, 4, dead_in=[2, 3])
    result = check(net.graph(d))
    assert shapes(result) == {"a": 4, "b": 4, "c": 4, "d": 4}


def test_unread_channels_free_those_that_only_they_read() -> None:
    net = Net(Contract.TFLITE, 5)
    x = net.input("x", (1, 5, 4, 3), QX)
    a = net.conv("a", x, 4)
    b = net.conv("b", a, 4)
    # Only channel 3 of b reads channel 2 of a, and nothing reads channel 3 of b.
    net.constants["b.w"][:3, :, :, 2] = 0
    result = check(net.graph(net.conv("c", b, 2, dead_in=[3])))
    assert result.live == {"a": (0, 1, 3), "b": (0, 1, 2)}


def test_dead_depthwise_channels_take_the_layer_before_along() -> None:
    net = Net(Contract.TFLITE, 6)
    x = net.input("x", (1, 6, 5, 3), QX)
    a = net.conv("a", x, 6)
    b = net.depthwise("b", a, dead_out=[0, 5])
    result = check(net.graph(net.conv("c", b, 4)))
    assert shapes(result) == {"a": 4, "b": 4, "c": 4}


@pytest.mark.parametrize(("dead", "left"), [([2], 6), ([2, 3], 4)])
def test_a_depthwise_multiplier_loses_all_outputs_of_an_input_or_none(dead: list[int], left: int) -> None:
    net = Net(Contract.TFLITE, 7)
    x = net.input("x", (1, 6, 5, 2), QX)
    b = net.depthwise("b", net.conv("a", x, 3), multiplier=2, dead_out=dead)
    result = check(net.graph(net.conv("c", b, 4)))
    assert shapes(result)["b"] == left


def test_residual_sums_keep_their_channels_aligned() -> None:
    net = Net(Contract.TFLITE, 8)
    x = net.input("x", (1, 5, 4, 3), QX)
    a = net.conv("a", x, 6, dead_out=[1, 2, 4])
    b = net.conv("b", a, 6, dead_out=[1, 4, 5])
    s = net.node("Add", "s", [a, b], AddAttrs(), QY)
    result = check(net.graph(net.conv("c", s, 4)))
    # Constant in both summands: 1 and 4. Channels 2 and 5 are constant in one of them only.
    assert shapes(result) == {"a": 4, "b": 4, "s": 4, "c": 4}
    assert result.live["s"] == (0, 2, 3, 5)


def test_through_pools_flattening_and_dense_layers() -> None:
    net = Net(Contract.TFLITE, 9)
    x = net.input("x", (1, 8, 6, 3), QX)
    a = net.conv("a", x, 6, dead_out=[1, 4], clamp=RELU)
    p = net.node("MaxPool2D", "p", [a], MaxPool2DAttrs((2, 2), (2, 2)), QY)
    q = net.node("AveragePool2D", "q", [p], AveragePool2DAttrs((2, 3), (2, 3)), QY)
    f = net.node("Reshape", "f", [q], ReshapeAttrs((1, 12)), QY)
    # Channel 2 is read at neither of its two places; channel 3 at one.
    result = check(net.graph(net.dense("d", f, 4, dead_in=[2, 8, 3])))
    assert result.live["q"] == (0, 3, 5)
    assert result.live["f"] == (0, 3, 5, 6, 9, 11)


def test_concatenated_channels_go_one_by_one() -> None:
    net = Net(Contract.TFLITE, 10)
    x = net.input("x", (1, 5, 4, 3), QX)
    a, b = net.conv("a", x, 4, dead_out=[0]), net.conv("b", x, 5, dead_out=[1, 2])
    c = net.node("Concat", "c", [a, b], ConcatAttrs(3), QY)
    result = check(net.graph(net.conv("d", c, 4, dead_in=[3])))
    assert result.live == {"a": (1, 2), "b": (0, 3, 4), "c": (1, 2, 4, 7, 8)}


def test_an_accumulator_that_always_saturates_is_a_constant() -> None:
    net = Net(Contract.EXACT, 11)
    x = net.input("x", (1, 5, 4, 3), QX)
    a = net.conv("a", x, 4, clamp=RELU)
    net.constants["a.b"][2] = -3_000_000
    result = check(net.graph(net.conv("b", a, 4)))
    assert result.live["a"] == (0, 1, 3)


def test_a_bias_that_would_overflow_keeps_the_channel() -> None:
    net = Net(Contract.EXACT, 12)
    x = net.input("x", (1, 5, 4, 3), QX)
    a = net.conv("a", x, 4, dead_out=[1])
    net.constants["a.b"][1] = 20000
    y = net.conv("b", a, 2)
    net.constants["b.w"][:, :, :, 1] = 127
    net.constants["b.w"][:, :, :, [2, 3]] = 0
    net.constants["b.b"][:] = 2**31 - 1
    smaller = eliminate(net.graph(y))
    assert 1 in smaller.live.get("a", (0, 1, 2, 3))


def test_outputs_and_inputs_are_never_narrowed_and_no_tensor_is_empty() -> None:
    net = Net(Contract.TFLITE, 13)
    x = net.input("x", (1, 5, 4, 3), QX)
    a = net.conv("a", x, 4, dead_out=[0, 1, 2, 3])
    b = net.conv("b", a, 4, dead_out=[1])
    result = check(net.graph(b))
    assert shapes(result) == {"a": 1, "b": 4}


def test_numbering_survives_a_second_run() -> None:
    net = Net(Contract.TFLITE, 14)
    x = net.input("x", (1, 5, 4, 3), QX)
    graph = net.graph(net.conv("b", net.conv("a", x, 6, dead_out=[1, 4]), 4))
    once = eliminate(graph)
    weights = next(n for n in once.nodes if n.name == "b").inputs[1]
    value = once.constants[weights].copy()
    value[..., 2] = 0
    twice = eliminate(once.with_(constants={**once.constants, weights: value}))
    assert twice.live["a"] == (0, 2, 5)
    assert twice.model_macs == total_macs(graph)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_networks_keep_their_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = Net([Contract.TFLITE, Contract.EXACT, Contract.ONNX][seed % 3], seed)

    def some(n: int) -> list[int]:
        return [i for i in range(n) if rng.random() < 0.4]

    tensors = [net.input("x", (1, 5, 4, 3), QX)]
    tensors.append(net.conv("c0", tensors[0], 5, dead_out=some(5), clamp=RELU))
    for i in range(1, int(rng.integers(3, 7))):
        x = tensors[int(rng.integers(1, len(tensors)))]
        channels = net.types[x].shape[3]
        match int(rng.integers(4)):
            case 0:
                kernel = int(rng.choice([1, 3]))
                y = net.conv(f"n{i}", x, 5, kernel, kernel // 2, some(5), some(channels), bias=bool(rng.integers(2)))
            case 1:
                y = net.depthwise(f"n{i}", x, dead_out=some(channels))
            case 2:
                partners = [t for t in tensors[1:] if net.types[t].shape == net.types[x].shape]
                y = net.node("Add", f"n{i}", [x, partners[int(rng.integers(len(partners)))]], AddAttrs(RELU), QY)
            case _:
                y = net.node("Concat", f"n{i}", [x, tensors[-1]], ConcatAttrs(3), QY)
        tensors.append(y)
    head = net.conv("head", tensors[-1], 3, dead_in=some(net.types[tensors[-1]].shape[3]))
    check(net.graph(head).pruned(), samples=4)


def test_real_graphs_agree_up_to_binary32() -> None:
    rng = np.random.default_rng(15)
    b = Builder()
    x = b.input("x", (1, 5, 4, 3))
    w = rng.normal(size=(6, 1, 1, 3))
    w[[1, 4]] = 0
    a = b.node("Conv2D", "a", [x, b.constant("w1", w), b.constant("b1", rng.normal(size=6))], Conv2DAttrs())
    y = b.node("Conv2D", "y", [a, b.constant("w2", rng.normal(size=(2, 2, 2, 6)))], Conv2DAttrs())
    graph = b.graph(y)
    smaller = eliminate(graph)
    verify(smaller, "eliminate")
    assert smaller.live == {"a": (0, 2, 3, 5)}
    sample = rng.normal(size=(1, 5, 4, 3))
    expected, got = (Evaluator(g, Mode.REAL).run([sample])["y"] for g in (graph, smaller))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_visual_wake_words_shrinks_to_half_its_work(models: Path) -> None:
    graph = load_model(models / "tflite" / "vww_96_int8.tflite")
    smaller = check(graph, samples=3)
    weights = [g.types[n.inputs[1]].elements for g in [smaller] for n in g.nodes if len(n.inputs) > 1]
    assert total_macs(graph) == 7_489_664
    assert total_macs(smaller) <= 3_733_073
    assert sum(weights) <= 29_286
