"""Worst-case stack of a function: GCC's frame sizes along the deepest path of the linked image's calls."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intaglio.codegen.thumb import Instruction, instructions, open_members
from intaglio.quantizer.errors import CodegenError

_HINT = "stack cannot be bounded; this is a fault of the generated code, report the model"


@dataclass
class _Function:
    name: str
    start: int
    code: list[Instruction] = field(default_factory=list)


def read_stack_usage(folder: Path) -> dict[str, int]:
    """Frame sizes in bytes by function, from the `.su` files that `-fstack-usage` left in a folder.

    Raises:
        CodegenError: a frame has no bound (`alloca`, variable-length arrays).
    """
    frames: dict[str, int] = {}
    for path in sorted(folder.glob("*.su")):
        for line in path.read_text(encoding="utf-8").splitlines():
            place, size, kind = line.split("\t")
            name = place.rsplit(":", 1)[1]
            if kind == "dynamic":
                raise CodegenError(name, "its stack frame has no fixed size", _HINT)
            frames[name] = max(frames.get(name, 0), int(size))
    return frames


def worst_case_stack(elf: Path, entries: Iterable[str], frames: dict[str, int]) -> int:
    """Bytes of stack that the deepest chain of calls from any of `entries` needs.

    Calls and tail calls are those of the linked machine code, so calls into libgcc and libc count. The frame
    of a function that `frames` does not name (assembly, libraries) is bounded by the sum of all it pushes.

    Args:
        elf: a linked image with symbols.
        entries: names of functions.
        frames: bytes by function name, see `read_stack_usage`.

    Raises:
        CodegenError: an entry is missing; recursion; a call through a pointer; an unbounded frame.
    """
    functions = _functions(elf)
    by_name = {name: function for function, names in functions for name in names}
    starts = [function.start for function, _ in functions]
    size_of = {function.start: _frame(function, names, frames) for function, names in functions}
    depth: dict[int, int] = {}
    path: list[str] = []

    def deepest(function: _Function) -> int:
        if function.start in depth:
            return depth[function.start]
        if function.name in path:
            raise CodegenError(function.name, f"calls itself ({' -> '.join([*path, function.name])})", _HINT)
        path.append(function.name)
        below = 0
        for target in _targets(function, starts):
            index = bisect.bisect_right(starts, target) - 1
            if index < 0:
                raise CodegenError(function.name, f"calls {target:#x}, where no function is", _HINT)
            below = max(below, deepest(functions[index][0]))
        path.pop()
        frame = size_of[function.start]
        if frame is None:
            raise CodegenError(function.name, "moves the stack pointer by a computed amount", _HINT)
        depth[function.start] = frame + below
        return depth[function.start]

    total = 0
    for entry in entries:
        if entry not in by_name:
            raise CodegenError(str(elf), f"holds no function {entry}", "link the library into the image")
        total = max(total, deepest(by_name[entry]))
    return total


def _functions(elf: Path) -> list[tuple[_Function, list[str]]]:
    """Functions by address with all their names; each one's code runs to the next one's start."""
    (member,) = open_members(elf)
    names: dict[int, list[str]] = {}
    for symbol in _symbols(member.elf):
        names.setdefault(int(symbol["st_value"]) & ~1, []).append(symbol.name)
    found = [(_Function(names[start][0], start), names[start]) for start in sorted(names)]
    starts = [function.start for function, _ in found]
    for code in instructions(member.elf):
        index = bisect.bisect_right(starts, code.address) - 1
        if index >= 0:
            found[index][0].code.append(code)
    return found


def _symbols(elf: Any) -> Iterator[Any]:
    table = elf.get_section_by_name(".symtab")
    for symbol in table.iter_symbols() if table is not None else ():
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF":
            yield symbol


def _frame(function: _Function, names: list[str], frames: dict[str, int]) -> int | None:
    """Bytes; None where neither GCC nor the code says."""
    known = [frames[name] for name in names if name in frames]
    if known:
        return max(known)
    total = 0
    for code in function.code:
        pushed = _pushed(code)
        if pushed is None:
            return None
        total += pushed
    return total


def _pushed(code: Instruction) -> int | None:
    """Bytes by which an instruction lowers the stack pointer; None for an unknown amount.

    Encodings: Armv7-M Architecture Reference Manual, A7.7.
    """
    first, second = code.first, code.second
    if second is None:
        if first & 0xFE00 == 0xB400:  # PUSH
            return 4 * (first & 0x1FF).bit_count()
        if first & 0xFF80 == 0xB080:  # SUB SP, SP, #imm7
            return 4 * (first & 0x7F)
        if first & 0xFF87 in (0x4485, 0x4685) and (first >> 3) & 0xF != 13:  # ADD SP, Rm; MOV SP, Rm
            return None
        return 0
    if first == 0xE92D:  # STMDB SP!
        return 4 * second.bit_count()
    if first == 0xF84D and second & 0x0F00 == 0x0D00:  # STR Rt, [SP, #-imm8]!
        return second & 0xFF
    if first == 0xE96D:  # STRD Rt, Rt2, [SP, #-imm8]!
        return 4 * (second & 0xFF)
    if first & 0xFFBF == 0xED2D and second & 0x0E00 == 0x0A00:  # VPUSH
        return 4 * (second & 0xFF)
    if first & 0xFBEF == 0xF1AD and second & 0x0F00 == 0x0D00:  # SUB SP, SP, #const
        return _expand(((first >> 10) & 1) << 11 | ((second >> 12) & 7) << 8 | (second & 0xFF))
    if first & 0xFBFF == 0xF2AD and second & 0x0F00 == 0x0D00:  # SUBW SP, SP, #imm12
        return ((first >> 10) & 1) << 11 | ((second >> 12) & 7) << 8 | (second & 0xFF)
    if first & 0xFFEF == 0xEBAD and second & 0x0F00 == 0x0D00:  # SUB SP, SP, Rm
        return None
    return 0


def _expand(imm12: int) -> int:
    """ThumbExpandImm (A5.3.2)."""
    byte = imm12 & 0xFF
    if imm12 >> 10 == 0:
        return (byte, byte << 16 | byte, byte << 24 | byte << 8, byte * 0x01010101)[imm12 >> 8]
    value, turn = 0x80 | byte & 0x7F, imm12 >> 7
    return (value >> turn | value << (32 - turn)) & 0xFFFFFFFF


def _targets(function: _Function, starts: list[int]) -> Iterator[int]:
    """Addresses that a function calls, jumps to outside itself, or falls into."""
    index = bisect.bisect_right(starts, function.start)
    end = starts[index] if index < len(starts) else 1 << 32
    for code in function.code:
        if code.second is None and code.first & 0xFF87 == 0x4780:
            raise CodegenError(function.name, f"calls through a pointer at {code.address:#x}", _HINT)
        if code.second is None and code.first & 0xFF87 == 0x4700 and (code.first >> 3) & 0xF != 14:
            raise CodegenError(function.name, f"jumps through a pointer at {code.address:#x}", _HINT)
        target = _branch_target(code)
        if target is not None and (_is_call(code) or not function.start <= target < end):
            yield target
    last = next((code for code in reversed(function.code) if not _is_padding(code)), None)
    if last is not None and not _ends_flow(last) and index < len(starts):
        yield end


def _is_padding(code: Instruction) -> bool:
    """What fills up the words behind a function: NOP (MOV r8, r8 on Armv6-M) of the assembler, zeros of the linker."""
    return code.second is None and code.first in (0xBF00, 0x46C0, 0)


def _is_call(code: Instruction) -> bool:
    return code.second is not None and code.first & 0xF800 == 0xF000 and code.second & 0xD000 == 0xD000


def _branch_target(code: Instruction) -> int | None:
    """Where B, B<cond>, CBZ or BL goes (A7.7.12, A7.7.18, A7.7.21).

    The loop instructions of Armv8.1-M (LE, WLS) stay within their function.
    """
    first, second = code.first, code.second
    pc = code.address + 4
    if second is None:
        if first & 0xF000 == 0xD000 and (first >> 8) & 0xF < 14:
            return pc + 2 * _signed(first & 0xFF, 8)
        if first & 0xF800 == 0xE000:
            return pc + 2 * _signed(first & 0x7FF, 11)
        if first & 0xF500 == 0xB100:
            return pc + ((first >> 9 & 1) << 6 | (first >> 3 & 0x1F) << 1)
        return None
    kind = second & 0xD000
    if first & 0xF800 != 0xF000 or kind not in (0xD000, 0x9000, 0x8000):
        return None
    sign, j1, j2 = first >> 10 & 1, second >> 13 & 1, second >> 11 & 1
    if kind != 0x8000:  # BL, or B.W without a condition
        i1, i2 = 1 - (j1 ^ sign), 1 - (j2 ^ sign)
        value = sign << 23 | i1 << 22 | i2 << 21 | (first & 0x3FF) << 11 | second & 0x7FF
        return pc + 2 * _signed(value, 24)
    if first >> 7 & 7 == 7:  # MSR, MRS, barriers, hints
        return None
    value = sign << 19 | j2 << 18 | j1 << 17 | (first & 0x3F) << 11 | second & 0x7FF
    return pc + 2 * _signed(value, 20)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _ends_flow(code: Instruction) -> bool:
    """Whether execution cannot run past an instruction."""
    first, second = code.first, code.second
    if second is None:
        return (
            first & 0xF800 == 0xE000  # B
            or first & 0xFF87 == 0x4700  # BX
            or first & 0xFF00 in (0xBD00, 0xDE00)  # POP {.., pc}; UDF
            or first & 0xFF87 == 0x4687  # MOV PC, Rm
            or first in (0xBF00, 0x46C0)  # padding
        )
    return (
        (first & 0xF800 == 0xF000 and second & 0xD000 == 0x9000)  # B.W
        or (first == 0xE8BD and second & 0x8000 != 0)  # LDM SP!, {.., pc}
        or (first & 0xFFF0 == 0xF850 and second >> 12 == 15)  # LDR PC
        or (first == 0xF85D and second >> 12 == 15)
        or (first & 0xFFF0 == 0xE8D0 and second & 0xFFE0 == 0xF000)  # TBB, TBH
        or first == 0xF3AF  # NOP.W
    )
