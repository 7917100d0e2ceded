"""Run a generated library as a process on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from intaglio.host.library import Library, open_library
from intaglio.host.records import TensorInfo, Trace, pack, parse
from intaglio.host.toolchain import STRICT_WARNINGS, Compiler, compile_objects, find_compiler, link, run_tool
from intaglio.quantizer.errors import ToolError

Array = npt.NDArray[np.generic]
HARNESS = Path(__file__).parent / "harness"

SANITIZERS = (
    "-g",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
)

_TRACE_HEADER = """\
#include <stdint.h>
void harness_trace(int layer, int output, const void *data, uint32_t bytes);
"""
_TRACE_MACRO = """\
#define {macro}_TRACE(layer, output, data, bytes) \\
    harness_trace((layer), (output), (data), (uint32_t)(bytes))
"""


@dataclass(frozen=True)
class HostResult:
    """What a library computed on the host.

    Attributes:
        outputs: per sample, one array per model output, dtype and shape of the model.
        traces: per sample, the tensors at the layer boundaries in order of execution; empty lists when
            not traced.
        input_info, output_info: the tensors that the library says it has.
    """

    outputs: list[list[Array]]
    traces: list[list[Trace]]
    input_info: list[TensorInfo]
    output_info: list[TensorInfo]


def write_trace_header(libraries: Sequence[Library], folder: Path) -> Path:
    """A header for `-include` that turns the libraries' trace macros into calls of the harness."""
    header = folder / "harness_trace.h"
    macros = "".join(_TRACE_MACRO.format(macro=library.macro) for library in libraries)
    header.write_text(_TRACE_HEADER + macros, encoding="utf-8")
    return header


def run_on_host(
    library: Path,
    inputs: Sequence[Sequence[Array]],
    compiler: Literal["gcc", "clang"] = "gcc",
    opt: str = "-O2",
    sanitize: bool = False,
    trace: bool = True,
    *,
    reset_each: bool = False,
    timeout: float = 300.0,
) -> HostResult:
    """Compile a library under the strict warnings, run samples through it in one process.

    The arena has exactly the size that the library asks for, starts as garbage and is fenced: with a known
    pattern that is checked after every sample and, when sanitised, by AddressSanitizer at the access itself.

    Args:
        library: the generated folder.
        inputs: per sample, one integer array per model input.
        opt: optimisation level, `-O0` to `-O3` or `-Os`.
        sanitize: build with UndefinedBehaviorSanitizer and AddressSanitizer; any report ends the run.
        trace: return the tensors at every layer boundary as well.
        reset_each: reset before every sample; else once, and a stateful model sees a sequence.
        timeout: seconds for the run.

    Raises:
        ToolError: no compiler, a warning, a sanitizer's report, an overrun, a negative status, a time-out.
        UsageError: an input does not have the model's dtype and size.
    """
    return run_many_on_host(
        [library], [inputs], compiler, opt, sanitize, trace, reset_each=reset_each, timeout=timeout
    )[0]


def run_many_on_host(
    libraries: Sequence[Path],
    inputs: Sequence[Sequence[Sequence[Array]]],
    compiler: Literal["gcc", "clang"] = "gcc",
    opt: str = "-O2",
    sanitize: bool = False,
    trace: bool = True,
    *,
    reset_each: bool = False,
    timeout: float = 300.0,
) -> list[HostResult]:
    """Like `run_on_host` for several libraries: one harness and one link for all, one process for each.

    Args:
        libraries: generated folders; the libraries have different names.
        inputs: per library, its samples.

    Raises:
        ToolError, UsageError: as `run_on_host`, naming the library.
    """
    libs = [open_library(folder) for folder in libraries]
    tool = find_compiler(compiler)
    with tempfile.TemporaryDirectory(prefix="intaglio-host-") as folder:
        work = Path(folder)
        program = _build(tool, libs, work, [opt, *(SANITIZERS if sanitize else ())], trace=trace)
        return [
            _run(
                program,
                i,
                f"{lib.name} ({compiler} {opt}{' sanitised' if sanitize else ''})",
                samples,
                reset_each,
                timeout,
            )
            for i, (lib, samples) in enumerate(zip(libs, inputs, strict=True))
        ]


def _build(tool: Compiler, libs: Sequence[Library], work: Path, flags: Sequence[str], *, trace: bool) -> Path:
    """Compile the libraries strictly and link them with one harness."""
    header = work / "harness_models.h"
    includes = "".join(f'#include "{lib.header}"\n' for lib in libs)
    models = ", ".join(f"&{lib.name}_model" for lib in libs)
    header.write_text(
        f"{includes}#define HARNESS_MODELS {models}\nextern const struct intaglio_model *harness_model;\n",
        encoding="utf-8",
    )
    common = [*flags, f"-I{HARNESS}", f"-I{work}", *(f"-I{lib.folder}" for lib in libs)]
    tracing = ["-include", str(write_trace_header(libs, work))] if trace else []
    sources = [source for lib in libs for source in lib.sources]
    objects = compile_objects(tool, sources, work / "lib", [*STRICT_WARNINGS, *common, *tracing])
    objects += compile_objects(
        tool,
        [HARNESS / "harness.c", HARNESS / "hosted.c"],
        work / "harness",
        ["-std=c11", *common, f'-DINTAGLIO_HEADER="{header.name}"', "-DINTAGLIO_MODEL=(*harness_model)"],
    )
    return link(tool, objects, work / "program", [f for f in flags if f in SANITIZERS])


def _run(
    program: Path, index: int, where: str, inputs: Sequence[Sequence[Array]], reset_each: bool, timeout: float
) -> HostResult:
    """Run samples through one of the models of a program."""
    work = program.parent
    (work / "in.bin").write_bytes(pack(inputs, reset_each=reset_each))
    done = run_tool(
        [str(program), str(index), "in.bin", "out.bin"],
        timeout=timeout,
        cwd=work,
        allow_failure=True,
        # The arena is never freed, and looking for leaks needs ptrace, which containers forbid.
        env={"ASAN_OPTIONS": "detect_leaks=0"},
    )
    if done.returncode != 0:
        raise ToolError(where, _crash(done.returncode, done.stderr), "report the model")
    run = parse((work / "out.bin").read_bytes(), where, len(inputs))
    return HostResult(
        [sample.outputs for sample in run.samples],
        [sample.traces for sample in run.samples],
        run.inputs,
        run.outputs,
    )


def _crash(status: int, stderr: str) -> str:
    for line in stderr.splitlines():
        if "runtime error" in line or "ERROR: AddressSanitizer" in line or line.startswith("harness:"):
            return line.strip()
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"
