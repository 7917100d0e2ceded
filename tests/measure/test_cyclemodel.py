"""Cycles against sums done by hand from the manuals' tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import samples, write_tiny

from intaglio.boards.cores import CORES
from intaglio.host.cyclemodel import TIMINGS, classify, estimate, price
from intaglio.host.simcore import run_on_core


@pytest.mark.parametrize(
    ("line", "m0", "m0plus", "m3", "m4"),
    [
        ("adds r0, r1", 1, 1, 1, 1),
        ("muls r0, r1", 1, 1, 1, 1),
        ("ldr r0, [r1, #4]", 2, 2, 2, 2),
        ("ldrsb r0, [r1, r2]", 2, 2, 2, 2),
        ("str r0, [r1, #4]", 2, 2, 1, 1),
        ("strb r0, [r1, r2]", 2, 2, 2, 2),
        ("push {r4, r5, r6, lr}", 5, 5, 5, 5),
        ("pop {r4, r5, r6, pc}", 8, 7, 7, 7),
        ("ldmia r0!, {r1, r2, r3}", 4, 4, 4, 4),
        ("bl 100 <f>", 4, 3, 3, 3),
        ("bx lr", 3, 2, 3, 3),
        ("b.n 100 <f>", 3, 2, 3, 3),
        ("bne.n 100 <f>", 1, 1, 1, 1),
        ("mov pc, r1", 3, 2, 3, 3),
        ("mrs r0, PRIMASK", 4, 3, 2, 2),
    ],
)
def test_prices_are_those_of_the_tables(line: str, m0: int, m0plus: int, m3: int, m4: int) -> None:
    code = classify(*line.split(" ", 1))
    cores = ("cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4")
    assert [price(code, None, TIMINGS[core]) for core in cores] == [m0, m0plus, m3, m4]


@pytest.mark.parametrize(
    ("line", "m3", "m4"),
    [
        ("mla r0, r1, r2, r3", 2, 1),
        ("smull r0, r1, r2, r3", 5, 1),
        ("smlal r0, r1, r2, r3", 7, 1),
        ("smlald r0, r1, r2, r3", 7, 1),
        ("udiv r0, r1, r2", 12, 12),
        ("ldrd r0, r1, [r2]", 3, 3),
        ("ldmia.w sp!, {r4, r5, r8-r11, lr}", 8, 8),
        ("smlad r0, r1, r2, r3", 1, 1),
        ("movw r0, #4660", 1, 1),
        ("bics r0, r1", 1, 1),
        ("ldr pc, [r0, #4]", 4, 4),
    ],
)
def test_prices_of_armv7m_are_those_of_the_tables(line: str, m3: int, m4: int) -> None:
    code = classify(*line.split(" ", 1))
    assert [price(code, None, TIMINGS[core]) for core in ("cortex-m3", "cortex-m4")] == [m3, m4]


def test_a_load_overlaps_the_load_before_it_unless_it_needs_it() -> None:
    timing = TIMINGS["cortex-m4"]
    first = classify("ldr", "r0, [r1, #4]")
    assert price(classify("ldr", "r2, [r1, #8]"), first, timing) == 1
    assert price(classify("ldr", "r2, [r0, #8]"), first, timing) == 2
    assert price(classify("strb", "r2, [r3, r4]"), first, timing) == 1
    assert price(classify("ldr", "r2, [r1, #8]"), first, TIMINGS["cortex-m0"]) == 2


_LOOP = """\
void loop(uint32_t turns);
__asm__(".text\\n.syntax unified\\n.thumb\\n.thumb_func\\n.type loop, %function\\n"
        "loop:\\n movs r1, #0\\n"
        "1: muls r2, r0, r2\\n ldr r3, [sp]\\n adds r1, r1, #1\\n cmp r1, r0\\n bne 1b\\n"
        " bx lr\\n.size loop, . - loop\\n");
"""


@pytest.mark.parametrize(
    ("core", "turn"),
    [
        ("cortex-m0", 1 + 2 + 1 + 1 + 3),
        ("cortex-m0plus", 1 + 2 + 1 + 1 + 2),
        ("cortex-m3", 1 + 2 + 1 + 1 + 3),
        ("cortex-m4", 1 + 2 + 1 + 1 + 3),
    ],
)
def test_a_loop_costs_its_turns(tmp_path: Path, core: str, turn: int) -> None:
    def cycles(turns: int) -> int:
        library = write_tiny(tmp_path / str(turns), helpers=_LOOP, extra=f"loop({turns}u);")
        result = run_on_core(library, CORES[core], [[samples(1)[0]]])
        return estimate(result.elf, result.counts, CORES[core])[0].cycles

    assert cycles(90) - cycles(40) == 50 * turn


@pytest.mark.parametrize("core", sorted(CORES))
def test_every_executed_instruction_is_priced(tmp_path: Path, core: str) -> None:
    result = run_on_core(write_tiny(tmp_path), CORES[core], [[x] for x in samples(2)])
    estimates = estimate(result.elf, result.counts, CORES[core])
    assert [sum(e.histogram.values()) for e in estimates] == result.instructions
    assert all(e.cycles > n for e, n in zip(estimates, result.instructions, strict=True))
    layered = estimate(result.layer_elf, result.layer_counts, CORES[core])
    assert set(layered[0].layers) == {0, 1, -1}
    assert estimates[0].stand_in == (core in ("cortex-m7", "cortex-m33", "cortex-m55"))
