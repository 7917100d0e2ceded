"""Modelled cycles: executed instructions priced by the core's published timing table, at zero wait states.

These are estimates, never mixed with the counted instructions. What the tables leave open is fixed so:
of a range, the upper end (long multiplication, division); a pipeline refill P, 1 to 3 on the M3 and M4, is 2
(what DDI 0337E, table 18-1, adds for a branch taken); the multiplier of the M0 and M0+ is the single-cycle
option; a predicated instruction that is skipped costs what it costs executed.

Arm publishes no table for the M7, M33 and M55: they get the M4's as a stand-in, and the result says so.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from intaglio.boards.cores import CORES, Core
from intaglio.host.elfscan import disassemble
from intaglio.host.tcgcount import Block, Counts
from intaglio.quantizer.errors import ToolError


@dataclass(frozen=True)
class Timing:
    """Cycles by kind of instruction.

    Attributes:
        source: the document and table that the numbers are from.
        stand_in: the table is another core's, for want of one.
        load, store: single transfers; `store_imm` for an address without a register offset.
        overlap: a load or store directly after a load that it does not depend on costs one cycle less.
        multiple, push, pop_pc: cycles beyond one per register.
        taken, jump, call, indirect: a conditional branch taken, `B`, `BL`, `BX` and writes to PC.
        mul, mla, mull, mlal, div: 32-bit multiply, accumulate, 64-bit, 64-bit accumulate, divide.
        system: MRS, MSR and barriers.
        vector: one MVE instruction.
    """

    source: str
    stand_in: bool = False
    load: int = 2
    store: int = 2
    store_imm: int = 2
    overlap: bool = False
    multiple: int = 1
    pop_pc: int = 4
    taken: int = 3
    jump: int = 3
    call: int = 4
    indirect: int = 3
    mul: int = 1
    mla: int = 1
    mull: int = 1
    mlal: int = 1
    div: int = 1
    system: int = 4
    vector: int = 2


_M4 = "Cortex-M4 TRM (DDI 0439), table 3-1 and section 3.3.2"
_ARMV7M = {
    "store_imm": 1,
    "overlap": True,
    "pop_pc": 3,
    "taken": 3,
    "jump": 3,
    "call": 3,
    "indirect": 3,
    "div": 12,
    "system": 2,
}


def _stand_in(core: str) -> Timing:
    return Timing(f"no public table for {core}; stand-in: {_M4}", stand_in=True, **_ARMV7M)  # type: ignore[arg-type]


TIMINGS: dict[str, Timing] = {
    "cortex-m0": Timing("Cortex-M0 TRM (DDI 0432), table 3-1"),
    "cortex-m0plus": Timing(
        "Cortex-M0+ TRM (DDI 0484), table 3-1", pop_pc=3, taken=2, jump=2, call=3, indirect=2, system=3
    ),
    "cortex-m3": Timing(
        "Cortex-M3 TRM (DDI 0337), table 3-1 and section 3.3.2",
        mla=2,
        mull=5,
        mlal=7,
        **_ARMV7M,  # type: ignore[arg-type]
    ),
    "cortex-m4": Timing(_M4, **_ARMV7M),  # type: ignore[arg-type]
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


@dataclass(frozen=True)
class Instruction:
    """A disassembled instruction with what its timing depends on.

    Attributes:
        kind: `alu`, `load`, `store`, `multiple`, `branch`, `jump`, `call`, `indirect`, `mul`, `mla`, `mull`,
            `mlal`, `div`, `system` or `vector`.
        registers: how many a multiple transfer moves.
        writes: the register that a load writes.
        address: the registers of a load's or store's address.
        offset_register: the address has a register offset.
        to_pc: it loads the program counter.
    """

    kind: str
    registers: int = 0
    writes: str = ""
    address: frozenset[str] = frozenset()
    offset_register: bool = False
    to_pc: bool = False


def classify(mnemonic: str, operands: str) -> Instruction:
    """What kind of instruction a line of objdump is, for its timing."""
    name = mnemonic.removesuffix(".n").removesuffix(".w")
    registers = [_NAMES.get(found, found) for found in _REGISTER.findall(operands.split("<")[0])]
    if branch := _BRANCH.match(name):
        return Instruction("branch" if branch[1] else "jump")
    if name in ("cbz", "cbnz"):
        return Instruction("branch")
    if name == "bl":
        return Instruction("call")
    if re.match(rf"(?:bx|blx|tbb|tbh)(?:{_CONDITION})?\Z", name):
        return Instruction("indirect")
    if _DOUBLE.match(name):
        return Instruction("multiple", 2)
    if single := _SINGLE.match(name):
        address = frozenset(registers[1:])
        inside = operands.split("[")[-1].split("]")[0]
        by_register = len(_REGISTER.findall(inside)) > 1
        kind = "load" if single[1] == "ldr" else "store"
        to_pc = kind == "load" and registers[:1] == ["r15"]
        return Instruction(kind, 1, registers[0] if registers else "", address, by_register, to_pc)
    if _MULTIPLE.match(name):
        listed = operands[operands.find("{") + 1 : operands.find("}")]
        to_pc = "pc" in listed and name.startswith(("pop", "ldm"))
        return Instruction("multiple", _count(listed), to_pc=to_pc)
    if name.startswith("v"):
        return Instruction("vector")
    for kind, pattern in (("mull", _LONG), ("mlal", _LONG_ADD), ("mla", _MLA), ("mul", _MUL), ("div", _DIV)):
        if pattern.match(name):
            return Instruction(kind)
    if name in ("mrs", "msr", "dsb", "dmb", "isb"):
        return Instruction("system")
    if name.startswith(("mov", "add")) and registers[:1] == ["r15"]:
        return Instruction("indirect")
    return Instruction("alu")


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
    if code.kind in ("load", "store"):
        if code.kind == "load":
            cycles = timing.load
        else:
            cycles = timing.store if code.offset_register else timing.store_imm
        follows = before is not None and before.kind == "load" and before.writes not in code.address
        if timing.overlap and follows and not code.to_pc:
            cycles = max(1, cycles - 1)
        return cycles + (timing.indirect - 1 if code.to_pc else 0)
    if code.kind == "multiple":
        return code.registers + (timing.pop_pc if code.to_pc else timing.multiple)
    if code.kind in ("alu", "branch"):
        return 1
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
