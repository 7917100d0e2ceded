"""Lifetimes and sizes to arena offsets: the problem, its lower bound, and a greedy solution.

`make_plan` tries the greedy first; where that is not provably optimal, `codegen.solve` packs optimally.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WORD = 4
"""Bytes; offsets are multiples of it."""


@dataclass(frozen=True)
class Buffer:
    """A block of working memory.

    Attributes:
        name: of the tensor (or scratch) that it holds.
        bytes: its size.
        first, last: the steps between which it is live, both included; the input of the graph has first = -1,
            an output last = number of steps.
        pinned: an offset that is given (state), or None.
        alignment: of its offset, in bytes: 4 or 8.
    """

    name: str
    bytes: int
    first: int
    last: int
    pinned: int | None = None
    alignment: int = WORD


@dataclass(frozen=True)
class Overlap:
    """How the kernel that makes `output` allows it to lie over `input`, which dies there.

    Attributes:
        lead: running forwards, the output starts at least so many bytes before the input.
        lag: running backwards, the output starts at least so many bytes after the input; None where it cannot.
    """

    output: str
    input: str
    lead: int
    lag: int | None = None


@dataclass(frozen=True)
class Plan:
    """Where each buffer lies.

    Attributes:
        offsets: by buffer name, in bytes from the start of the arena.
        arena_bytes: the size of the arena, a multiple of 8.
        solver: "optimal" (proven), "feasible" (the solver's limit came first) or "greedy" (no solver installed).
        lower_bound: no plan can be smaller than this many bytes.
    """

    offsets: dict[str, int]
    arena_bytes: int
    solver: str
    lower_bound: int


Leads = Mapping[tuple[str, str], int]
"""(upper, lower) to the least distance from the start of the first to that of the second, a multiple of WORD:
(output, input) to the lead, (input, output) to the lag."""


def distances(overlaps: Sequence[Overlap]) -> dict[tuple[str, str], int]:
    """The overlaps as least distances between starts."""
    result = {(o.output, o.input): align(o.lead) for o in overlaps}
    result |= {(o.input, o.output): align(o.lag) for o in overlaps if o.lag is not None}
    return result


def align(value: int, to: int = WORD) -> int:
    """Round up to a multiple."""
    return -(-value // to) * to


def runs_backwards(output: Buffer, inputs: Sequence[tuple[Buffer, Overlap]], offsets: Mapping[str, int]) -> bool:
    """Whether a kernel has to run backwards, given where its output and the inputs it may overlap lie."""
    at = offsets[output.name]
    return any(
        at + output.bytes > offsets[b.name]
        and offsets[b.name] + b.bytes > at
        and offsets[b.name] < at + align(overlap.lead)
        for b, overlap in inputs
    )


def conflict(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers are live at one time."""
    return a.first <= b.last and b.first <= a.last


def make_plan(buffers: Sequence[Buffer], overlaps: Sequence[Overlap]) -> Plan:
    """Place buffers so that the arena is smallest; the same input gives the same offsets on every machine."""
    leads = distances(overlaps)
    bound = align(lower_bound(buffers, leads), 8)
    offsets = greedy(buffers, leads)
    total = arena(buffers, offsets)
    if total == bound:
        return Plan(offsets, total, "optimal", bound)
    # OR-tools takes longer to import than most models take to compile.
    try:
        from intaglio.codegen.solve import solve
    except ImportError:
        return Plan(offsets, total, "greedy", bound)
    found, proven, proven_bound = solve(buffers, leads, offsets)
    total = arena(buffers, found)
    return Plan(found, total, "optimal" if proven else "feasible", max(bound, min(align(proven_bound, 8), total)))


def arena(buffers: Sequence[Buffer], offsets: Mapping[str, int]) -> int:
    """The size of the arena."""
    return align(max((offsets[b.name] + b.bytes for b in buffers), default=0), 8)


def apart(a: Buffer, at_a: int, b: Buffer, at_b: int, leads: Leads) -> bool:
    """Whether two buffers that are live at one time may lie at these offsets."""
    if at_a + a.bytes <= at_b or at_b + b.bytes <= at_a:
        return True
    return any(
        (first, second) in leads and at_second >= at_first + leads[first, second]
        for first, at_first, second, at_second in ((a.name, at_a, b.name, at_b), (b.name, at_b, a.name, at_a))
    )


def check(buffers: Sequence[Buffer], overlaps: Sequence[Overlap], plan: Plan) -> list[str]:
    """Return every pair of buffers that a plan wrongly lets overlap (none, unless the planner is broken)."""
    leads = distances(overlaps)
    at = plan.offsets
    return [
        f"{a.name} and {b.name}"
        for i, a in enumerate(buffers)
        for b in buffers[:i]
        if conflict(a, b) and not apart(a, at[a.name], b, at[b.name], leads)
    ]


def lower_bound(buffers: Sequence[Buffer], leads: Leads) -> int:
    """Bytes below which no plan can go: the largest sum over the steps of what must lie side by side.

    A step's output and the inputs that it may overlap count together as the smallest span they can share.
    """
    best = 0
    for step in {b.first for b in buffers}:
        live = [b for b in buffers if b.first <= step <= b.last]
        free = sum(b.bytes for b in live)
        for out in live:
            if out.first != step:
                continue
            shared = [b for b in live if b is not out and ((out.name, b.name) in leads or (b.name, out.name) in leads)]
            side_by_side = out.bytes + sum(b.bytes for b in shared)
            if len(shared) == 1:
                free -= side_by_side - min(side_by_side, _span(out, shared[0], leads))
            elif shared:
                free -= side_by_side - max(out.bytes, side_by_side - out.bytes)
        best = max(best, free)
    return best


def _span(out: Buffer, inp: Buffer, leads: Leads) -> int:
    """The fewest bytes that an output and the input it may overlap take together."""
    spans = []
    if (out.name, inp.name) in leads:
        spans.append(max(out.bytes, inp.bytes, max(leads[out.name, inp.name], 0) + inp.bytes))
    if (inp.name, out.name) in leads:
        spans.append(max(out.bytes, inp.bytes, max(leads[inp.name, out.name], 0) + out.bytes))
    return min(spans)


def greedy(buffers: Sequence[Buffer], leads: Leads) -> dict[str, int]:
    """Place buffers one by one at the lowest offset that is free; the best of several orders."""
    orders: tuple[Callable[[Buffer], tuple[int, ...]], ...] = (
        lambda b: (-b.bytes, b.first),
        lambda b: (b.first, -b.bytes),
        lambda b: (-b.last, -b.bytes),
        lambda b: (-b.bytes * (b.last - b.first + 1), b.first),
    )
    plans = [_place(sorted(buffers, key=lambda b: (b.pinned is None, *key(b), b.name)), leads) for key in orders]
    return min(plans, key=lambda offsets: arena(buffers, offsets))


def _place(order: Sequence[Buffer], leads: Leads) -> dict[str, int]:
    placed: dict[str, int] = {}
    done: list[Buffer] = []
    for buffer in order:
        others = [o for o in done if conflict(buffer, o)]
        placed[buffer.name] = buffer.pinned if buffer.pinned is not None else _lowest(buffer, others, placed, leads)
        done.append(buffer)
    return placed


def _lowest(buffer: Buffer, others: Sequence[Buffer], placed: Mapping[str, int], leads: Leads) -> int:
    candidates = {0}
    for other in others:
        at = placed[other.name]
        candidates.add(align(at + other.bytes, buffer.alignment))
        if (buffer.name, other.name) in leads:
            candidates.add((at - leads[buffer.name, other.name]) // buffer.alignment * buffer.alignment)
        if (other.name, buffer.name) in leads:
            candidates.add(align(at + leads[other.name, buffer.name], buffer.alignment))
    return next(
        c for c in sorted(candidates) if c >= 0 and all(apart(buffer, c, o, placed[o.name], leads) for o in others)
    )
