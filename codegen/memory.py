"""From a lowered graph and its kernels to the buffers and overlaps that the planner places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from intaglio.codegen.plan import Buffer, Overlap, Plan, align, inputs_of, rules, runs_backwards
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph, Node
from intaglio.quantizer.ops.base import Kernel, Variant, tail_overlap


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a kernel.

    Attributes:
        index: position in the order of execution; the layer number of NAME_TRACE.
        node: lowered.
        kernel: what the template sees.
        variant: the kernel chosen.
        tail: the node of `kernel.tail`; None where there is none.
    """

    index: int
    node: Node
    kernel: Kernel
    variant: Variant
    tail: Node | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What the step computes, in order."""
        return (self.node,) if self.tail is None else (self.node, self.tail)

    @property
    def beside(self) -> str | None:
        """The tensor that the tail reads beside what the kernel makes."""
        tail = self.kernel.tail
        return None if self.tail is None or tail is None else self.tail.inputs[1 - tail.operand]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that the step reads, "" where an optional one is absent."""
        return self.node.inputs if self.beside is None else (*self.node.inputs, self.beside)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that the step writes."""
        return self.nodes[-1].outputs

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
        for name in step.inputs:
            if name and name not in graph.constants:
                last[roots[name]] = step.index
        for name in step.outputs:
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
        if len(step.outputs) != 1:
            continue
        out = roots[step.outputs[0]]
        leads, lags = step.variant.lead(step.kernel), step.variant.lag(step.kernel)
        ways = [(name, lead, lag, False) for name, lead, lag in zip(step.node.inputs, leads, lags, strict=True)]
        if step.beside is not None:
            before, after = tail_overlap(step.kernel, step.variant.tail_pixels)
            ways.append((step.beside, before, after if any(o is not None for o in lags) else None, True))
        # What one way of reading a buffer forbids, another cannot allow.
        kept = {roots[name] for name, lead, _, _ in ways if lead is None and name}
        for name, lead, lag, in_place in ways:
            if lead is None or not name or name in graph.constants or roots[name] in kept:
                continue
            if last[roots[name]] == step.index:
                result.append(Overlap(out, roots[name], lead, lag, in_place))
    return result


def placed(
    graph: Graph, steps: Sequence[Step], planned: Sequence[Buffer], overlaps: Sequence[Overlap], plan: Plan
) -> list[Step]:
    """Tell the kernels what a plan asks of them: to run backwards, and how far away the other input of a tail lies."""
    by_name = {b.name: b for b in planned}
    roots = alias_roots(graph)
    shared = inputs_of(rules(overlaps))
    result = []
    for step in steps:
        kernel = step.kernel
        out = roots[step.outputs[0]] if step.outputs else ""
        over = [(by_name[o.input], o) for o in shared.get(out, ())]
        if over and runs_backwards(by_name[out], over, plan.offsets):
            kernel = replace(kernel, backwards=True)
        if kernel.tail is not None and step.beside is not None:
            bytes_between = plan.offsets[roots[step.beside]] - plan.offsets[out]
            tail = replace(kernel.tail, distance=bytes_between // kernel.y.dtype.bytes)
            kernel = replace(kernel, tail=tail)
        result.append(replace(step, kernel=kernel))
    return result
