"""Which kernels run, in which order, and where their tensors lie.

An elementwise node of two inputs can run as the tail of the kernel that makes one of them: that input is then never
stored. The graph, its digest and the integer reference do not change; the tensor between the two is no layer boundary
any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from intaglio.boards.cores import Core
from intaglio.codegen.memory import Step, alias_roots, buffers, placed
from intaglio.codegen.plan import Buffer, Plan, align, lower_bound, make_plan, rules
from intaglio.codegen.select import select
from intaglio.quantizer import ops
from intaglio.quantizer.ir import Graph, Node
from intaglio.quantizer.ops.base import Kernel, Tail, context

Tails = Mapping[str, tuple[Node, int]]
"""By the name of the node whose kernel ends in it: the node that is the tail, and the input that the kernel makes."""


@dataclass(frozen=True)
class Schedule:
    """The steps in order of execution, what lives when, and where."""

    steps: list[Step]
    buffers: list[Buffer]
    plan: Plan


def make_schedule(graph: Graph, core: Core) -> Schedule:
    """Choose kernels, fuse what can be fused, and plan the arena.

    Fusing must not cost memory: where all fused pairs together need a larger arena than none, those are kept that,
    added one by one, do not.
    """
    found = find_tails(graph, core)
    whole = schedule_with(graph, core, found)
    if not found:
        return whole
    unfused = make_steps(graph, core)
    planned, overlaps = buffers(graph, unfused)
    if whole.plan.arena_bytes <= align(lower_bound(planned, rules(overlaps)), 8):
        return whole
    best = schedule_with(graph, core, {})
    limit = best.plan.arena_bytes
    if whole.plan.arena_bytes <= limit:
        return whole
    kept: dict[str, tuple[Node, int]] = {}
    for name, tail in found.items():
        trial = schedule_with(graph, core, kept | {name: tail})
        if trial.plan.arena_bytes <= limit:
            kept[name], best = tail, trial
    return best


def schedule_with(graph: Graph, core: Core, tails: Tails) -> Schedule:
    """The schedule in which these tails, and no others, are fused."""
    steps = make_steps(graph, core, tails)
    planned, overlaps = buffers(graph, steps)
    plan = make_plan(planned, overlaps)
    return Schedule(placed(graph, steps, planned, overlaps, plan), planned, plan)


def make_kernel(graph: Graph, node: Node) -> Kernel:
    """What the templates see of a lowered node."""
    ctx = context(graph, node)
    return Kernel(node, ctx.inputs, ctx.outputs, ctx.constants, ctx.contract)


def find_tails(graph: Graph, core: Core) -> Tails:
    """The nodes that can run as the tail of another, by the name of that other.

    The tail's input has no other reader and is no output of the graph; the other input lies in the arena; both and
    the output have the same shape and type. Of two inputs that would do, the one computed later is taken.
    """
    readers: dict[str, int] = {}
    makers: dict[str, tuple[int, Node]] = {}
    for index, node in enumerate(graph.nodes):
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
        makers |= dict.fromkeys(node.outputs, (index, node))
    roots = alias_roots(graph)
    result: dict[str, tuple[Node, int]] = {}
    for node in graph.nodes:
        variants = ops.operator(node.op).variants
        if not any(v.is_tail for v in variants) or not select(make_kernel(graph, node), core).is_tail:
            continue
        inputs = node.inputs
        made = graph.types[node.outputs[0]]
        if any(graph.types[n].shape != made.shape or graph.types[n].dtype is not made.dtype for n in inputs):
            continue
        if any(roots[n] in graph.constants for n in inputs):
            continue
        candidates = [
            (makers[name][0], operand)
            for operand, name in enumerate(inputs)
            if name in makers
            and readers[name] == 1
            and name not in graph.outputs
            and not ops.operator(makers[name][1].op).alias
            and select(make_kernel(graph, makers[name][1]), core).tail_pixels
        ]
        if candidates:
            index, operand = max(candidates)
            result[graph.nodes[index].name] = (node, operand)
    return result


def make_steps(graph: Graph, core: Core, tails: Tails | None = None) -> list[Step]:
    """Choose a kernel for every node that needs code.

    A kernel with a tail runs in its own place when the tail's other input is there by then, else in the tail's.
    """
    tails = tails or {}
    roots = alias_roots(graph)
    ready = {roots[name] for name in graph.inputs}
    waiting: dict[str, Node] = {}
    steps: list[Step] = []

    def add(node: Node, tail: Node | None, operand: int) -> None:
        kernel = make_kernel(graph, node)
        variant = select(kernel, core)
        if tail is not None:
            last = make_kernel(graph, tail)
            kernel = replace(kernel, tail=Tail(last, select(last, core), operand))
        step = Step(len(steps), node, kernel, variant, tail)
        ready.update(roots[name] for name in step.outputs)
        steps.append(step)

    done = {tail.name for tail, _ in tails.values()}
    for node in graph.nodes:
        if ops.operator(node.op).alias:
            continue
        if node.name in tails:
            tail, operand = tails[node.name]
            if roots[tail.inputs[1 - operand]] in ready:
                add(node, tail, operand)
            else:
                waiting[tail.name] = node
        elif node.name in waiting:
            add(waiting[node.name], node, tails[waiting[node.name].name][1])
        elif node.name not in done:
            add(node, None, 0)
    return steps
