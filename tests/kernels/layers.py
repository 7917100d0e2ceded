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


def random_layer(rng: np.random.Generator, contract: Contract) -> Graph:
    """One layer of a random kind, shape, padding, stride and dilation."""

    def draw(*values: int) -> int:
        return int(rng.choice(values))

    clamp = CLAMPS[int(rng.integers(3))]
    channels = draw(1, 2, 3, 4, 5, 8, 12, 16)
    kind = draw(0, 1, 2, 2, 3, 3)
    if kind == 0:
        terms, outs = draw(1, 3, 4, 8, 20, 37, 64, 130), draw(1, 2, 3, 4, 7, 8, 11)
        rows = draw(1, 1, 3)
        return mac_example(
            "FullyConnected", FullyConnectedAttrs(clamp), (rows, terms), (outs, terms), 0, "int8", contract, rng
        )
    height, width = int(rng.integers(3, 10)), int(rng.integers(3, 10))
    shape = (1, height, width, channels)
    stride, outs = (draw(1, 1, 2), draw(1, 1, 2, 3)), draw(1, 2, 3, 4, 6, 8, 9)
    if kind == 1:
        attrs = Conv2DAttrs(stride, clamp=clamp)
        return mac_example("Conv2D", attrs, shape, (outs, 1, 1, channels), 0, "int8", contract, rng)
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
            "int8",
            contract,
            rng,
        )
    return mac_example(
        "DepthwiseConv2D",
        DepthwiseConv2DAttrs(stride, dilation, (pads[0], pads[1], pads[2], pads[3]), clamp=clamp),
        shape,
        (1, kh, kw, channels * draw(1, 1, 1, 2)),
        3,
        "int8",
        contract,
        rng,
    )


def side_by_side(graphs: Sequence[Graph], contract: Contract) -> Graph:
    """One graph that evaluates independent graphs of one node, each on an input of its own."""
    types: dict[str, TensorType] = {}
    constants: dict[str, NDArray[Any]] = {}
    nodes: list[Node] = []
    for n, graph in enumerate(graphs):
        types |= {f"n{n}{name}": kind for name, kind in graph.types.items()}
        constants |= {f"n{n}{name}": value for name, value in graph.constants.items()}
        node = graph.nodes[0]
        names = tuple(f"n{n}{name}" for name in node.inputs), tuple(f"n{n}{name}" for name in node.outputs)
        nodes.append(replace(node, name=f"n{n}", inputs=names[0], outputs=names[1]))
    return Graph(
        name="layers",
        nodes=tuple(nodes),
        types=types,
        constants=constants,
        inputs=tuple(n.inputs[0] for n in nodes),
        outputs=tuple(n.outputs[0] for n in nodes),
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
    fixed = [[np.full(k.shape, v, k.dtype.numpy) for k in kinds] for v in (-128, 127)]
    drawn = [[rng.integers(-128, 128, k.shape).astype(k.dtype.numpy) for k in kinds] for _ in range(count - 2)]
    return fixed + drawn


def variants(library: Library) -> set[str]:
    """The kernels in use, as OPERATOR/VARIANT."""
    return {f"{layer.op}/{layer.variant}" for layer in library.layers}


def available(op: str) -> set[str]:
    """The names of an operator's kernels."""
    return {variant.name for variant in ops.operator(op).variants}
