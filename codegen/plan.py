"""Lifetimes and sizes to arena offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 4


@dataclass(frozen=True)
class Buffer:
    """A block of working memory.

    Attributes:
        name: of the tensor (or scratch) that it holds.
        bytes: its size.
        first, last: the steps between which it is live, both included; the input of the graph has first = -1,
            an output last = number of steps.
        pinned: an offset that is given (state), or None.
    """

    name: str
    bytes: int
    first: int
    last: int
    pinned: int | None = None


@dataclass(frozen=True)
class Overlap:
    """The kernel that makes `output` allows it to start `lead` bytes or more before `input`, which dies there."""

    output: str
    input: str
    lead: int


@dataclass(frozen=True)
class Plan:
    """Where each buffer lies.

    Attributes:
        offsets: by buffer name, in bytes from the start of the arena.
        arena_bytes: the size of the arena, a multiple of 8.
        solver: "optimal", "feasible" (time limit) or "greedy".
        lower_bound: no plan can be smaller than this many bytes.
    """

    offsets: dict[str, int]
    arena_bytes: int
    solver: str
    lower_bound: int


def align(value: int, to: int = ALIGNMENT) -> int:
    """Round up to a multiple."""
    return -(-value // to) * to


def conflict(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers are live at one time."""
    return a.first <= b.last and b.first <= a.last


def make_plan(buffers: Sequence[Buffer], overlaps: Sequence[Overlap]) -> Plan:
    """Place buffers, largest first, at the lowest offset that is free."""
    allowed = {(o.output, o.input): o.lead for o in overlaps}
    placed: list[tuple[Buffer, int]] = []
    order = sorted(buffers, key=lambda b: (b.pinned is None, -b.bytes, b.first, b.name))
    for buffer in order:
        if buffer.pinned is not None:
            placed.append((buffer, buffer.pinned))
            continue
        others = [(o, at) for o, at in placed if conflict(buffer, o)]
        candidates = {0} | {align(at + o.bytes) for o, at in others}
        for other, at in others:
            if (buffer.name, other.name) in allowed:
                candidates.add((at - allowed[buffer.name, other.name]) // ALIGNMENT * ALIGNMENT)
            if (other.name, buffer.name) in allowed:
                candidates.add(align(at + allowed[other.name, buffer.name]))
        fits = (c for c in sorted(candidates) if c >= 0 and all(_apart(buffer, c, o, at, allowed) for o, at in others))
        placed.append((buffer, next(fits)))
    total = max((at + b.bytes for b, at in placed), default=0)
    steps = sorted({b.first for b in buffers})
    bound = max((max(b.bytes for b in buffers if b.first <= s <= b.last) for s in steps), default=0)
    return Plan({b.name: at for b, at in placed}, align(total, 8), "greedy", bound)


def _apart(a: Buffer, at_a: int, b: Buffer, at_b: int, allowed: dict[tuple[str, str], int]) -> bool:
    if at_a + a.bytes <= at_b or at_b + b.bytes <= at_a:
        return True
    if (a.name, b.name) in allowed and at_b >= at_a + allowed[a.name, b.name]:
        return True
    return (b.name, a.name) in allowed and at_a >= at_b + allowed[b.name, a.name]
