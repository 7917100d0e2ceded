"""Modelled cycles: executed instructions priced by the core's published timing table, at zero wait states.

These are estimates, never mixed with the counted instructions. The tables are those of Arm's Technical Reference
Manuals (`TIMINGS` cites the section of each figure). What they leave open is fixed so:

- of a range, the upper end: 12 for a division, 5 for SMULL and 7 for SMLAL on the M3, 2 for MRS and MSR;
- a pipeline refill P, 1 to 3 on the M3 and M4, is 2 (what DDI 0337E, table 18-1, adds for a branch taken);
- the multiplier of the M0 and M0+, 1 or 32 cycles, is the single-cycle option;
- an IT instruction, which may fold into the one before it, costs 1, and a load from the literal pool no more than
  another one, though it may contend with the fetch;
- a predicated instruction that is skipped costs what it costs executed.

Arm publishes no table for the M7, M33 and M55: they get the M4's as a stand-in, and the result says so.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from intaglio.boards.cores import CORES, Core
from intaglio.host.elfscan import disassemble
from intaglio.host.tcgcount import Block, Counts
from intaglio.quantizer.errors import ToolError


@dataclass(frozen=True)
class Timing:
    """Cycles by kind of instruction; the defaults are those of the Cortex-M0.

    Attributes:
        source: the document, table and sections that the numbers are from.
        stand_in: the table is another core's, for want of one.
        load: LDR and its narrow forms; store: STR with a register offset; store_imm: without one.
        overlap: a load or store directly after a load that its address does not depend on costs one cycle less.
        address_stall: cycles more for a load or store whose address is the result of the data-processing
            instruction directly before it.
        multiple: LDM, STM, PUSH, POP, LDRD and STRD, beyond one per register; pop_pc: the same when PC is loaded.
        taken, jump, call: a conditional branch taken (1 when not), `B`, `BL`.
        indirect: `BX`, `BLX` and data processing that writes PC; table: `TBB` and `TBH`.
        refill: what loading PC by LDR takes beyond the load.
        mul, mla, mull, mlal, div: 32-bit multiply, accumulate, 64-bit, 64-bit accumulate, divide.
        special, isb, barrier: `MRS` and `MSR`; `ISB`; `DMB` and `DSB`.
        vector: one MVE instruction.
    """

    source: str
    stand_in: bool = False
    load: int = 2
    store: int = 2
    store_imm: int = 2
    overlap: bool = False
    address_stall: int = 0
    multiple: int = 1
    pop_pc: int = 4
    taken: int = 3
    jump: int = 3
    call: int = 4
    indirect: int = 3
    table: int = 4
    refill: int = 2
    mul: int = 1
    mla: int = 1
    mull: int = 1
    mlal: int = 1
    div: int = 12
    special: int = 4
    isb: int = 4
    barrier: int = 4
    vector: int = 2


# DDI 0432C, section 3.3, table 3-1: LDR and STR 2; LDM, STM, PUSH and POP 1 + N, POP with PC 4 + N; B<cc> 1 or 3, B 3,
# BL 4, BX and BLX 3, MOV and ADD to PC 3; MULS 1 or 32; MRS, MSR, ISB, DMB and DSB 4; the rest 1.
_M0 = Timing("Cortex-M0 TRM (DDI 0432C), section 3.3, table 3-1")

# DDI 0484C, section 3.3, table 3-1: LDR and STR 2 (1 on the single-cycle I/O port); LDM, STM, PUSH and POP 1 + N, POP
# with PC 3 + N; B<cc> 1 or 2, B 2, BL 3, BX and BLX 2, MOV and ADD to PC 2; MULS 1 or 32; MRS, MSR and barriers 3.
_M0PLUS = replace(
    _M0,
    source="Cortex-M0+ TRM (DDI 0484C), section 3.3, table 3-1",
    pop_pc=3,
    taken=2,
    jump=2,
    call=3,
    indirect=2,
    special=3,
    isb=3,
    barrier=3,
)

# DDI 0439D, section 3.3.1, table 3-1: LDR and STR 2; LDM, STM, LDRD, STRD, PUSH and POP 1 + N, with PC 1 + N + P, LDR
# to PC 2 + P; B<cc> and CBZ 1 or 1 + P, B, BL, BX, BLX and MOV to PC 1 + P, TBB 2 + P; MUL, MLA, SMULL, SMLAL 1, SDIV
# 2 to 12; MRS and MSR 1 or 2, ISB 1 + P at least, DMB and DSB 1 at least. Table 3-2: every DSP instruction 1.
# Section 3.3.2: a store without a register offset is 1, a load or store pipelined after a load is one less, and an
# address from the data-processing instruction before it stalls by 1.
_M4 = replace(
    _M0,
    source="Cortex-M4 TRM (DDI 0439D), section 3.3.1, tables 3-1 and 3-2, and section 3.3.2",
    store_imm=1,
    overlap=True,
    address_stall=1,
    pop_pc=3,
    call=3,
    special=2,
    isb=3,
    barrier=1,
)

# DDI 0337I, section 3.3.1, table 3-1, and section 3.3.2: as on the M4, but MLA 2, SMULL 3 to 5, SMLAL 4 to 7.
_M3 = replace(
    _M4,
    source="Cortex-M3 TRM (DDI 0337I), section 3.3.1, table 3-1, and section 3.3.2",
    mla=2,
    mull=5,
    mlal=7,
)


def _stand_in(core: str) -> Timing:
    return replace(_M4, source=f"no public table for {core}; stand-in: {_M4.source}", stand_in=True)


TIMINGS: dict[str, Timing] = {
    "cortex-m0": _M0,
    "cortex-m0plus": _M0PLUS,
    "cortex-m3": _M3,
    "cortex-m4": _M4,
    **{name: _stand_in(name) for name in ("cortex-m7", "cortex-m33", "cortex-m55")},
}

_CONDITION = r"(?:eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al)"
_BRANCH = re.compile(rf"b({_CONDITION})?\Z")
_SINGLE = re.compile(rf"(ldr|str)(?:s?[bht])?(?:ex)?(?:{_CONDITION})?\Z")
_DOUBLE = re.compile(rf"(?:ldrd|strd)(?:{_CONDITION})?\Z")
_MULTIPLE = re.compile(rf"(ldm|stm|push|pop|vldm|vstm|vpush|vpop)(?:ia|db)?(?:{_CONDITION})?\Z")
_LONG = re.compile(rf"[su]mull(?:{_CONDITION})?\Z")
_LONG_ADD = re.compile(rf"[su]mlal(?:[bt][bt]|dx?)?(?:{_CONDITION})?\Z|umaal")
_MLA = re.compile(rf"ml[as](?:{_CONDITION})?\Z")
_MUL = re.compile(rf"muls?(?:{_CONDITION})?\Z")
_DIV = re.compile(rf"[su]div(?:{_CONDITION})?\Z")
_REGISTER = re.compile(r"\b(?:r\d+|sl|fp|ip|sp|lr|pc)\b")
_NAMES = {"sl": "r10", "fp": "r11", "ip": "r12", "sp": "r13", "lr": "r14", "pc": "r15"}


_COMPARES = re.compile(rf"(?:cmp|cmn|tst|teq)(?:{_CONDITION})?\Z|it[te]*\Z|nop")


@dataclass(frozen=True)
class Instruction:
    """A disassembled instruction with what its timing depends on.

    Attributes:
        kind: `alu`, `load`, `store`, `multiple`, `branch`, `jump`, `call`, `indirect`, `table`, `mul`, `mla`, `mull`,
            `mlal`, `div`, `special`, `isb`, `barrier` or `vector`.
        registers: how many a multiple transfer moves.
        writes: the registers that a load or a data-processing instruction writes.
        address: the registers of a load's or store's address.
        offset_register: the address has a register offset.
        to_pc: it loads the program counter.
    """

    kind: str
    registers: int = 0
    writes: frozenset[str] = frozenset()
    address: frozenset[str] = frozenset()
    offset_register: bool = False
    to_pc: bool = False

    @property
    def computes(self) -> bool:
        """It is a data-processing instruction."""
        return self.kind in ("alu", "mul", "mla", "mull", "mlal", "div")


def classify(mnemonic: str, operands: str) -> Instruction:
    """What kind of instruction a line of objdump is, for its timing."""
    name = mnemonic.removesuffix(".n").removesuffix(".w")
    registers = [_NAMES.get(found, found) for found in _REGISTER.findall(operands.split("<")[0])]
    if branch := _BRANCH.match(name):
        return Instruction("branch" if branch[1] else "jump")
    if name in ("cbz", "cbnz"):
        return Instruction("branch")
    if re.match(rf"bl(?:{_CONDITION})?\Z", name):
        return Instruction("call")
    if re.match(rf"(?:bx|blx)(?:{_CONDITION})?\Z", name):
        return Instruction("indirect")
    if name in ("tbb", "tbh"):
        return Instruction("table")
    if _DOUBLE.match(name):
        return Instruction("multiple", 2, address=frozenset(registers[2:]))
    if single := _SINGLE.match(name):
        inside = operands.split("[")[-1].split("]")[0]
        by_register = len(_REGISTER.findall(inside)) > 1
        address = frozenset(registers[1:])
        if single[1] == "str":
            return Instruction("store", 1, address=address, offset_register=by_register)
        return Instruction("load", 1, frozenset(registers[:1]), address, by_register, registers[:1] == ["r15"])
    if _MULTIPLE.match(name):
        listed = operands[operands.find("{") + 1 : operands.find("}")]
        base = ["r13"] if name.lstrip("v").startswith(("push", "pop")) else registers[:1]
        to_pc = "pc" in listed and name.startswith(("pop", "ldm"))
        return Instruction("multiple", _count(listed), address=frozenset(base), to_pc=to_pc)
    if name.startswith("v"):
        return Instruction("vector")
    for kind, pattern in (("mull", _LONG), ("mlal", _LONG_ADD)):
        if pattern.match(name):
            return Instruction(kind, writes=frozenset(registers[:2]))
    for kind, pattern in (("mla", _MLA), ("mul", _MUL), ("div", _DIV)):
        if pattern.match(name):
            return Instruction(kind, writes=frozenset(registers[:1]))
    if name in ("mrs", "msr"):
        return Instruction("special")
    if name in ("dsb", "dmb", "isb"):
        return Instruction("isb" if name == "isb" else "barrier")
    if name.startswith(("mov", "add")) and registers[:1] == ["r15"]:
        return Instruction("indirect")
    return Instruction("alu", writes=frozenset() if _COMPARES.match(name) else frozenset(registers[:1]))


def _count(listed: str) -> int:
    """Registers in a list such as `r4, r5, r8-r11, lr`."""
    total = 0
    for part in listed.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if last:
            numbers = [int(re.sub(r"\D", "", _NAMES.get(end, end))) for end in (first, last)]
            total += numbers[1] - numbers[0] + 1
        else:
            total += 1
    return total


def price(code: Instruction, before: Instruction | None, timing: Timing) -> int:
    """Cycles of one instruction, branches not taken; `before` is what executed directly before it."""
    if code.kind in ("alu", "branch"):
        return 1
    stall = timing.address_stall if before is not None and before.computes and before.writes & code.address else 0
    if code.kind == "multiple":
        return stall + code.registers + (timing.pop_pc if code.to_pc else timing.multiple)
    if code.kind in ("load", "store"):
        if code.kind == "load":
            cycles = timing.load
        else:
            cycles = timing.store if code.offset_register else timing.store_imm
        follows = before is not None and before.kind == "load" and not before.writes & code.address
        if timing.overlap and follows and not code.to_pc:
            cycles = max(1, cycles - 1)
        return stall + cycles + (timing.refill if code.to_pc else 0)
    return int(getattr(timing, code.kind))


@dataclass(frozen=True)
class Estimate:
    """Modelled cycles of one call of `invoke`.

    Attributes:
        cycles: in all.
        layers: per layer index (`tcgcount.REST`: after the last boundary).
        histogram: instructions executed by kind.
        source: where the timings are from.
        stand_in: they are another core's.
    """

    cycles: int
    layers: dict[int, int]
    histogram: dict[str, int]
    source: str
    stand_in: bool


def estimate(elf: bytes, counts: Sequence[Counts], core: Core) -> list[Estimate]:
    """Price the executed blocks of an image, one estimate per counted call.

    Args:
        elf: the image that was counted (`CoreResult.elf` with `.counts`, or the two of the marked build).

    Raises:
        ToolError: no objdump, or an instruction was executed that the image does not hold.
    """
    timing = TIMINGS[core.name]
    code = _program(elf, core.name)
    results = []
    for call in counts:
        histogram: Counter[str] = Counter()
        layers = {
            layer: sum(_block_cycles(block, code, timing, histogram) for block in blocks)
            for layer, blocks in call.layers.items()
        }
        total = sum(layers.values())
        results.append(Estimate(total, layers, dict(histogram), timing.source, timing.stand_in))
    return results


def _block_cycles(
    block: Block, code: dict[int, tuple[Instruction, int]], timing: Timing, histogram: Counter[str]
) -> int:
    once = 0
    pc = block.pc
    before: Instruction | None = None
    for _ in range(block.instructions):
        if pc not in code:
            raise ToolError(f"{pc:#x}", "was executed but is not in the image", "report the model")
        instruction, size = code[pc]
        once += price(instruction, before, timing)
        histogram[instruction.kind] += block.runs
        before = instruction
        pc += size
    extra = timing.taken - 1 if before is not None and before.kind == "branch" else 0
    return once * block.runs + extra * block.taken


@lru_cache(maxsize=4)
def _program(elf: bytes, core: str) -> dict[int, tuple[Instruction, int]]:
    with tempfile.NamedTemporaryFile(suffix=".elf") as file:
        file.write(elf)
        file.flush()
        lines = disassemble(Path(file.name), CORES[core])
    return {line.address: (classify(line.mnemonic, line.operands), line.size) for line in lines}
