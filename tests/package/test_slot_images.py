"""Every slot's image computes the integer reference where it is linked to be, on an emulated core."""

from __future__ import annotations

import struct

import numpy as np
from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, Uc
from unicorn.arm_const import UC_ARM_REG_LR, UC_ARM_REG_R0, UC_ARM_REG_R1, UC_ARM_REG_SP, UC_CPU_ARM_CORTEX_M0

from intaglio.host.package import Package
from intaglio.quantizer.reference import Evaluator, Mode

from .conftest import Made

RAM, RAM_BYTES, RETURN = 0x2000_0000, 0x4000, 0x2000_3F00
# struct intaglio_model: where `reset` stands; the other functions follow.
FUNCTIONS = 12 + 4 + 32 + 4 + 4 + 4


class Slot:
    """A slot of a micro:bit, and the functions of the model in it."""

    def __init__(self, address: int, image: bytes) -> None:
        self.uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self.uc.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M0)
        self.uc.mem_map(0, 0x4_0000)
        self.uc.mem_map(RAM, RAM_BYTES)
        self.uc.mem_write(address, image)
        magic, version, abi, start, end, model = struct.unpack_from("<IHHIII", image)
        assert (magic, version, abi, start, end) == (0x4C444D49, 1, 1, address, address + len(image))
        self.reset, self.input, self.invoke, self.output = struct.unpack_from("<4I", image, model - address + FUNCTIONS)

    def call(self, function: int, *arguments: int) -> int:
        for register, value in zip((UC_ARM_REG_R0, UC_ARM_REG_R1), arguments, strict=False):
            self.uc.reg_write(register, value)
        self.uc.reg_write(UC_ARM_REG_SP, RETURN)
        self.uc.reg_write(UC_ARM_REG_LR, RETURN | 1)
        self.uc.emu_start(function, RETURN, count=20_000_000)
        return int(self.uc.reg_read(UC_ARM_REG_R0))


def test_every_slot_computes_the_reference(made: Made, package: Package) -> None:
    graph = made.compiled.graph
    evaluator = Evaluator(graph, Mode.INTEGER)
    rng = np.random.default_rng(1)
    for slot, image in zip(package.manifest.slots, package.images, strict=True):
        core = Slot(slot.address, image)
        core.call(core.reset, RAM)
        for _ in range(3):
            x = rng.integers(-128, 128, graph.types[graph.inputs[0]].shape, np.int8)
            core.uc.mem_write(core.call(core.input, RAM, 0), x.tobytes())
            assert core.call(core.invoke, RAM) == 0
            y = np.frombuffer(core.uc.mem_read(core.call(core.output, RAM, 0), 10), np.int8)
            assert np.array_equal(y, evaluator.run([x])[graph.outputs[0]].ravel())
