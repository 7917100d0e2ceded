"""The memory plan: every plan is valid, the bound is a bound, the solver is deterministic and optimal."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.codegen.plan import (
    WORD,
    Buffer,
    Overlap,
    Plan,
    arena,
    check,
    conflict,
    distances,
    greedy,
    lower_bound,
    make_plan,
    runs_backwards,
)
from intaglio.codegen.solve import solve


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Buffer], list[Overlap]]:
    """A chain of steps with side branches and scratch; some inputs may be overlapped."""
    steps = draw(st.integers(1, 6))
    buffers = [Buffer("t-1", draw(st.integers(1, 200)), -1, 0)]
    overlaps = []
    for step in range(steps):
        last = min(step + draw(st.integers(1, 3)), steps)
        buffers.append(
            Buffer(f"t{step}", draw(st.integers(1, 200)), step, last, alignment=draw(st.sampled_from([4, 8])))
        )
        dying = [b for b in buffers[:-1] if b.last == step and not b.name.startswith("s")]
        lags = st.none() | st.integers(-20, 60)
        overlaps += [
            Overlap(f"t{step}", b.name, draw(st.integers(-20, 60)), draw(lags)) for b in dying if draw(st.booleans())
        ]
        if draw(st.booleans()):
            buffers.append(Buffer(f"s{step}", draw(st.integers(1, 50)), step, step))
    if draw(st.booleans()):
        buffers.append(Buffer("state", draw(st.integers(1, 40)), -1, steps, pinned=0))
    return buffers, overlaps


@settings(max_examples=60, deadline=None)
@given(problems())
def test_plans_are_valid_and_never_below_the_bound(problem: tuple[list[Buffer], list[Overlap]]) -> None:
    buffers, overlaps = problem
    plan = make_plan(buffers, overlaps)
    assert check(buffers, overlaps, plan) == []
    assert all(plan.offsets[b.name] % b.alignment == 0 for b in buffers)
    assert plan.arena_bytes >= lower_bound(buffers, distances(overlaps))
    assert plan.arena_bytes <= arena(buffers, greedy(buffers, distances(overlaps)))
    assert plan == make_plan(buffers, overlaps)


def exhaustive(buffers: list[Buffer], overlaps: list[Overlap], ceiling: int) -> int:
    """The smallest arena by trying every offset."""
    best = ceiling
    for offsets in itertools.product(range(0, ceiling, WORD), repeat=len(buffers)):
        at = {b.name: o for b, o in zip(buffers, offsets, strict=True)}
        size = arena(buffers, at)
        if size < best and not check(buffers, overlaps, Plan(at, size, "", 0)):
            best = size
    return best


def test_solver_equals_exhaustive_search() -> None:
    buffers = [
        Buffer("a", 12, -1, 1),
        Buffer("b", 16, 0, 2),
        Buffer("c", 8, 1, 3),
        Buffer("d", 20, 2, 3),
    ]
    overlaps = [Overlap("c", "a", 4), Overlap("d", "b", 8)]
    expected = exhaustive(buffers, overlaps, 64)
    found, proven, _ = solve(buffers, distances(overlaps), greedy(buffers, distances(overlaps)))
    assert proven
    assert arena(buffers, found) == expected


def test_overlap_saves_what_the_kernel_allows() -> None:
    buffers = [Buffer("x", 1000, -1, 0), Buffer("y", 1000, 0, 1)]
    assert make_plan(buffers, []).arena_bytes == 2000
    assert make_plan(buffers, [Overlap("y", "x", 64)]).arena_bytes == 1064
    assert make_plan(buffers, [Overlap("y", "x", 0)]).arena_bytes == 1000


@pytest.mark.parametrize(("first", "last", "expected"), [(0, 1, True), (2, 3, False)])
def test_conflict(first: int, last: int, expected: bool) -> None:
    assert conflict(Buffer("a", 4, 0, 1), Buffer("b", 4, first, last)) is expected


def test_running_backwards_undoes_a_drift() -> None:
    """Three layers in place: the middle one may move up again what the others move down."""
    buffers = [Buffer(f"t{i}", 1000, i - 1, i) for i in range(4)]
    down = [Overlap("t1", "t0", 64), Overlap("t2", "t1", 0), Overlap("t3", "t2", 64)]
    assert make_plan(buffers, down).arena_bytes == 1128
    both = [down[0], Overlap("t2", "t1", 0, 0), down[2]]
    plan = make_plan(buffers, both)
    assert plan.arena_bytes == 1064
    assert check(buffers, both, plan) == []
    assert runs_backwards(buffers[2], [(buffers[1], both[1])], plan.offsets)
    assert not runs_backwards(buffers[1], [(buffers[0], both[0])], plan.offsets)
