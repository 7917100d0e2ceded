"""Optimal packing of the arena by constraint programming (CP-SAT of OR-tools)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ortools.sat.python import cp_model

from intaglio.codegen.plan import WORD, Buffer, Leads, align, arena, conflict

DETERMINISTIC_SECONDS = 20.0
"""Limit in CP-SAT's deterministic time: the same work, not the same seconds, on every machine."""


def solve(buffers: Sequence[Buffer], leads: Leads, hint: Mapping[str, int]) -> tuple[dict[str, int], bool, int]:
    """Pack buffers optimally.

    Args:
        leads: of the overlaps that kernels allow.
        hint: a plan to start from; its arena is the upper bound.

    Returns:
        Offsets in bytes, whether they are proven optimal, and the proven lower bound in bytes.
    """
    model = cp_model.CpModel()
    ceiling = arena(buffers, hint) // WORD
    size = {b.name: align(b.bytes) // WORD for b in buffers}
    start = {}
    total = model.new_int_var(0, ceiling, "total")
    for b in buffers:
        unit = b.alignment // WORD
        step = model.new_int_var(0, max((ceiling - size[b.name]) // unit, 0), b.name)
        start[b.name] = step * unit
        model.add(start[b.name] + size[b.name] <= total)
        if b.pinned is not None:
            model.add(start[b.name] == b.pinned // WORD)
        model.add_hint(step, hint[b.name] // b.alignment)
    for i, a in enumerate(buffers):
        for b in buffers[:i]:
            if conflict(a, b):
                _keep_apart(model, a.name, b.name, start, size, leads)
    model.minimize(total)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = DETERMINISTIC_SECONDS
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return dict(hint), False, 0
    offsets = {b.name: int(solver.value(start[b.name])) * WORD for b in buffers}
    return offsets, status == cp_model.OPTIMAL, int(solver.best_objective_bound) * WORD


def _keep_apart(
    model: cp_model.CpModel,
    a: str,
    b: str,
    start: Mapping[str, cp_model.LinearExprT],
    size: Mapping[str, int],
    leads: Leads,
) -> None:
    """One of: a before b, b before a, an overlap that the kernel allows."""
    choices = []

    def option(lower: str, upper: str, distance: int) -> None:
        chosen = model.new_bool_var("")
        model.add(start[upper] >= start[lower] + distance).only_enforce_if(chosen)
        choices.append(chosen)

    option(a, b, size[a])
    option(b, a, size[b])
    for first, second in ((a, b), (b, a)):
        if (first, second) in leads:
            option(first, second, leads[first, second] // WORD)
    model.add_bool_or(choices)
