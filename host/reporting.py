"""Measure a library on its simulated core and write the HTML report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from intaglio.boards.cores import Core
from intaglio.codegen.compile import Compiled
from intaglio.codegen.report import render_report
from intaglio.host.cyclemodel import estimate
from intaglio.host.elfscan import scan_elf
from intaglio.host.files import whole_file
from intaglio.host.samples import drawn_samples
from intaglio.host.simcore import run_on_core
from intaglio.quantizer.errors import OutputError


def with_instructions(compiled: Compiled, core: Core) -> tuple[Compiled, int, bytes]:
    """Fill in the instructions of each layer, for one sample of random integers.

    Returns:
        The library's record, the modelled cycles of the inference, and the ELF that was run.

    Raises:
        ToolError: no compiler or emulator, or the run failed.
    """
    result = run_on_core(compiled.folder, core, drawn_samples(compiled.graph, 3)[2:], count=True)
    executed = result.layer_instructions[0]
    layers = [
        facts | {"instructions": executed.get(layer.index, 0)}
        for layer, facts in zip(compiled.library.layers, compiled.manifest["layers"], strict=True)
    ]
    cycles = estimate(result.elf, result.counts, core)[0].cycles
    return replace(compiled, manifest=compiled.manifest | {"layers": layers}), cycles, result.elf


def write_report(compiled: Compiled, core: Core, out: Path) -> tuple[Compiled, int]:
    """Write the report of a library as one HTML file.

    Returns:
        The library's record with the instructions of its layers, and the modelled cycles of the inference.

    Raises:
        OutputError: the file cannot be written.
        ToolError: no compiler or emulator.
    """
    measured, cycles, elf = with_instructions(compiled, core)
    program = compiled.folder.with_suffix(".elf")
    try:
        program.write_bytes(elf)
        text = render_report(measured.manifest, cycles, scan_elf(program, core))
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(str(out), f"cannot be written ({error.strerror})", "choose another file with -o") from error
    finally:
        program.unlink(missing_ok=True)
    return measured, cycles
