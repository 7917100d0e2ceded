"""Cycles against sums done by hand from the manuals' tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import samples, write_tiny

from intaglio.boards.cores import CORES
from intaglio.host.cyclemodel import TIMINGS, classify, estimate, price
from intaglio.host.simcore import run_on_core

P = 2
"""What the model takes for a pipeline refill, 1 to 3 in the tables of the M3 and M4."""


@pytest.mark.parametrize(
    ("line", "m0", "m0plus", "m3", "m4"),
    [
        ("movs r0, #1", 1, 1, 1, 1),
        ("adds r0, r1", 1, 1, 1, 1),
        ("lsls r0, r1, #3", 1, 1, 1, 1),
        ("cmp r0, r1", 1, 1, 1, 1),
        ("sxtb r0, r1", 1, 1, 1, 1),
        ("rev r0, r1", 1, 1, 1, 1),
        ("nop", 1, 1, 1, 1),
        # 1 or 32 on the M0 and M0+: the single-cycle multiplier
        ("muls r0, r1", 1, 1, 1, 1),
        ("ldr r0, [r1, #4]", 2, 2, 2, 2),
        ("ldrh r0, [r1, #4]", 2, 2, 2, 2),
        ("ldrsb r0, [r1, r2]", 2, 2, 2, 2),
        ("ldr r0, [pc, #8]", 2, 2, 2, 2),
        ("str r0, [r1, #4]", 2, 2, 1, 1),
        ("str r0, [sp, #4]", 2, 2, 1, 1),
        ("strb r0, [r1, r2]", 2, 2, 2, 2),
        ("ldmia r0!, {r1, r2, r3}", 1 + 3, 1 + 3, 1 + 3, 1 + 3),
        ("stmia r0!, {r1, r2}", 1 + 2, 1 + 2, 1 + 2, 1 + 2),
        ("push {r4, r5, r6, lr}", 1 + 4, 1 + 4, 1 + 4, 1 + 4),
        ("pop {r4, r5, r6}", 1 + 3, 1 + 3, 1 + 3, 1 + 3),
        ("pop {r4, r5, r6, pc}", 4 + 4, 3 + 4, 1 + 4 + P, 1 + 4 + P),
        ("b.n 100 <f>", 3, 2, 1 + P, 1 + P),
        ("bne.n 100 <f>", 1, 1, 1, 1),
        ("bl 100 <f>", 4, 3, 1 + P, 1 + P),
        ("bx lr", 3, 2, 1 + P, 1 + P),
        ("blx r3", 3, 2, 1 + P, 1 + P),
        ("mov pc, r1", 3, 2, 1 + P, 1 + P),
        ("add pc, r1", 3, 2, 1 + P, 1 + P),
        ("mrs r0, PRIMASK", 4, 3, 2, 2),
        ("msr PRIMASK, r0", 4, 3, 2, 2),
        ("isb sy", 4, 3, 1 + P, 1 + P),
        ("dmb sy", 4, 3, 1, 1),
        ("dsb sy", 4, 3, 1, 1),
    ],
)
def test_prices_are_those_of_the_tables(line: str, m0: int, m0plus: int, m3: int, m4: int) -> None:
    code = classify(*line.partition(" ")[::2])
    cores = ("cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4")
    assert [price(code, None, TIMINGS[core]) for core in cores] == [m0, m0plus, m3, m4]


@pytest.mark.parametrize(
    ("line", "m3", "m4"),
    [
        ("mul.w r0, r1, r2", 1, 1),
        ("mla r0, r1, r2, r3", 2, 1),
        ("mls r0, r1, r2, r3", 2, 1),
        # of the M3's ranges 3 to 5 and 4 to 7, and of 2 to 12 on both, the upper end
        ("smull r0, r1, r2, r3", 5, 1),
        ("umull r0, r1, r2, r3", 5, 1),
        ("smlal r0, r1, r2, r3", 7, 1),
        ("umlal r0, r1, r2, r3", 7, 1),
        ("sdiv r0, r1, r2", 12, 12),
        ("udiv r0, r1, r2", 12, 12),
        ("ssat r0, #8, r1", 1, 1),
        ("ubfx r0, r1, #8, #8", 1, 1),
        ("movw r0, #4660", 1, 1),
        ("bics r0, r1", 1, 1),
        ("ite eq", 1, 1),
        ("cbz r0, 100 <f>", 1, 1),
        ("ldrd r0, r1, [r2]", 1 + 2, 1 + 2),
        ("strd r0, r1, [r2, #8]", 1 + 2, 1 + 2),
        ("ldmia.w sp!, {r4, r5, r8-r11, lr}", 1 + 7, 1 + 7),
        ("ldmia.w sp!, {r4, r5, r8-r11, pc}", 1 + 7 + P, 1 + 7 + P),
        ("stmdb sp!, {r4-r9, lr}", 1 + 7, 1 + 7),
        ("ldr.w pc, [r0, #4]", 2 + P, 2 + P),
        ("tbb [pc, r0]", 2 + P, 2 + P),
        ("tbh [pc, r0, lsl #1]", 2 + P, 2 + P),
        ("bxne lr", 1 + P, 1 + P),
        ("blne 100 <f>", 1 + P, 1 + P),
    ],
)
def test_prices_of_armv7m_are_those_of_the_tables(line: str, m3: int, m4: int) -> None:
    code = classify(*line.split(" ", 1))
    assert [price(code, None, TIMINGS[core]) for core in ("cortex-m3", "cortex-m4")] == [m3, m4]


@pytest.mark.parametrize(
    "line",
    [
        "smlad r0, r1, r2, r3",
        "smlald r0, r1, r2, r3",
        "smlabb r0, r1, r2, r3",
        "smlalbt r0, r1, r2, r3",
        "smmulr r0, r1, r2",
        "umaal r0, r1, r2, r3",
        "sxtb16 r0, r1, ror #8",
        "pkhbt r0, r1, r2, lsl #16",
        "qadd r0, r1, r2",
        "sadd16 r0, r1, r2",
        "usad8 r0, r1, r2",
    ],
)
def test_every_dsp_instruction_takes_one_cycle_on_the_m4(line: str) -> None:
    assert price(classify(*line.split(" ", 1)), None, TIMINGS["cortex-m4"]) == 1


def sequence(core: str, *lines: str) -> int:
    """Cycles of instructions one after the other."""
    codes = [classify(*line.split(" ", 1)) for line in lines]
    return sum(price(code, before, TIMINGS[core]) for before, code in zip([None, *codes], codes, strict=False))


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4"])
def test_loads_overlap_as_the_manuals_say(core: str) -> None:
    """The examples of section 3.3.2 with the totals that stand beside them, and two that may not overlap."""
    assert sequence(core, "ldr r0, [r1]", "ldr r1, [r2]") == 3
    assert sequence(core, "ldr r0, [r1, r2]", "str r0, [r3, #20]") == 3
    assert sequence(core, "ldr r0, [r1, r2]", "str r1, [r3, r2]") == 3
    assert sequence(core, "ldr r0, [r1, r5]", "ldr r1, [r2]", "ldr r2, [r3, #4]") == 4
    assert sequence(core, "ldr r0, [r1]", "ldr r2, [r0]") == 4
    assert sequence(core, "str r0, [r1, r2]", "ldr r3, [r4]") == 4


@pytest.mark.parametrize(
    ("lines", "cycles"),
    [
        (("adds r1, #4", "ldr r0, [r1]"), 1 + 3),
        (("mul r1, r2, r3", "ldr r0, [r4, r1]"), 1 + 3),
        (("smull r1, r2, r3, r4", "str r0, [r2]"), 1 + 2),
        (("sub sp, #8", "push {r4, lr}"), 1 + 4),
        (("adds r1, #4", "ldrd r2, r3, [r1]"), 1 + 4),
        # the result is stored, not the address; a comparison has no result; there is something in between
        (("adds r0, #4", "str r0, [r1]"), 1 + 1),
        (("cmp r1, #4", "ldr r0, [r1]"), 1 + 2),
        (("adds r1, #4", "movs r2, #0", "ldr r0, [r1]"), 1 + 1 + 2),
    ],
)
def test_an_address_computed_just_before_stalls(lines: tuple[str, ...], cycles: int) -> None:
    assert sequence("cortex-m4", *lines) == cycles


def test_the_small_cores_neither_overlap_nor_stall() -> None:
    for core in ("cortex-m0", "cortex-m0plus"):
        assert sequence(core, "ldr r0, [r1]", "ldr r1, [r2]") == 4
        assert sequence(core, "adds r1, #4", "ldr r0, [r1]") == 3


def test_every_table_names_its_section() -> None:
    for core, timing in TIMINGS.items():
        assert "section 3.3" in timing.source and "table" in timing.source
        assert timing.stand_in == (core in ("cortex-m7", "cortex-m33", "cortex-m55"))


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
