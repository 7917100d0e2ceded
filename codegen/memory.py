"""From a lowered graph and its kernels to the buffers and overlaps that the planner places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from intaglio.codegen.plan import Buffer, Overlap, Plan, align, runs_backwards
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph, Node
from intaglio.quantizer.ops.base import Kernel, Variant


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a kernel.

    Attributes:
        index: position in the order of execution; the layer number of NAME_TRACE.
        node: lowered.
        kernel: what the template sees.
        variant: the kernel chosen.
    """

    index: int
    node: Node
    kernel: Kernel
    variant: Variant

    @property
    def scratch(self) -> int:
        """Bytes of working memory."""
        return self.variant.scratch(self.kernel)

    @property
    def scratch_name(self) -> str:
        return f"{self.node.name}/scratch"


def alias_roots(graph: Graph) -> dict[str, str]:
    """Map each tensor to the tensor whose bytes it shares (itself unless made by an alias operator)."""
    roots = {name: name for name in graph.types}
    for node in graph.nodes:
        if ops.operator(node.op).alias:
            roots[node.outputs[0]] = roots[node.inputs[0]]
    return roots


def variable_offsets(graph: Graph) -> tuple[dict[str, int], int]:
    """Place the variables one after the other at the start of the arena; return offsets and their total size."""
    offsets: dict[str, int] = {}
    at = 0
    for name, variable in graph.variables.items():
        offsets[name] = at
        at = align(at + variable.type.bytes, 8)
    return offsets, at


def buffers(graph: Graph, steps: Sequence[Step]) -> tuple[list[Buffer], list[Overlap]]:
    """Return what is live when, and where a kernel allows its output over an input that dies there.

    The state is one pinned buffer named "state". Graph inputs are live from before the first step, graph
    outputs until after the last.
    """
    roots = alias_roots(graph)
    end = len(steps)
    first: dict[str, int] = {roots[name]: -1 for name in graph.inputs}
    last: dict[str, int] = {roots[name]: -1 for name in graph.inputs}
    for step in steps:
        for name in graph.runtime_inputs(step.node):
            last[roots[name]] = step.index
        for name in step.node.outputs:
            first.setdefault(roots[name], step.index)
            last.setdefault(roots[name], step.index)
    for name in graph.outputs:
        last[roots[name]] = end
    sizes = _sizes(graph, roots)
    result = [
        Buffer(n, sizes[n], first[n], last[n], alignment=8 if graph.types[n].dtype.bytes == 8 else 4) for n in first
    ]
    result += [Buffer(s.scratch_name, s.scratch, s.index, s.index) for s in steps if s.scratch]
    _, state = variable_offsets(graph)
    if state:
        result.append(Buffer("state", state, -1, end, pinned=0))
    return result, _overlaps(graph, steps, roots, last)


def _sizes(graph: Graph, roots: Mapping[str, str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, root in roots.items():
        sizes[root] = max(sizes.get(root, 0), graph.types[name].bytes)
    return sizes


def _overlaps(graph: Graph, steps: Sequence[Step], roots: Mapping[str, str], last: Mapping[str, int]) -> list[Overlap]:
    result = []
    for step in steps:
        leads, lags = step.variant.lead(step.kernel), step.variant.lag(step.kernel)
        for name, lead, lag in zip(step.node.inputs, leads, lags, strict=True):
            if lead is None or not name or name in graph.constants or last[roots[name]] != step.index:
                continue
            if len(step.node.outputs) == 1:
                result.append(Overlap(roots[step.node.outputs[0]], roots[name], lead, lag))
    return result


def directed(
    graph: Graph, steps: Sequence[Step], planned: Sequence[Buffer], overlaps: Sequence[Overlap], plan: Plan
) -> list[Step]:
    """Tell the kernels that have to run backwards under a plan so."""
    by_name = {b.name: b for b in planned}
    roots = alias_roots(graph)
    result = []
    for step in steps:
        made = {roots[o] for o in step.node.outputs}
        over = [(by_name[o.input], o) for o in overlaps if o.output in made and o.lag is not None]
        if over and runs_backwards(by_name[over[0][1].output], over, plan.offsets):
            step = replace(step, kernel=replace(step.kernel, backwards=True))
        result.append(step)
    return result
