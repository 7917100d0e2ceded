"""What is fused, where it runs, and that it never costs memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_builder import Builder, scales
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.boards.cores import CORES
from intaglio.codegen.compile import Compiled, make_manifest, write_library
from intaglio.codegen.emit import emit, graph_digest
from intaglio.codegen.memory import buffers
from intaglio.codegen.plan import check
from intaglio.codegen.report import render_report
from intaglio.codegen.schedule import find_tails, make_schedule, make_steps, schedule_with
from intaglio.host.reporting import with_instructions
from intaglio.host.samples import drawn_samples
from intaglio.host.verify import verify
from intaglio.quantizer.ir import Contract, Graph, QParams
from intaglio.quantizer.ops.conv2d import Conv2DAttrs
from intaglio.quantizer.passes.lower import lower

M4 = CORES["cortex-m4"]
SHAPE = (1, 6, 6, 4)


class Network(Builder):
    """Convolutions and what goes on around them, all of one scale."""

    def __init__(self) -> None:
        super().__init__(Contract.TFLITE)
        self.rng = np.random.default_rng(3)
        self.x = self.input("x", SHAPE, QParams.of(0.05, 3))

    def conv(self, name: str, x: str, outs: int = 4, k: int = 3, stride: int = 1) -> str:
        """A convolution with padding such that stride 1 keeps the shape."""
        cin = self.types[x].shape[3]
        kind = scales(self.rng, outs, 0)
        w = self.constant(f"{name}_w", self.rng.integers(-127, 128, (outs, k, k, cin), dtype=np.int8), kind)
        products = QParams(tuple(0.05 * s for s in kind.scale), (0,) * outs, 0)
        b = self.constant(f"{name}_b", self.rng.integers(-2000, 2000, outs, dtype=np.int32), products)
        attrs = Conv2DAttrs(stride=(stride, stride), pads=(k // 2,) * 4)
        return self.node("Conv2D", name, [x, w, b], attrs, QParams.of(0.05, 3))

    def add(self, name: str, a: str, b: str) -> str:
        """The sum of two."""
        return self.node("Add", name, [a, b], None, QParams.of(0.07, -5))

    def lowered(self, *outputs: str) -> Graph:
        """The graph, ready for code."""
        return lower(self.graph(*outputs))


def steps(graph: Graph) -> list[str]:
    """The steps of the schedule that is taken, in order."""
    return ["+".join(node.name for node in step.nodes) for step in make_schedule(graph, M4).steps]


def test_of_two_convolutions_the_later_one_takes_the_sum() -> None:
    net = Network()
    assert steps(net.lowered(net.add("sum", net.conv("b", net.x), net.conv("a", net.x)))) == ["b", "a+sum"]
    net = Network()
    first = net.conv("a", net.x)
    assert steps(net.lowered(net.add("sum", net.conv("b", net.x), first))) == ["a", "b+sum"]


def test_a_residual_that_is_an_input_or_computed_before() -> None:
    net = Network()
    block = net.add("sum", net.x, net.conv("c", net.conv("b", net.x)))
    assert steps(net.lowered(net.add("sum2", net.conv("d", block), block))) == ["b", "c+sum", "d+sum2"]


def test_the_convolution_waits_for_a_residual_that_comes_later() -> None:
    net = Network()
    main = net.conv("a", net.x)
    graph = net.lowered(net.add("sum", main, net.node("Abs", "r", [net.x])))
    assert steps(graph) == ["r", "a+sum"]


def test_a_sum_that_waits_makes_room_for_the_next() -> None:
    """The residual of the second sum is the first, which itself runs only once its own residual is there."""
    net = Network()
    a, b = net.conv("a", net.x), net.conv("b", net.x)
    first = net.add("first", a, net.node("Abs", "r", [net.x]))
    graph = net.lowered(net.add("second", b, first))
    order = ["+".join(n.name for n in s.nodes) for s in make_steps(graph, M4, find_tails(graph, M4))]
    assert order == ["r", "a+first", "b+second"]


@pytest.mark.parametrize("case", ["read twice", "an output", "with itself", "broadcast", "a constant", "no kernel"])
def test_what_is_not_fused(case: str) -> None:
    net = Network()
    c = net.conv("c", net.x)
    outputs = []
    if case == "read twice":
        total = net.add("sum", net.node("Abs", "r", [c]), c)
    elif case == "an output":
        total = net.add("sum", c, net.x)
        outputs = ["c"]
    elif case == "with itself":
        total = net.add("sum", c, c)
    elif case == "broadcast":
        total = net.add("sum", c, net.input("row", (1, 1, 1, 4), QParams.of(0.05, 0)))
    elif case == "a constant":
        value = net.rng.integers(-128, 128, SHAPE, dtype=np.int8)
        total = net.add("sum", c, net.constant("k", value, QParams.of(0.05, 0)))
    else:
        total = net.add("sum", net.node("Abs", "r", [c]), net.x)
    graph = net.lowered(total, *outputs)
    assert find_tails(graph, M4) == {}
    assert all("+" not in step for step in steps(graph))


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Layers on any earlier tensor, sums of any two of one shape."""
    net = Network()
    made = [net.x]
    for n in range(draw(st.integers(2, 9))):
        x = draw(st.sampled_from(made[-4:]))
        same = [t for t in made if net.types[t].shape == net.types[x].shape and t != x]
        kind = draw(st.sampled_from(["conv", "conv", "abs", "sum", "sum", "sum"]))
        if kind == "sum" and same:
            made.append(net.add(f"sum{n}", *draw(st.permutations([x, draw(st.sampled_from(same))]))))
        elif kind == "abs":
            made.append(net.node("Abs", f"abs{n}", [x]))
        else:
            k, stride = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 1, 1, 2]))
            made.append(net.conv(f"conv{n}", x, draw(st.sampled_from([4, 4, 4, 12])), k, stride))
    read = {name for node in net.nodes for name in node.inputs}
    return net.lowered(*(t for t in made if t not in read))


@settings(max_examples=40, deadline=None)
@given(networks(), st.sampled_from(["cortex-m0", "cortex-m4"]))
def test_fusing_never_costs_memory_and_every_plan_is_valid(graph: Graph, core: str) -> None:
    schedule = make_schedule(graph, CORES[core])
    unfused = schedule_with(graph, CORES[core], {})
    assert schedule.plan.arena_bytes <= unfused.plan.arena_bytes
    planned, overlaps = buffers(graph, schedule.steps)
    assert planned == schedule.buffers
    assert check(planned, overlaps, schedule.plan) == []
    assert sorted(n.name for s in schedule.steps for n in s.nodes) == sorted(n.name for n in graph.nodes)
    again = make_schedule(graph, CORES[core])
    assert again.plan == schedule.plan
    assert [s.nodes for s in again.steps] == [s.nodes for s in schedule.steps]
    made = set(graph.inputs) | set(graph.constants)
    for step in schedule.steps:
        assert made.issuperset(step.inputs)
        made.update(step.outputs)


def test_a_sum_that_would_cost_memory_is_left_alone() -> None:
    """The strided convolution shrinks its large input; keeping that until the residual is there costs more."""
    net = Network()
    large = net.conv("large", net.x, 32, 1)
    small = net.conv("small", large, 4, 1, 2)
    other = net.x
    for n in range(2):
        other = net.conv(f"c{n}", other, 12, 3)
    total = net.add("sum", small, net.node("Abs", "r", [net.conv("d", other, 4, 3, 2)]))
    graph = net.lowered(total)
    assert set(find_tails(graph, M4)) == {"small"}
    whole = schedule_with(graph, M4, find_tails(graph, M4))
    assert whole.plan.arena_bytes > make_schedule(graph, M4).plan.arena_bytes
    assert steps(graph) == [node.name for node in graph.nodes]


def test_reports_show_a_fused_layer(tmp_path: Path) -> None:
    """One layer with both operators, the convolution's work, and the sum as its boundary."""
    net = Network()
    graph = net.lowered(net.add("sum", net.conv("c", net.x), net.x))
    graph = graph.with_(nodes=tuple(replace(n, source=f"{n.op} #{i}") for i, n in enumerate(graph.nodes)))
    library = emit(graph, "net", M4)
    assert library.digest == graph_digest(graph)
    write_library(library, tmp_path / "net", make_manifest(library, M4, None))
    manifest = json.loads((tmp_path / "net" / "net.json").read_text())
    (layer,) = manifest["layers"]
    assert (layer["op"], layer["name"], layer["source"]) == ("Conv2D+Add", "c + sum", "Conv2D #0 + Add #1")
    assert layer["macs"] == manifest["live_macs"] == 36 * 4 * 36
    assert [o["tensor"] for o in layer["outputs"]] == ["sum"]
    assert {b["name"] for b in manifest["buffers"]} == {"x", "sum", "c/scratch"}
    assert "Conv2D+Add c + sum (Conv2D #0 + Add #1)" in library.files["net.c"]
    compiled = Compiled(library, graph, tmp_path / "net", manifest)
    measured, _, _ = with_instructions(compiled, M4)
    assert measured.manifest["layers"][0]["instructions"] > 1000
    assert "<td>Conv2D+Add</td>" in render_report(measured.manifest)
    samples = drawn_samples(graph, 3)
    rows = list(verify(compiled, samples, M4, builds=[("gcc", "-O2", True)]))
    assert [(row.exact, row.tensors) for row in rows] == [(True, 2), (True, 1), (True, 1)]
