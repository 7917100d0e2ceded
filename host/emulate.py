"""A model's image executed by Unicorn: the bytes that a device executes, without the device."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from intaglio.host.package import Package
from intaglio.quantizer.errors import MissingToolError, PackageError

MAGIC = 0x4C444D49
_HEADER = struct.Struct("<IHHIII")  # struct image_header
_MODEL = struct.Struct("<IIIHBB32sIII4I")  # struct intaglio_model
_RAM, _STACK_BYTES, _PAGE = 0x2000_0000, 64 << 10, 4096
_MOST_INSTRUCTIONS = 10_000_000_000
_CPUS = {
    "cortex-m0": "UC_CPU_ARM_CORTEX_M0",
    # Unicorn has no M0+; it executes what an M0 does.
    "cortex-m0plus": "UC_CPU_ARM_CORTEX_M0",
    "cortex-m3": "UC_CPU_ARM_CORTEX_M3",
    "cortex-m4": "UC_CPU_ARM_CORTEX_M4",
    "cortex-m7": "UC_CPU_ARM_CORTEX_M7",
    "cortex-m33": "UC_CPU_ARM_CORTEX_M33",
}


@dataclass(frozen=True)
class _Functions:
    reset: int
    input: int
    invoke: int
    output: int


class EmulatedModel:
    """The model of a package, in the first of its slots, with an arena of its own.

    Args:
        package: whose images Unicorn has the core for.

    Raises:
        MissingToolError: Unicorn is not installed.
        PackageError: no such core, or an image that is not one.
    """

    def __init__(self, package: Package) -> None:
        try:
            import unicorn
            from unicorn import arm_const
        except ImportError:
            raise MissingToolError("Unicorn", "is not installed", "pip install 'intaglio[replay]'") from None
        made = package.manifest
        where = f"{made.name} {made.version}"
        if made.core not in _CPUS:
            raise PackageError(where, f"is for a {made.core}, which Unicorn does not emulate", "replay on the board")
        self._registers = {name: getattr(arm_const, f"UC_ARM_REG_{name}") for name in ("R0", "R1", "SP", "LR")}
        self._where = where
        address, image = made.slots[0].address, package.images[0]
        self._functions, self.input_count, self.output_count = _entry(image, address, where)
        self._arena = _RAM + _STACK_BYTES
        self._return = _RAM + _STACK_BYTES + _whole_pages(made.arena)
        library: Any = unicorn  # its functions have no types
        self._error = library.UcError
        self._uc = library.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(getattr(arm_const, _CPUS[made.core]))
        first = address // _PAGE * _PAGE
        self._uc.mem_map(first, _whole_pages(address - first + len(image)), unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self._uc.mem_write(address, image)
        self._uc.mem_map(_RAM, self._return - _RAM)
        # A page of its own to return to, so that nothing of the model's is there.
        self._uc.mem_map(self._return, _PAGE)
        self._call(self._functions.reset, self._arena)

    def predict(self, inputs: list[bytes], output_bytes: list[int]) -> list[bytes]:
        """One prediction.

        Args:
            inputs: the bytes of each input tensor.
            output_bytes: how many bytes each output tensor has.

        Raises:
            PackageError: the model's code fails, or reports a failure.
        """
        for index, data in enumerate(inputs):
            self._uc.mem_write(self._call(self._functions.input, self._arena, index), data)
        status = self._call(self._functions.invoke, self._arena)
        if status != 0:
            raise PackageError(self._where, f"reports {status - (1 << 32)}", "report this model")
        return [
            bytes(self._uc.mem_read(self._call(self._functions.output, self._arena, index), size))
            for index, size in enumerate(output_bytes)
        ]

    def _call(self, function: int, *arguments: int) -> int:
        for name, value in zip(("R0", "R1"), arguments, strict=False):
            self._uc.reg_write(self._registers[name], value)
        self._uc.reg_write(self._registers["SP"], _RAM + _STACK_BYTES)
        self._uc.reg_write(self._registers["LR"], self._return | 1)
        try:
            self._uc.emu_start(function | 1, self._return, count=_MOST_INSTRUCTIONS)
        except self._error as error:
            raise PackageError(self._where, f"faults: {error}", "report this model") from None
        return int(self._uc.reg_read(self._registers["R0"]))


def _entry(image: bytes, address: int, where: str) -> tuple[_Functions, int, int]:
    """The functions of an image, and how many inputs and outputs it has."""
    try:
        magic, _, _, start, end, model = _HEADER.unpack_from(image)
        facts = _MODEL.unpack_from(image, model - address)
    except struct.error:
        raise PackageError(where, "its image has no model in it", "make it again") from None
    if magic != MAGIC or start != address or end != address + len(image):
        raise PackageError(where, "its image is not linked for its slot", "make it again")
    return _Functions(*facts[-4:]), facts[4], facts[5]


def _whole_pages(size: int) -> int:
    return (size + _PAGE - 1) // _PAGE * _PAGE
