"""Lifetimes and sizes to arena offsets: the problem, its lower bound, and a greedy solution.

`make_plan` tries the greedy first; where that is not provably optimal, `codegen.solve` packs optimally.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
        in_place: the two may start at the same byte, although the lead is more than 0.
    """

    output: str
    input: str
    lead: int
    lag: int | None = None
    in_place: bool = False

    @property
    def closest(self) -> list[int]:
        """The bytes from the start of the input to that of the output at the ends of what is allowed."""
        return [-self.lead, *([] if self.lag is None else [self.lag]), *([0] if self.in_place else [])]

    def allows(self, output: int, input: int, *, backwards: bool) -> bool:
        """Whether the two may overlap at these offsets while the kernel runs so."""
        if backwards:
            return self.lag is not None and output >= input + self.lag
        return input >= output + self.lead or (self.in_place and input == output)


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


Rules = Mapping[tuple[str, str], Overlap]
"""By (output, input); lead and lag are multiples of WORD."""


def rules(overlaps: Sequence[Overlap]) -> dict[tuple[str, str], Overlap]:
    """The overlaps by what they are about; an input that a kernel reads in two ways has to allow both."""
    result: dict[tuple[str, str], Overlap] = {}
    for o in overlaps:
        lead, lag = align(o.lead), None if o.lag is None else align(o.lag)
        known = result.get((o.output, o.input))
        if known is not None:
            lag = None if lag is None or known.lag is None else max(lag, known.lag)
            in_place = all(r.in_place or r.lead <= 0 for r in (o, known))
            o = Overlap(o.output, o.input, max(lead, known.lead), lag, in_place)
        else:
            o = replace(o, lead=lead, lag=lag)
        result[o.output, o.input] = o
    return result


def inputs_of(rules: Rules) -> dict[str, list[Overlap]]:
    """The overlaps of each output: the kernel that makes it runs in one direction over all of them."""
    result: dict[str, list[Overlap]] = {}
    for rule in rules.values():
        result.setdefault(rule.output, []).append(rule)
    return result


def align(value: int, to: int = WORD) -> int:
    """Round up to a multiple."""
    return -(-value // to) * to


def runs_backwards(output: Buffer, inputs: Sequence[tuple[Buffer, Overlap]], offsets: Mapping[str, int]) -> bool:
    """Whether a kernel has to run backwards, given where its output and the inputs it may overlap lie."""
    at = offsets[output.name]
    return not all(
        disjoint(output, at, b, offsets[b.name]) or rule.allows(at, offsets[b.name], backwards=False)
        for b, rule in inputs
    )


def disjoint(a: Buffer, at_a: int, b: Buffer, at_b: int) -> bool:
    """Whether two buffers share no byte."""
    return at_a + a.bytes <= at_b or at_b + b.bytes <= at_a


def conflict(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers are live at one time."""
    return a.first <= b.last and b.first <= a.last


def make_plan(buffers: Sequence[Buffer], overlaps: Sequence[Overlap]) -> Plan:
    """Place buffers so that the arena is smallest; the same input gives the same offsets on every machine."""
    allowed = rules(overlaps)
    bound = align(lower_bound(buffers, allowed), 8)
    offsets = greedy(buffers, allowed)
    total = arena(buffers, offsets)
    if total == bound:
        return Plan(offsets, total, "optimal", bound)
    # OR-tools takes longer to import than most models take to compile.
    try:
        from intaglio.codegen.solve import solve
    except ImportError:
        return Plan(offsets, total, "greedy", bound)
    found, proven, proven_bound = solve(buffers, allowed, offsets)
    total = arena(buffers, found)
    return Plan(found, total, "optimal" if proven else "feasible", max(bound, min(align(proven_bound, 8), total)))


def arena(buffers: Sequence[Buffer], offsets: Mapping[str, int]) -> int:
    """The size of the arena."""
    return align(max((offsets[b.name] + b.bytes for b in buffers), default=0), 8)


def apart(a: Buffer, at_a: int, b: Buffer, at_b: int, allowed: Rules) -> bool:
    """Whether two buffers that are live at one time may lie at these offsets, in either direction."""
    if disjoint(a, at_a, b, at_b):
        return True
    return any(
        rule is not None and rule.allows(out, inp, backwards=backwards)
        for rule, out, inp in ((allowed.get((a.name, b.name)), at_a, at_b), (allowed.get((b.name, a.name)), at_b, at_a))
        for backwards in (False, True)
    )


def check(buffers: Sequence[Buffer], overlaps: Sequence[Overlap], plan: Plan) -> list[str]:
    """Return what a plan wrongly lets overlap (nothing, unless the planner is broken): pairs, or an output and all
    inputs that it lies over when no direction suits them together."""
    allowed = rules(overlaps)
    at = plan.offsets
    wrong = [
        f"{a.name} and {b.name}"
        for i, a in enumerate(buffers)
        for b in buffers[:i]
        if conflict(a, b) and not apart(a, at[a.name], b, at[b.name], allowed)
    ]
    by_name = {b.name: b for b in buffers}
    for output, shared in inputs_of(allowed).items():
        over = [o for o in shared if not disjoint(by_name[output], at[output], by_name[o.input], at[o.input])]
        if not any(all(o.allows(at[output], at[o.input], backwards=way) for o in over) for way in (False, True)):
            wrong.append(" and ".join((output, *(o.input for o in over))))
    return wrong


def lower_bound(buffers: Sequence[Buffer], allowed: Rules) -> int:
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
            shared = [b for b in live if (out.name, b.name) in allowed]
            side_by_side = out.bytes + sum(b.bytes for b in shared)
            if len(shared) == 1:
                free -= side_by_side - min(side_by_side, _span(out, shared[0], allowed[out.name, shared[0].name]))
            elif shared:
                free -= side_by_side - max(out.bytes, side_by_side - out.bytes)
        best = max(best, free)
    return best


def _span(out: Buffer, inp: Buffer, rule: Overlap) -> int:
    """The fewest bytes that an output and the input it may overlap take together."""
    spans = [max(out.bytes, inp.bytes, 0 if rule.in_place else max(rule.lead, 0) + inp.bytes)]
    if rule.lag is not None:
        spans.append(max(out.bytes, inp.bytes, max(rule.lag, 0) + out.bytes))
    return min(spans)


def greedy(buffers: Sequence[Buffer], allowed: Rules) -> dict[str, int]:
    """Place buffers one by one at the lowest offset that is free; the best of several orders.

    Kernels with several inputs to lie over run forwards, so that each pair can be looked at by itself.
    """
    single = {name for name, shared in inputs_of(allowed).items() if len(shared) == 1}
    allowed = {k: rule if rule.output in single else replace(rule, lag=None) for k, rule in allowed.items()}
    orders: tuple[Callable[[Buffer], tuple[int, ...]], ...] = (
        lambda b: (-b.bytes, b.first),
        lambda b: (b.first, -b.bytes),
        lambda b: (-b.last, -b.bytes),
        lambda b: (-b.bytes * (b.last - b.first + 1), b.first),
    )
    plans = [
        _place(sorted(buffers, key=lambda b: (b.pinned is None, *key(b), b.name)), allowed, prefer_in_place=prefer)
        for key in orders
        for prefer in (True, False)
    ]
    return min(plans, key=lambda offsets: (arena(buffers, offsets), -in_place(offsets, allowed)))


def in_place(offsets: Mapping[str, int], allowed: Rules) -> int:
    """How many outputs start where the input starts, of those for which that is an option of its own."""
    return sum(r.in_place and offsets[r.output] == offsets[r.input] for r in allowed.values())


def _place(order: Sequence[Buffer], allowed: Rules, *, prefer_in_place: bool) -> dict[str, int]:
    placed: dict[str, int] = {}
    done: list[Buffer] = []
    for buffer in order:
        others = [o for o in done if conflict(buffer, o)]
        if buffer.pinned is not None:
            placed[buffer.name] = buffer.pinned
        else:
            free = _free(buffer, others, placed, allowed)
            same = _partners(buffer, others, placed, allowed) if prefer_in_place else set()
            placed[buffer.name] = min(free, key=lambda at: (at not in same, at))
        done.append(buffer)
    return placed


def _partners(buffer: Buffer, others: Sequence[Buffer], placed: Mapping[str, int], allowed: Rules) -> set[int]:
    """Where the buffer would be in place."""
    return {
        placed[o.name]
        for o in others
        for pair in ((buffer.name, o.name), (o.name, buffer.name))
        if pair in allowed and allowed[pair].in_place
    }


def _free(buffer: Buffer, others: Sequence[Buffer], placed: Mapping[str, int], allowed: Rules) -> list[int]:
    """Offsets at which the buffer may lie, the lowest one among them."""
    candidates = {0}
    for other in others:
        at = placed[other.name]
        starts = [at + other.bytes]
        if (buffer.name, other.name) in allowed:
            starts += [at + d for d in allowed[buffer.name, other.name].closest]
        if (other.name, buffer.name) in allowed:
            starts += [at - d for d in allowed[other.name, buffer.name].closest]
        for start in starts:
            candidates |= {start // buffer.alignment * buffer.alignment, align(start, buffer.alignment)}
    return [c for c in candidates if c >= 0 and all(apart(buffer, c, o, placed[o.name], allowed) for o in others)]
