"""Optimal packing of the arena by constraint programming (CP-SAT of OR-tools)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ortools.sat.python import cp_model

from intaglio.codegen.plan import WORD, Buffer, Overlap, Rules, align, arena, conflict, inputs_of

DETERMINISTIC_SECONDS = 20.0
"""Limit in CP-SAT's deterministic time: the same work, not the same seconds, on every machine."""


def solve(buffers: Sequence[Buffer], allowed: Rules, hint: Mapping[str, int]) -> tuple[dict[str, int], bool, int]:
    """Pack buffers optimally; of plans of one size, one with the most outputs in place where that is an option of its
    own (`Overlap.in_place`), since such kernels need one pointer for both.

    Args:
        allowed: the overlaps that kernels allow.
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
    backwards = {name: model.new_bool_var(f"{name} backwards") for name in inputs_of(allowed)}
    in_place: list[cp_model.IntVar] = []
    for i, a in enumerate(buffers):
        for b in buffers[:i]:
            if conflict(a, b):
                rules = [r for r in (allowed.get((a.name, b.name)), allowed.get((b.name, a.name))) if r is not None]
                in_place += _keep_apart(model, a.name, b.name, start, size, rules, backwards)
    weight = len(in_place) + 1
    model.minimize(total * weight - sum(in_place))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = DETERMINISTIC_SECONDS
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return dict(hint), False, 0
    offsets = {b.name: int(solver.value(start[b.name])) * WORD for b in buffers}
    bound = -(-round(solver.best_objective_bound) // weight)
    return offsets, bound == solver.value(total), bound * WORD


def _keep_apart(
    model: cp_model.CpModel,
    a: str,
    b: str,
    start: Mapping[str, cp_model.LinearExprT],
    size: Mapping[str, int],
    rules: Sequence[Overlap],
    backwards: Mapping[str, cp_model.IntVar],
) -> list[cp_model.IntVar]:
    """One of: a before b, b before a, an overlap that the kernel allows in the direction in which it runs; returns
    what says that the two start at one byte, where that is an option of its own."""
    choices, in_place = [], []

    def option(lower: str, upper: str, distance: int) -> cp_model.IntVar:
        chosen = model.new_bool_var("")
        model.add(start[upper] >= start[lower] + distance).only_enforce_if(chosen)
        choices.append(chosen)
        return chosen

    option(a, b, size[a])
    option(b, a, size[b])
    for rule in rules:
        forwards = backwards[rule.output].negated()
        model.add_implication(option(rule.output, rule.input, rule.lead // WORD), forwards)
        if rule.lag is not None:
            model.add_implication(option(rule.input, rule.output, rule.lag // WORD), backwards[rule.output])
        if rule.in_place:
            same = option(rule.output, rule.input, 0)
            model.add(start[rule.output] >= start[rule.input]).only_enforce_if(same)
            model.add_implication(same, forwards)
            in_place.append(same)
    model.add_bool_or(choices)
    return in_place
