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
    align,
    arena,
    check,
    conflict,
    greedy,
    lower_bound,
    make_plan,
    rules,
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
            Overlap(f"t{step}", b.name, draw(st.integers(-20, 60)), draw(lags), draw(st.booleans()))
            for b in dying
            for _ in range(draw(st.integers(0, 2)))
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
    assert plan.arena_bytes >= lower_bound(buffers, rules(overlaps))
    assert plan.arena_bytes <= arena(buffers, greedy(buffers, rules(overlaps)))
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
    found, proven, _ = solve(buffers, rules(overlaps), greedy(buffers, rules(overlaps)))
    assert proven
    assert arena(buffers, found) == expected


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_plan_of_one_kernel_equals_exhaustive_search(data: st.DataObject) -> None:
    """Two inputs, one output, any freedom over either: one direction has to suit both."""
    sizes = [4 * data.draw(st.integers(1, 4)) for _ in range(3)]
    buffers = [Buffer(n, size, -1, 0) for n, size in zip("ab", sizes, strict=False)] + [Buffer("y", sizes[2], 0, 1)]
    distances = st.sampled_from([-8, -4, 0, 4, 8, 12])
    overlaps = [
        Overlap("y", n, data.draw(distances), data.draw(st.none() | distances), data.draw(st.booleans())) for n in "ab"
    ]
    plan = make_plan(buffers, overlaps)
    assert check(buffers, overlaps, plan) == []
    assert plan.arena_bytes == align(exhaustive(buffers, overlaps, sum(sizes) + WORD), 8)
    assert plan.solver == "optimal"


def test_an_output_over_two_inputs_needs_one_direction_for_both() -> None:
    """Forwards over b, backwards over a: each pair is allowed, both together are not."""
    buffers = [Buffer("a", 16, -1, 0), Buffer("b", 16, -1, 0), Buffer("y", 16, 0, 1)]
    overlaps = [Overlap("y", "a", 16, 8), Overlap("y", "b", 8)]
    assert check(buffers, overlaps, Plan({"a": 0, "b": 16, "y": 8}, 32, "", 0)) == ["y and a and b"]
    assert check(buffers, overlaps, Plan({"a": 24, "b": 8, "y": 0}, 40, "", 0)) == []


def test_an_input_read_in_two_ways_has_to_allow_both() -> None:
    both = rules([Overlap("y", "x", 8, 4), Overlap("y", "x", 15, 21, in_place=True)])
    assert both == {("y", "x"): Overlap("y", "x", 16, 24)}
    assert rules([Overlap("y", "x", 0), Overlap("y", "x", 15, 21, in_place=True)])["y", "x"].in_place


def test_in_place_though_the_lead_is_more() -> None:
    buffers = [Buffer("x", 100, -1, 0), Buffer("r", 200, -1, 0), Buffer("y", 200, 0, 1)]
    plan = make_plan(buffers, [Overlap("y", "x", 64, 64), Overlap("y", "r", 96, 96, in_place=True)])
    assert plan.arena_bytes == 304
    assert plan.offsets["y"] == plan.offsets["r"]


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
