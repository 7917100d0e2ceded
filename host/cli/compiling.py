"""Commands on model files: compile, eval, verify, run, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.host.cli.options import (
    Board,
    CoreName,
    Count,
    Json,
    Model,
    Quantiser,
    Samples,
    find_core,
    takes_quantiser,
)
from intaglio.host.cli.output import print_json, progress, table

if TYPE_CHECKING:
    from intaglio.codegen.compile import Compiled
    from intaglio.host.beside_onnxruntime import Comparison


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("compile")(takes_quantiser(compile_command))
    app.command("eval")(takes_quantiser(eval_command))
    app.command("verify")(takes_quantiser(verify_command))
    app.command("run")(takes_quantiser(run_command))
    app.command("report")(takes_quantiser(report_command))


def compile_command(
    model: Model,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; new, empty or an earlier result.")],
    quantiser: Quantiser,
    board: Board = None,
    core: CoreName = None,
    name: Annotated[str | None, typer.Option("--name", help="C identifier; else made from the file's name.")] = None,
    json: Json = False,
) -> None:
    """Compile a model to a folder of self-contained C.

    Example: `intaglio compile kws.tflite --board microbit -o out`
    """
    from intaglio.host.sizing import compile_sized

    with progress("compiling", None):
        compiled = compile_sized(model, find_core(board, core), out, name, quantiser.options(), board)
    if json:
        print_json(compiled.manifest)
        return
    print_summary(compiled)


def print_summary(compiled: Compiled) -> None:
    """Print the layers and the totals of a library."""
    from intaglio.codegen.cident import short
    from intaglio.quantizer.passes.assign_types import int8_islands

    m = compiled.manifest
    table(
        f"{m['name']}: {m['contract']} contract, {m['core']}",
        ("#", "operator", "shape", "kernel", "MACs", "flash", "name"),
        [
            (x["index"], x["op"], _shape(x), x["kernel"], x["macs"] or None, x["flash"], short(x["name"]))
            for x in m["layers"]
        ],
    )
    print_facts(m)
    islands = ", ".join(f"{node.op} {node.name}" for node in int8_islands(compiled.graph))
    if islands:
        typer.echo(f"in int8, for want of an int16 kernel: {islands}")
    typer.echo(f"written to {compiled.folder}")


def _shape(layer: dict[str, Any]) -> str:
    return "x".join(map(str, layer["shape"]))


def print_facts(manifest: dict[str, object]) -> None:
    """Print the totals of a manifest on one line."""

    def size(key: str) -> str:
        value = manifest[key]
        return "-" if value is None else f"{value:,} B"

    typer.echo(
        f"flash {size('flash_bytes')}  arena {size('arena_bytes')}  stack {size('stack_bytes')}"
        f"  MACs {manifest['macs']:,} (live {manifest['live_macs']:,})"
    )


def eval_command(
    model: Model,
    test: Annotated[Path, typer.Option("--test", help="Labelled samples: .npz with x and y.")],
    quantiser: Quantiser,
    json: Json = False,
) -> None:
    """Print accuracy, float against integer, and each layer's signal-to-quantisation-noise ratio.

    Example: `intaglio eval digits.onnx --data calibration.npz --test test.npz`
    """
    from dataclasses import asdict

    from intaglio.quantizer.evaluate import evaluate_model

    with progress("evaluating", None):
        result = evaluate_model(model, test, quantiser.options())
    if json:
        print_json(asdict(result))
        return
    table("signal to quantisation noise", ("tensor", "operator", "dB"), [(x.tensor, x.op, x.db) for x in result.layers])
    for label, value in result.headline():
        typer.echo(f"{label}: {value}")


def verify_command(
    model: Model,
    quantiser: Quantiser,
    board: Board = None,
    core: CoreName = None,
    samples_file: Samples = None,
    count: Count = 8,
    quick: Annotated[bool, typer.Option("--quick", help="Two host builds instead of ten.")] = False,
    json: Json = False,
) -> None:
    """Prove a model exact: definition, integer reference, C on the host and on the simulated core, LiteRT.

    A quantised ONNX model is also held beside onnxruntime, layer by layer: every difference is explained, or a fault.
    For a model that arrives quantised, --data gives the samples when --samples does not.

    Example: `intaglio verify kws.tflite --board microbit --count 20`
    """
    from dataclasses import asdict

    from intaglio.host.samples import samples_for
    from intaglio.host.sizing import temporary_library
    from intaglio.host.verify import HOST_BUILDS, litert_row, onnxruntime_comparisons, verify
    from intaglio.quantizer.ir import Contract

    target = find_core(board, core)
    with (
        progress("verifying", None) as bar,
        temporary_library(model, target, None, quantiser.options(), board) as compiled,
    ):
        if samples_file is None and compiled.graph.contract is not Contract.EXACT:
            samples_file = quantiser.data
        samples, _ = samples_for(compiled.graph, samples_file, count)
        builds = (HOST_BUILDS[2], HOST_BUILDS[-2]) if quick else HOST_BUILDS
        rows = list(verify(compiled, samples, target, builds, bar.describe))
        rows.append(litert_row(model, compiled, samples))
        beside = onnxruntime_comparisons(model, compiled, samples, bar.describe)
    exact = all(row.exact or row.skipped for row in rows)
    explained = all(comparison.fault is None for comparison in beside)
    if json:
        print_json(
            {
                "exact": exact,
                "explained": explained,
                "digest": compiled.library.digest,
                "rows": [asdict(row) for row in rows],
                "onnxruntime": [c.facts() for c in beside],
            }
        )
    else:
        table(
            f"{model.name} on {target.name}: compared with the integer reference",
            ("route", "samples", "tensors", "integers", "different", "first difference"),
            [(r.route, r.samples, r.tensors, r.integers, r.different, r.first or r.skipped or "") for r in rows],
        )
        print_beside(model.name, beside)
        typer.echo("exact" if exact else "NOT exact")
    if not exact or not explained:
        raise typer.Exit(1)


def print_beside(model: str, comparisons: list[Comparison]) -> None:
    """Print what onnxruntime computes differently, and why."""
    for c in comparisons:
        if c.skipped:
            typer.echo(f"{c.session}: {c.skipped}")
            continue
        table(
            f"{model} beside {c.session}: each layer on onnxruntime's own inputs",
            ("layer", "operator", "elements", "differ", "explained", "nearest tie", "binary32 off by"),
            [(r.layer, r.op, r.elements, r.differ, r.explained, r.nearest_tie, r.bound) for r in c.layers],
        )
        for node in c.not_compared:
            typer.echo(f"not compared, as onnxruntime has no tensor of that name: {node}")
        typer.echo(
            f"{len(c.layers)} layers, {c.elements:,} integers compared, {c.origins} differ; "
            f"of {c.outputs:,} outputs {c.outputs_differ:,} differ at the end"
        )
        if c.origins or c.fault:
            typer.echo(c.fault or "every difference is explained: binary32 cannot tell it from a tie")


def run_command(
    model: Model,
    quantiser: Quantiser,
    board: Board = None,
    core: CoreName = None,
    samples_file: Samples = None,
    count: Count = 8,
    json: Json = False,
) -> None:
    """Run a model on the simulated core and print its outputs and instructions.

    Example: `intaglio run digits.onnx --core cortex-m0 --data calibration.npz --samples test.npz`
    """
    from intaglio.host.samples import samples_for
    from intaglio.host.simcore import run_on_core
    from intaglio.host.sizing import temporary_library

    target = find_core(board, core)
    with progress("simulating", None), temporary_library(model, target, None, quantiser.options(), board) as compiled:
        samples, labels = samples_for(compiled.graph, samples_file, count)
        result = run_on_core(compiled.folder, target, samples, count=True)
    outputs = [[o.ravel().tolist() for o in sample] for sample in result.outputs]
    if json:
        print_json({"core": target.name, "outputs": outputs, "instructions": result.instructions})
        return
    rows = []
    for i, (sample, executed) in enumerate(zip(outputs, result.instructions, strict=True)):
        label = None if labels is None else int(labels[i])
        rows.append((i, label, " ".join(map(str, sample[0][:12])), executed))
    table(f"{model.name} on the simulated {target.name}", ("sample", "label", "output 0", "instructions"), rows)


def report_command(
    model: Model,
    out: Annotated[Path, typer.Option("-o", "--out", help="The HTML file to write.")],
    quantiser: Quantiser,
    board: Board = None,
    core: CoreName = None,
    json: Json = False,
) -> None:
    """Write an HTML report: memory plan over time, flash, RAM, MACs and instructions per layer.

    Example: `intaglio report kws.tflite --core cortex-m4 -o kws.html`
    """
    from intaglio.host.reporting import write_report
    from intaglio.host.sizing import add_sizes, temporary_library

    target = find_core(board, core)
    with progress("measuring", None), temporary_library(model, target, None, quantiser.options(), board) as compiled:
        measured, cycles = write_report(add_sizes(compiled, target, board), target, out)
    if json:
        print_json(measured.manifest | {"cycles": cycles, "report": str(out)})
        return
    typer.echo(f"written to {out}")
