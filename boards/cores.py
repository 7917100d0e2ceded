"""The Cortex-M cores that code is generated for: what each can do, and how it is compiled and simulated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Core:
    """One processor core.

    Attributes:
        name: `cortex-m0` and so on, as GCC's `-mcpu` spells it.
        arch: the architecture, as GCC's `-march` spells it.
        cflags: what GCC needs to compile integer-only code for it.
        zig_cpu: the same core as Clang in the `ziglang` package spells it.
        thumb2: has the 32-bit Thumb-2 encodings (Armv7-M and later).
        long_multiply: has 32x32 -> 64 multiplication (SMULL).
        dsp: has the DSP extension (SMLAD, SXTB16, SSAT).
        mve: has the integer M-profile vector extension.
        qemu_machine: the QEMU machine on which its code is run and counted.
    """

    name: str
    arch: str
    cflags: tuple[str, ...]
    zig_cpu: str
    thumb2: bool
    long_multiply: bool
    dsp: bool
    mve: bool
    qemu_machine: str


def _core(
    name: str,
    arch: str,
    machine: str,
    *,
    thumb2: bool = True,
    long_multiply: bool = True,
    dsp: bool = False,
    mve: bool = False,
    cflags: tuple[str, ...] = (),
) -> Core:
    flags = cflags or (f"-mcpu={name}", "-mthumb", "-mfloat-abi=soft")
    return Core(name, arch, flags, name.replace("-", "_"), thumb2, long_multiply, dsp, mve, machine)


CORES: dict[str, Core] = {
    core.name: core
    for core in (
        # The micro:bit has 16 KB of RAM: code for M0 is measured on the M3 machine, whose core executes
        # every Armv6-M instruction, after the disassembly has shown that there is no other in it.
        _core("cortex-m0", "armv6s-m", "mps2-an385", thumb2=False, long_multiply=False),
        _core("cortex-m0plus", "armv6s-m", "mps2-an385", thumb2=False, long_multiply=False),
        _core("cortex-m3", "armv7-m", "mps2-an385"),
        _core("cortex-m4", "armv7e-m", "mps2-an386", dsp=True),
        _core("cortex-m7", "armv7e-m", "mps2-an500", dsp=True),
        _core("cortex-m33", "armv8-m.main+dsp", "mps2-an505", dsp=True),
        # arm_mve.h is refused with the soft float ABI; `+nofp` keeps float instructions out all the same.
        _core(
            "cortex-m55",
            "armv8.1-m.main+mve",
            "mps3-an547",
            dsp=True,
            mve=True,
            cflags=("-mcpu=cortex-m55+nofp", "-mthumb", "-mfloat-abi=softfp"),
        ),
    )
}
