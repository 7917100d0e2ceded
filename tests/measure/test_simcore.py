"""The library on simulated cores: exact values, exact counts, and every fault caught."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tiny import expected, samples, write_tiny

from intaglio.boards.cores import CORES
from intaglio.host.library import open_library
from intaglio.host.simcore import DEFAULT_FLAGS, _call_marks, build_image, run_on_core
from intaglio.host.tcgcount import REST, plugin
from intaglio.quantizer.errors import ToolError, UsageError

# A loop written in assembly: 2 instructions before it, 3 per turn, 2 after (`pop`, as the compiler's own
# prologue and epilogue stay outside), and an alternating branch inside for the taken counts.
_LOOP = """\
void loop(uint32_t turns);
__asm__(".text\\n.syntax unified\\n.thumb\\n.thumb_func\\n.type loop, %function\\n"
        "loop:\\n movs r1, #0\\n adds r0, r0, #0\\n"
        "1: adds r1, r1, #1\\n cmp r1, r0\\n bne 1b\\n"
        " bx lr\\n.size loop, . - loop\\n");
"""


@pytest.mark.parametrize("core", sorted(CORES))
def test_outputs_and_traces_are_those_of_the_definition_on_every_core(tmp_path: Path, core: str) -> None:
    inputs = samples(4)
    result = run_on_core(write_tiny(tmp_path), CORES[core], [[x] for x in inputs], trace=True)
    for (hidden, final), outputs, traces in zip(expected(inputs), result.outputs, result.traces, strict=True):
        assert outputs[0][0].tolist() == final.tolist()
        assert [(t.layer, t.output, t.data) for t in traces] == [(0, 0, hidden.tobytes()), (1, 0, final.tobytes())]
    assert len(result.instructions) == 4 and all(n > 60 for n in result.instructions)
    assert set(result.layer_instructions[0]) == {0, 1, REST}
    assert 0 < result.stack_bytes < 256
    assert 300 < result.flash_bytes < 1500


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_a_loop_of_known_length_is_counted_exactly(tmp_path: Path, core: str) -> None:
    def total(turns: int) -> int:
        library = write_tiny(tmp_path / str(turns), helpers=_LOOP, extra=f"loop({turns}u);")
        return run_on_core(library, CORES[core], [[samples(1)[0]]]).instructions[0]

    base = total(1)
    assert total(2) - base == 3
    assert total(101) - base == 300
    assert total(250) - base == 3 * 249


def test_a_layer_gets_the_instructions_between_its_marks_and_no_other(tmp_path: Path) -> None:
    core = CORES["cortex-m3"]
    mark = "TINY_TRACE({}, 0, bytes, 1);"
    extra = f"loop(50u); {mark.format(7)} {mark.format(8)} loop(20u); {mark.format(9)}"
    library = write_tiny(tmp_path, helpers=_LOOP, extra=extra)
    result = run_on_core(library, core, [[samples(1)[0]]])
    layers = result.layer_instructions[0]
    # Turns, the three other instructions of `loop`, and the two of the call: movs r0 and bl.
    assert layers[7] == 3 * 50 + 3 + 2
    assert layers[8] == 0
    assert layers[9] == 3 * 20 + 3 + 2
    if result.marks_exact:
        assert sum(layers.values()) == result.instructions[0]


def test_marks_add_no_instruction_where_layers_are_functions(tmp_path: Path) -> None:
    library = write_tiny(tmp_path)
    source = library / "tiny.c"
    text = source.read_text().replace("static void first", "static void __attribute__((noinline)) first")
    source.write_text(text.replace("static void second", "static void __attribute__((noinline)) second"))
    # At -O3 GCC may order two independent moves differently around a label; at -O1 it leaves them.
    flags = (*DEFAULT_FLAGS, "-O1")
    result = run_on_core(library, CORES["cortex-m4"], [[samples(1)[0]]], flags=flags)
    assert result.marks_exact
    assert sum(result.layer_instructions[0].values()) == result.instructions[0]


def test_taken_branches_are_told_from_the_others(tmp_path: Path) -> None:
    library = write_tiny(tmp_path, helpers=_LOOP, extra="loop(40u);")
    result = run_on_core(library, CORES["cortex-m3"], [[samples(1)[0]]])
    blocks = [b for layer in result.counts[0].layers.values() for b in layer]
    # The loop's own block runs 39 times after its first pass (which entered from above) and is left once.
    hot = max(blocks, key=lambda block: block.runs)
    assert (hot.instructions, hot.runs, hot.taken) == (3, 39, 38)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m4"])
def test_the_count_is_that_of_unicorn(tmp_path: Path, core: str) -> None:
    unicorn = pytest.importorskip("unicorn")
    from elftools.elf.elffile import ELFFile
    from unicorn import arm_const

    library = write_tiny(tmp_path / "lib")
    x = samples(1)[0]
    counted = run_on_core(library, CORES[core], [[x]]).instructions[0]

    lib = open_library(library)
    image = build_image(lib, CORES[core], tmp_path / "work")
    start, stop = (mark.pc for mark in _call_marks(image.elf, lib))
    cpu = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    cpu.mem_map(0, 1 << 22)
    cpu.mem_map(0x2000_0000, 1 << 22)
    with image.elf.open("rb") as stream:
        for segment in ELFFile(stream).iter_segments("PT_LOAD"):
            cpu.mem_write(segment["p_paddr"], segment.data())
    arena = 0x2030_0000
    cpu.mem_write(arena, b"\0" * 4 + x.tobytes())
    cpu.reg_write(arm_const.UC_ARM_REG_SP, 0x203F_0000)
    cpu.reg_write(arm_const.UC_ARM_REG_R0, arena)
    cpu.reg_write(arm_const.UC_ARM_REG_LR, stop | 1)
    seen = []
    cpu.hook_add(unicorn.UC_HOOK_CODE, lambda *args: seen.append(args[1]))
    cpu.emu_start(start | 1, stop, timeout=10_000_000)
    assert cpu.mem_read(arena + 16, 3) == expected([x])[0][1].tobytes()
    assert len(seen) == counted


def test_stack_is_what_invoke_overwrote(tmp_path: Path) -> None:
    def used(words: int) -> int:
        library = write_tiny(
            tmp_path / str(words),
            helpers=f"void deep(void); void __attribute__((noinline)) deep(void)"
            f"{{ volatile int32_t a[{words}]; for (int i = 0; i < {words}; i++) {{ a[i] = i; }} }}",
            extra="deep();",
        )
        return run_on_core(library, CORES["cortex-m3"], [[samples(1)[0]]]).stack_bytes

    assert used(400) - used(100) == 1200


def test_a_stack_that_overflows_is_named(tmp_path: Path) -> None:
    library = write_tiny(
        tmp_path, extra="volatile int32_t big[16384]; for (int i = 16383; i >= 0; i--) { big[i] = i; }"
    )
    with pytest.raises(ToolError, match=r"used more than 65536 bytes of stack|mps2-an385: the core locked up"):
        run_on_core(library, CORES["cortex-m3"], [[samples(1)[0]]], count=False)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("bytes[25] = 1;", "sample 0 wrote 2 bytes after the end"),
        ("bytes[-1] = 1;", "sample 0 wrote 1 bytes before the start"),
        ("*(volatile int32_t *)0xF0000000u = 1;", "hard fault at pc"),
        ('__asm__ volatile("udf #1");', "hard fault at pc"),
    ],
)
def test_faults_and_overruns_are_named(tmp_path: Path, extra: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        run_on_core(write_tiny(tmp_path, extra=extra), CORES["cortex-m3"], [[samples(1)[0]]], count=False)


def test_an_endless_invoke_is_stopped_and_leaves_no_emulator(tmp_path: Path) -> None:
    library = write_tiny(tmp_path, extra="for (volatile int i = 1; i != 0;) { }")
    with pytest.raises(ToolError, match="still running after 2 s"):
        run_on_core(library, CORES["cortex-m3"], [[samples(1)[0]]], count=False, timeout=2.0)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if "qemu" in Path(f"/proc/{pid}/comm").read_text()]


def test_thumb2_in_code_for_the_m0_is_refused(tmp_path: Path) -> None:
    extra = '__asm__ volatile(".arch armv7-m\\n movw r3, #1234\\n .arch armv6s-m" ::: "r3");'
    with pytest.raises(ToolError, match=r"not Armv6-M code: image\.elf: 0x[0-9a-f]+: f240 43d2"):
        run_on_core(write_tiny(tmp_path, extra=extra), CORES["cortex-m0"], [[samples(1)[0]]])


def test_an_input_of_the_wrong_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="input 0 of sample 1"):
        run_on_core(write_tiny(tmp_path), CORES["cortex-m3"], [[samples(1)[0]], [np.zeros(9, np.int8)]])


def test_many_samples_run_in_one_start(tmp_path: Path) -> None:
    inputs = samples(100)
    result = run_on_core(write_tiny(tmp_path), CORES["cortex-m3"], [[x] for x in inputs])
    assert [o[0][0].tolist() for o in result.outputs] == [f.tolist() for _, f in expected(inputs)]
    assert len(result.instructions) == 100


def test_the_plugin_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = plugin()
    stamp = first.stat().st_mtime_ns
    assert plugin() == first and first.stat().st_mtime_ns == stamp
    assert [p.name for p in (tmp_path / "intaglio").iterdir()] == [first.name]
