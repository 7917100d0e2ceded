"""Random layers, many to a library, so that one compilation and one run check them all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from intaglio.boards.cores import Core
from intaglio.codegen.compile import make_manifest, write_library
from intaglio.codegen.emit import Library, emit
from intaglio.codegen.plan import Buffer, Overlap, Plan, align
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Contract, DType, Graph, Node, QParams, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.conv2d import Conv2DAttrs, mac_example
from intaglio.quantizer.ops.depthwise_conv2d import DepthwiseConv2DAttrs
from intaglio.quantizer.ops.fully_connected import FullyConnectedAttrs
from intaglio.quantizer.passes.lower import lower

CLAMPS = (acc.NO_CLAMP, acc.RELU, acc.Clamp(0.0, 6.0))


def random_layer(rng: np.random.Generator, contract: Contract, *, dense: bool = True, dtype: str = "int8") -> Graph:
    """One layer of a random kind, shape, padding, stride and dilation.

    Args:
        dense: fully connected layers are among the kinds.
        dtype: of the activations.
    """

    def draw(*values: int) -> int:
        return int(rng.choice(values))

    clamp = CLAMPS[int(rng.integers(3))]
    channels = draw(1, 2, 3, 4, 5, 8, 12, 16)
    kind = draw(0, 1, 2, 2, 3, 3) if dense else draw(1, 2, 2, 3, 3)
    if kind == 0:
        terms, outs = draw(1, 3, 4, 8, 20, 37, 64, 130), draw(1, 2, 3, 4, 7, 8, 11)
        rows = draw(1, 1, 3)
        return mac_example(
            "FullyConnected", FullyConnectedAttrs(clamp), (rows, terms), (outs, terms), 0, dtype, contract, rng
        )
    height, width = int(rng.integers(3, 10)), int(rng.integers(3, 10))
    shape = (1, height, width, channels)
    stride, outs = (draw(1, 1, 2), draw(1, 1, 2, 3)), draw(1, 2, 3, 4, 6, 8, 9)
    if kind == 1:
        attrs = Conv2DAttrs(stride, clamp=clamp)
        return mac_example("Conv2D", attrs, shape, (outs, 1, 1, channels), 0, dtype, contract, rng)
    kh, kw = int(rng.integers(1, min(height, 5) + 1)), int(rng.integers(1, min(width, 5) + 1))
    dilation = (draw(1, 1, 2), draw(1, 1, 2))
    # Enough padding for a dilated window, and now and then windows that lie in the padding alone.
    pads = tuple(int(v) for v in rng.integers(0, 5, 4)) if draw(0, 1, 1) else (0, 0, 0, 0)
    if (kh - 1) * dilation[0] >= height + pads[0] + pads[1] or (kw - 1) * dilation[1] >= width + pads[2] + pads[3]:
        dilation = (1, 1)
    if kind == 2:
        return mac_example(
            "Conv2D",
            Conv2DAttrs(stride, dilation, (pads[0], pads[1], pads[2], pads[3]), clamp=clamp),
            shape,
            (outs, kh, kw, channels),
            0,
            dtype,
            contract,
            rng,
        )
    return mac_example(
        "DepthwiseConv2D",
        DepthwiseConv2DAttrs(stride, dilation, (pads[0], pads[1], pads[2], pads[3]), clamp=clamp),
        shape,
        (1, kh, kw, channels * draw(1, 1, 1, 2)),
        3,
        dtype,
        contract,
        rng,
    )


def with_sum(
    rng: np.random.Generator, layer: Graph, *, op: str = "Add", residual: str | None = None, clamp: bool = True
) -> Graph:
    """A layer whose output meets another tensor of its shape: a further input, or one of the layer's own.

    Args:
        op: Add or Sub.
        residual: the tensor; None for a further input.
        clamp: the sum may have a fused activation.
    """
    made = layer.types["y0"]
    wide, scale = made.dtype is DType.INT16, made.scale

    def kind(factor: float) -> TensorType:
        zero = 0 if wide else int(rng.integers(made.dtype.low, made.dtype.high + 1))
        return TensorType(made.dtype, made.shape, QParams.of(scale * factor, zero))

    types = {**layer.types, "z": kind(float(rng.uniform(0.8, 2.5)))}
    other = residual or "r"
    if residual is None:
        types["r"] = kind(float(rng.uniform(0.4, 1.7)))
    operands = ("y0", other) if rng.integers(2) else (other, "y0")
    attrs: Any = ops.operator(op).attrs()
    attrs = replace(attrs, clamp=CLAMPS[int(rng.integers(3))]) if clamp else attrs
    return replace(
        layer,
        nodes=(*layer.nodes, Node(op, "sum", operands, ("z",), attrs)),
        types=types,
        inputs=layer.inputs if residual else (*layer.inputs, "r"),
        outputs=("z",),
    )


def side_by_side(graphs: Sequence[Graph], contract: Contract) -> Graph:
    """One graph that evaluates independent graphs, each on inputs of its own."""
    types: dict[str, TensorType] = {}
    constants: dict[str, NDArray[Any]] = {}
    nodes: list[Node] = []
    inputs: list[str] = []
    outputs: list[str] = []
    for n, graph in enumerate(graphs):
        types |= {f"n{n}{name}": kind for name, kind in graph.types.items()}
        constants |= {f"n{n}{name}": value for name, value in graph.constants.items()}
        for node in graph.nodes:
            names = tuple(f"n{n}{name}" for name in node.inputs), tuple(f"n{n}{name}" for name in node.outputs)
            nodes.append(replace(node, name=f"n{n}{node.name}", inputs=names[0], outputs=names[1]))
        inputs += [f"n{n}{name}" for name in graph.inputs]
        outputs += [f"n{n}{name}" for name in graph.outputs]
    return Graph(
        name="layers",
        nodes=tuple(nodes),
        types=types,
        constants=constants,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        contract=contract,
    )


def random_chain(rng: np.random.Generator, length: int) -> Graph:
    """Convolutions one after the other, each on the output of the one before, which then is dead."""
    kind = TensorType(DType.INT8, (1, 9, 8, int(rng.choice([3, 4, 8]))), QParams.of(0.05, 3))
    types, constants, nodes = {"x": kind}, {}, []
    for n in range(length):
        depthwise = bool(rng.integers(2))
        k = int(rng.choice([1, 3]))
        pads = (k // 2,) * 4
        outs = int(rng.choice([3, 4, 8, 12]))
        stride = (1, 1) if kind.shape[1] < 5 or rng.integers(3) else (2, 2)
        if depthwise:
            op, wshape, axis = "DepthwiseConv2D", (1, k, k, kind.shape[3]), 3
            attrs: Any = DepthwiseConv2DAttrs(stride, (1, 1), pads)
        else:
            op, wshape, axis = "Conv2D", (outs, k, k, kind.shape[3]), 0
            attrs = Conv2DAttrs(stride, (1, 1), pads)
        layer = mac_example(op, attrs, kind.shape, wshape, axis, "int8", Contract.TFLITE, rng)
        node = layer.nodes[0]
        source = nodes[-1].outputs[0] if nodes else "x"
        # Scales as if the layer had been calibrated on inputs of this scale.
        weights, bias = layer.types["x1"], layer.types["x2"]
        assert weights.qparams is not None
        scales = tuple(kind.scale * s for s in weights.qparams.scale)
        types |= {
            f"w{n}": weights,
            f"b{n}": replace(bias, qparams=QParams(scales, (0,) * len(scales), 0)),
            f"y{n}": layer.types["y0"],
        }
        constants |= {f"w{n}": layer.constants["x1"], f"b{n}": layer.constants["x2"]}
        nodes.append(replace(node, name=f"l{n}", inputs=(source, f"w{n}", f"b{n}"), outputs=(f"y{n}",)))
        kind = types[f"y{n}"]
    return Graph(
        name="chain",
        nodes=tuple(nodes),
        types=types,
        constants=constants,
        inputs=("x",),
        outputs=(nodes[-1].outputs[0],),
        contract=Contract.TFLITE,
    )


def generate(graph: Graph, core: Core, folder: Path) -> tuple[Graph, Library]:
    """Lower a graph and write its library, its arena planned greedily; returns both."""
    lowered = lower(graph)
    # An optimal plan for dozens of unrelated layers is of no use and takes a minute.
    with patch.dict(sys.modules, {"intaglio.codegen.solve": None}):
        library = emit(lowered, "layers", core)
    write_library(library, folder, make_manifest(library, core, None))
    return lowered, library


def tight(backwards: bool) -> Callable[[Sequence[Buffer], Sequence[Overlap]], Plan]:
    """A planner that lays each layer by itself, its output over its input as closely as the kernel allows.

    Args:
        backwards: of the kernels that can run both ways, whether they do.
    """

    def plan(buffers: Sequence[Buffer], overlaps: Sequence[Overlap]) -> Plan:
        sizes = {b.name: b.bytes for b in buffers}
        offsets: dict[str, int] = {}
        at = 0
        for o in overlaps:
            distance = -align(o.lead) if not backwards or o.lag is None else align(o.lag)
            offsets[o.input] = at + max(-distance, 0)
            offsets[o.output] = offsets[o.input] + distance
            at = align(max(offsets[n] + sizes[n] for n in (o.input, o.output)), 8)
        for b in buffers:
            if b.name not in offsets:
                offsets[b.name] = at
                at = align(at + b.bytes, 8)
        return Plan(offsets, at, "greedy", 0)

    return plan


def inputs(graph: Graph, rng: np.random.Generator, count: int = 3) -> list[list[NDArray[Any]]]:
    """Samples: the extremes, then random integers."""
    kinds = [graph.types[name] for name in graph.inputs]
    low = [np.full(k.shape, k.dtype.low, k.dtype.numpy) for k in kinds]
    high = [np.full(k.shape, k.dtype.high, k.dtype.numpy) for k in kinds]
    drawn = [
        [rng.integers(k.dtype.low, k.dtype.high, k.shape, k.dtype.numpy, endpoint=True) for k in kinds]
        for _ in range(count - 2)
    ]
    return [low, high, *drawn]


def variants(library: Library) -> set[str]:
    """The kernels in use, as OPERATOR/VARIANT."""
    return {f"{layer.op}/{layer.variant}" for layer in library.layers}


def available(op: str) -> set[str]:
    """The names of an operator's kernels."""
    return {variant.name for variant in ops.operator(op).variants}
