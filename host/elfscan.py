"""Proofs on machine code: no floating point in it, and nothing beyond Armv6-M in code for the M0."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from intaglio.boards.cores import Core
from intaglio.codegen.thumb import instructions, is_armv6m, open_members
from intaglio.host.toolchain import find_compiler, run_tool
from intaglio.quantizer.errors import ToolError

# Run-time ABI for the Arm Architecture (IHI 0043), tables 2 to 8, with GCC's `fneg` and `dneg`.
_AEABI = (
    r"__aeabi_(?:"
    r"c?[df](?:cmp(?:eq|lt|le|ge|gt|un))|c[df]r?cmp(?:eq|le)"
    r"|[df](?:add|sub|rsub|mul|div|neg)"
    r"|[df]2u?[il]z|f2d|d2f|[hd]2[hf](?:_alt)?|f2h(?:_alt)?|h2d"
    r"|u?[il]2[df])"
)
# libgcc internals manual, "Routines for floating point emulation": single, double, half, extended, complex.
_MODE = r"(?:hf|bf|sf|df|xf|tf|kf)"
_LIBGCC = (
    rf"__(?:gnu_)?(?:"
    rf"(?:add|sub|mul|div){_MODE}3|(?:neg|abs){_MODE}2"
    rf"|(?:eq|ne|lt|le|gt|ge|unord|cmp){_MODE}2"
    rf"|fix(?:uns)?{_MODE}(?:si|di|ti)|float(?:un)?(?:si|di|ti){_MODE}"
    rf"|extend{_MODE}{_MODE}2|trunc{_MODE}{_MODE}2|powi{_MODE}2"
    rf"|(?:mul|div)(?:hc|sc|dc|xc|tc)3"
    rf"|(?:[hfd]|float)2[hfd]_(?:ieee|alternative|internal))"
)
_LIBM_NAMES = (
    "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs fdim "
    "floor fma fmax fmin fmod frexp hypot ilogb ldexp lgamma llrint llround log log10 log1p log2 logb lrint "
    "lround modf nan nearbyint nextafter pow remainder remquo rint round scalbln scalbn sin sinh sqrt tan "
    "tanh tgamma trunc "
)
_LIBM = frozenset(name + suffix for name in _LIBM_NAMES.split() for suffix in ("", "f")) | frozenset(
    ("strtod", "strtof", "atof", "__ieee754_exp", "__ieee754_sqrt")
)

_FLOAT_SYMBOL = re.compile(rf"(?:{_AEABI}|{_LIBGCC}|__ieee754_\w+|__kernel_\w+f?)\Z")

# VFP and MVE: a data type of floating point on anything but a plain register move.
_FLOAT_TYPE = re.compile(r"\.(?:f16|f32|f64|bf16)\b")
_OBJDUMP_LINE = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{4} ?)+)\s*\t(\S+)(?:\s(.*))?$")
# Data is dumped with its characters beside it, which may end like a label.
_OBJDUMP_LABEL = re.compile(r"^[0-9a-f]+ <(.+)>:$")


class Line(NamedTuple):
    """One disassembled instruction: size in bytes, the function it stands in."""

    address: int
    size: int
    mnemonic: str
    operands: str
    function: str


@dataclass(frozen=True)
class FloatReport:
    """The verdict of `scan_elf`.

    Attributes:
        clean: nothing was found, and there was something to look at.
        findings: one line per float symbol or instruction.
        symbols, instructions: how many were looked at.
    """

    clean: bool
    findings: list[str]
    symbols: int
    instructions: int


def is_float_symbol(name: str) -> bool:
    """Whether a symbol is a floating-point helper of the run-time ABI, libgcc or libm."""
    return name in _LIBM or _FLOAT_SYMBOL.match(name) is not None


def is_float_instruction(mnemonic: str, operands: str) -> bool:
    """Whether an instruction computes with, compares, converts or creates floating-point values.

    Loads, stores, register moves and saves of the shared register file, and integer MVE, do not.
    """
    if not mnemonic.startswith("v") or not _FLOAT_TYPE.search(mnemonic):
        return False
    if mnemonic.startswith("vmov."):
        return "#" in operands
    return not mnemonic.startswith(("vldr", "vstr", "vldm", "vstm", "vpush", "vpop"))


def scan_elf(elf: Path, core: Core) -> FloatReport:
    """Look for floating point in an object, archive or image.

    Symbols prove the absence of software floating point, so a file without a symbol table is not clean.

    Args:
        elf: `.o`, `.a` or linked ELF.
        core: the core that it was built for; its name selects the disassembler's instruction set.

    Raises:
        ToolError: no objdump, or not an ELF file.
    """
    findings: list[str] = []
    symbols = 0
    for member in open_members(elf):
        table = member.elf.get_section_by_name(".symtab")
        if table is None or table.num_symbols() <= 1:
            findings.append(f"{member.name}: no symbol table, so software floating point cannot be ruled out")
            continue
        for symbol in table.iter_symbols():
            symbols += 1
            if is_float_symbol(symbol.name):
                state = "called" if symbol["st_shndx"] == "SHN_UNDEF" else "linked in"
                findings.append(f"{member.name}: {symbol.name} {state}")
    count = 0
    for line in disassemble(elf, core):
        count += 1
        if line.mnemonic == "<undefined>":
            findings.append(f"{elf.name}: {line.function} at {line.address:#x}: not an instruction that objdump knows")
        if is_float_instruction(line.mnemonic, line.operands):
            text = f"{line.mnemonic} {line.operands}".rstrip()
            findings.append(f"{elf.name}: {line.function} at {line.address:#x}: {text}")
    if count == 0:
        findings.append(f"{elf.name}: holds no code")
    return FloatReport(not findings, findings, symbols, count)


def disassemble(elf: Path, core: Core) -> list[Line]:
    """Every instruction of a file, by the toolchain's objdump; data in code sections left out.

    Raises:
        ToolError: no objdump, or not an ELF file.
    """
    gcc = find_compiler("arm-none-eabi-gcc")
    objdump = run_tool([*gcc.command, "-print-prog-name=objdump"], timeout=20).stdout.strip()
    # Left to itself objdump reads the attributes of an Armv8.1-M file, but not the instructions new in it.
    machine = ["-m", core.arch.split("+")[0]] if core.arch.startswith("armv8.1") else []
    text = run_tool([objdump, "-d", *machine, "-M", "force-thumb", str(elf)], timeout=120).stdout
    lines = []
    function = "?"
    for line in text.splitlines():
        found = _OBJDUMP_LINE.match(line)
        if found is not None:
            address, code, mnemonic, operands = found.groups(default="")
            if "<UNDEFINED>" in line:
                mnemonic, operands = "<undefined>", ""
            if not mnemonic.startswith("."):
                operands = operands.split(";")[0].split("@")[0].strip()
                size = len(code.replace(" ", "")) // 2
                lines.append(Line(int(address, 16), size, mnemonic, operands, function))
        elif (label := _OBJDUMP_LABEL.match(line)) is not None:
            function = label[1]
    return lines


def check_armv6m(elf: Path) -> list[str]:
    """Instructions outside Armv6-M, one line each; empty when the code runs on any M0 or M0+.

    Raises:
        ToolError: not an ELF file, or one without code that could be told from data.
    """
    illegal = []
    seen = 0
    for member in open_members(elf):
        for code in instructions(member.elf):
            seen += 1
            if not is_armv6m(code):
                illegal.append(f"{member.name}: {code}")
    if seen == 0:
        raise ToolError(str(elf), "holds no code with mapping symbols", "give a file that is not stripped")
    return illegal
