"""Run a generated library on a simulated Cortex-M core, and count what it executes.

The library and a harness of ours are linked to a bare-metal image that QEMU runs; samples go in and
results come out through semihosting files. Instructions are counted by a TCG plugin between the first
instruction of `invoke` and the one after its return. Layer boundaries are marked by labels, which add no
instruction; whether the marked code is the plain code is checked byte for byte, and the total is always
counted on the plain build.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intaglio.boards.cores import Core
from intaglio.codegen.thumb import open_members
from intaglio.host.elfscan import check_armv6m
from intaglio.host.hostrun import HARNESS, write_trace_header
from intaglio.host.library import Library, open_library
from intaglio.host.records import Run, TensorInfo, Trace, pack, parse
from intaglio.host.tcgcount import LAYER, START, STOP, Counts, Mark, plugin, read_counts, write_marks
from intaglio.host.toolchain import compile_objects, core_flags, find_compiler, find_program, link, run_tool
from intaglio.quantizer.errors import ToolError

Array = npt.NDArray[np.generic]

# What every library is compiled with before its own `cflags`.
DEFAULT_FLAGS = ("-std=c11", "-O3")

STACK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Memory:
    """Where a QEMU machine takes its vector table, code and data: origins and lengths in bytes."""

    vectors: int
    code: tuple[int, int]
    ram: tuple[int, int]


_MB = 1 << 20
_MPS2 = Memory(0x0000_0000, (0x0000_0400, 4 * _MB - 0x400), (0x2000_0000, 4 * _MB))
MEMORIES: dict[str, Memory] = {
    "mps2-an385": _MPS2,
    "mps2-an386": _MPS2,
    "mps2-an500": _MPS2,
    # Secure aliases: these machines start in the secure state.
    "mps2-an505": Memory(0x1000_0000, (0x1000_0400, 4 * _MB - 0x400), (0x3800_0000, 4 * _MB)),
    "mps3-an547": Memory(0x0000_0000, (0x6000_0000, 8 * _MB), (0x6080_0000, 8 * _MB)),
}

_LINKER_SCRIPT = """\
MEMORY
{{
    VECTORS (rx) : ORIGIN = {vectors:#x}, LENGTH = 0x400
    CODE (rx) : ORIGIN = {code[0]:#x}, LENGTH = {code[1]:#x}
    RAM (rwx) : ORIGIN = {ram[0]:#x}, LENGTH = {ram[1]:#x}
}}
ENTRY(harness_reset)
SECTIONS
{{
    .vectors : {{ KEEP(*(.vectors)) }} > VECTORS
    .text : {{ *(.text .text.*) *(.rodata .rodata.*) }} > CODE
    .ARM.exidx : {{ *(.ARM.exidx*) }} > CODE
    .stack (NOLOAD) : {{ *(.stack) }} > RAM
    .data : {{ *(.data .data.*) }} > RAM
    .bss (NOLOAD) : {{ *(.bss .bss.* COMMON) }} > RAM
    .intaglio.marks 0 : {{ KEEP(*(.intaglio.marks)) }}
}}
"""

# A label between two instructions and an entry in a section that is not loaded: nothing to execute.
_MARK_HEADER = """\
#define {macro}_TRACE(layer, output, data, bytes)                                        \\
    __asm__ volatile("1:\\n\\t.pushsection .intaglio.marks, \\"\\", %%progbits\\n\\t"           \\
                     ".4byte 1b, %c0\\n\\t.popsection" : : "i"(layer))
"""


@dataclass(frozen=True)
class CoreResult:
    """What a library computed and cost on a simulated core.

    Attributes:
        outputs: per sample, one array per model output.
        traces: per sample, the tensors at the layer boundaries; empty lists when not traced.
        instructions: per sample, instructions executed by `invoke`; empty when not counted.
        layer_instructions: per sample, instructions per layer index (`tcgcount.REST`: after the last
            boundary); their sum is that of `instructions` unless `marks_exact` is false.
        counts, elf: per sample, the executed blocks, and the image whose they are, for `cyclemodel`.
        layer_counts, layer_elf: the same with the layers told apart.
        marks_exact: the marked build has the code of the plain one, byte for byte.
        flash_bytes: text + rodata + data of the library alone.
        stack_bytes: deepest stack that `invoke` overwrote, over all samples.
    """

    outputs: list[list[Array]]
    traces: list[list[Trace]]
    instructions: list[int]
    layer_instructions: list[dict[int, int]]
    counts: list[Counts]
    layer_counts: list[Counts]
    marks_exact: bool
    flash_bytes: int
    stack_bytes: int
    input_info: list[TensorInfo]
    output_info: list[TensorInfo]
    elf: bytes = field(repr=False)
    layer_elf: bytes = field(repr=False)


@dataclass(frozen=True)
class Image:
    """A linked image and the library's objects in it."""

    elf: Path
    objects: tuple[Path, ...]


def build_image(
    library: Library,
    core: Core,
    work: Path,
    *,
    extra: Sequence[str] = (),
    flags: Sequence[str] = DEFAULT_FLAGS,
    stack_bytes: int = STACK_BYTES,
) -> Image:
    """Compile a library and the harness for a core and link them for its QEMU machine.

    Args:
        work: a folder for the objects and the image; made when absent.
        extra: further flags for the library's sources (a header to include, `-fstack-usage`).
        flags: the base flags; the library's own follow and win.

    Raises:
        ToolError: no compiler, code that does not compile, an image larger than the machine, or, for an
            Armv6-M core, an instruction that it lacks.
    """
    compiler = find_compiler("arm-none-eabi-gcc")
    work.mkdir(parents=True, exist_ok=True)
    selection = core_flags(compiler, core)
    objects = compile_objects(
        compiler,
        library.sources,
        work / "lib",
        [*selection, *flags, f"-I{library.folder}", *library.cflags, *extra],
    )
    harness = compile_objects(
        compiler,
        [HARNESS / "harness.c", HARNESS / "bare.c"],
        work / "harness",
        [
            *selection,
            "-std=c11",
            "-Os",
            "-ffreestanding",
            f"-I{library.folder}",
            f"-I{HARNESS}",
            f"-DHARNESS_STACK_BYTES={stack_bytes}u",
            *library.defines(),
        ],
    )
    memory = MEMORIES[core.qemu_machine]
    script = work / "image.ld"
    script.write_text(_LINKER_SCRIPT.format(vectors=memory.vectors, code=memory.code, ram=memory.ram), encoding="ascii")
    elf = link(
        compiler,
        [*objects, *harness],
        work / "image.elf",
        [
            *selection,
            "-nostartfiles",
            f"-T{script}",
            "-Wl,--gc-sections,--no-warn-rwx-segments",
            "-Wl,-u,harness_vectors",
        ],
    )
    if not core.thumb2:
        # Its machine executes Armv7-M, so QEMU alone would not notice.
        illegal = check_armv6m(elf)
        if illegal:
            raise ToolError(
                library.name,
                f"not Armv6-M code: {illegal[0]} ({len(illegal)} in all)",
                "this is a fault of the generated code; report the model",
            )
    return Image(elf, tuple(objects))


def run_image(
    elf: Path, core: Core, data: bytes, work: Path, *, marks: Sequence[Mark] = (), timeout: float = 600.0
) -> tuple[bytes, list[Counts]]:
    """Run an image in QEMU on the input stream `data`; returns its output stream and the counted calls.

    Raises:
        ToolError: no QEMU, a lock-up, a time-out.
    """
    (work / "in.bin").write_bytes(data)
    (work / "out.bin").unlink(missing_ok=True)
    command = [
        find_program("qemu-system-arm"),
        "-M",
        core.qemu_machine,
        "-nographic",
        "-monitor",
        "none",
        "-serial",
        "none",
        "-semihosting-config",
        "enable=on,target=native",
        "-kernel",
        str(elf.resolve()),
    ]
    if marks:
        write_marks(work / "marks.txt", marks)
        command += ["-plugin", f"{plugin()},marks=marks.txt,out=counts.txt"]
    done = run_tool(command, timeout=timeout, cwd=work, allow_failure=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        what = lines[0] if lines else f"QEMU's exit status is {done.returncode}"
        hint = "run it with one sample to see whether the model or the simulator is at fault"
        if "Lockup" in what:
            what, hint = "the core locked up", "the code faulted twice, or ran out of stack; report the model"
        if marks and "plugin" in what:
            hint = "counting needs a QEMU built with TCG plugins, as Debian's is"
        raise ToolError(core.qemu_machine, what, hint)
    return (work / "out.bin").read_bytes(), read_counts(work / "counts.txt") if marks else []


def run_on_core(
    library: Path,
    core: Core,
    inputs: Sequence[Sequence[Array]],
    trace: bool = False,
    count: bool = True,
    *,
    reset_each: bool = False,
    flags: Sequence[str] = DEFAULT_FLAGS,
    timeout: float = 600.0,
) -> CoreResult:
    """Run samples through a library on a simulated core.

    Args:
        library: the generated folder.
        inputs: per sample, one integer array per model input.
        trace: return the tensors at every layer boundary too (a further run, not counted).
        count: count instructions, in all and per layer.
        reset_each: reset before every sample; else once, and a stateful model sees a sequence.
        flags: base compiler flags; the manifest's `cflags` follow.
        timeout: seconds for each run of QEMU.

    Raises:
        ToolError: a tool is missing, the code faults, overruns its arena or hangs.
        UsageError: an input does not have the model's dtype and size.
    """
    lib = open_library(library)
    where = f"{lib.name} on {core.name}"
    data = pack(inputs, reset_each=reset_each)
    with tempfile.TemporaryDirectory(prefix="intaglio-core-") as folder:
        work = Path(folder)
        plain = build_image(lib, core, work / "plain", flags=flags)
        edges = _call_marks(plain.elf, lib) if count else []
        exact, layer_elf = True, b""
        layered: list[Counts] = []
        if count:
            marked, layers = _marked_image(lib, core, work / "marked", flags)
            exact = _code(plain.objects) == _code(marked.objects)
            if not exact and layers:
                stream, layered = run_image(
                    marked.elf,
                    core,
                    data,
                    marked.elf.parent,
                    marks=[*_call_marks(marked.elf, lib), *layers],
                    timeout=timeout,
                )
                layer_elf = marked.elf.read_bytes()
            else:
                edges += layers
        stream, counts = run_image(plain.elf, core, data, plain.elf.parent, marks=edges, timeout=timeout)
        run = parse(stream, where, len(inputs))
        traces = _trace(lib, core, work / "traced", data, flags, timeout, where, run) if trace else None
        elf, flash = plain.elf.read_bytes(), flash_bytes(plain.objects)
    stack = max((sample.stack_bytes for sample in run.samples), default=0)
    if stack >= STACK_BYTES:
        raise ToolError(
            where,
            f"used more than {STACK_BYTES} bytes of stack",
            "this is a fault of the generated code; report the model",
        )
    layered = layered or counts
    return CoreResult(
        outputs=[sample.outputs for sample in run.samples],
        traces=traces or [[] for _ in run.samples],
        instructions=[call.instructions for call in counts],
        layer_instructions=[call.per_layer() for call in layered],
        counts=counts,
        layer_counts=layered,
        marks_exact=exact,
        flash_bytes=flash,
        stack_bytes=stack,
        input_info=run.inputs,
        output_info=run.outputs,
        elf=elf,
        layer_elf=layer_elf or elf,
    )


def _marked_image(lib: Library, core: Core, work: Path, flags: Sequence[str]) -> tuple[Image, list[Mark]]:
    """Build with a label at every layer boundary; returns the marks in it."""
    work.mkdir()
    header = work / "marks.h"
    header.write_text(_MARK_HEADER.format(macro=lib.macro), encoding="ascii")
    image = build_image(lib, core, work, extra=["-include", str(header)], flags=flags)
    return image, _layer_marks(image.elf)


def _trace(
    lib: Library,
    core: Core,
    work: Path,
    data: bytes,
    flags: Sequence[str],
    timeout: float,
    where: str,
    plain: Run,
) -> list[list[Trace]]:
    work.mkdir()
    header = write_trace_header([lib], work)
    image = build_image(lib, core, work, extra=["-include", str(header)], flags=flags)
    stream, _ = run_image(image.elf, core, data, work, timeout=timeout)
    run = parse(stream, where, len(plain.samples))
    for index, (traced, untraced) in enumerate(zip(run.samples, plain.samples, strict=True)):
        if any(a.tobytes() != b.tobytes() for a, b in zip(traced.outputs, untraced.outputs, strict=True)):
            raise ToolError(
                where,
                f"outputs of sample {index} change when layers are traced",
                "the generated code reads memory that it did not write; report the model",
            )
    return [sample.traces for sample in run.samples]


def _symbols(elf: Path) -> dict[str, int]:
    (member,) = open_members(elf)
    table = member.elf.get_section_by_name(".symtab")
    return {symbol.name: int(symbol["st_value"]) for symbol in table.iter_symbols()}


def _call_marks(elf: Path, lib: Library) -> list[Mark]:
    symbols = _symbols(elf)
    return [
        Mark(symbols[f"{lib.name}_invoke"] & ~1, START),
        Mark(symbols["harness_returned"] & ~1, STOP),
    ]


def _layer_marks(elf: Path) -> list[Mark]:
    (member,) = open_members(elf)
    section = member.elf.get_section_by_name(".intaglio.marks")
    data = section.data() if section is not None else b""
    return [Mark(pc & ~1, LAYER, layer) for pc, layer in struct.iter_unpack("<II", data)]


def _code(objects: Sequence[Path]) -> list[bytes]:
    """The sections of objects that go into flash."""
    return [
        section.data()
        for path in objects
        for member in open_members(path)
        for section in member.elf.iter_sections()
        if section["sh_flags"] & 2 and section["sh_type"] == "SHT_PROGBITS"
    ]


def flash_bytes(objects: Sequence[Path]) -> int:
    """Bytes of text, rodata and data that objects put into flash."""
    return sum(map(len, _code(objects)))
