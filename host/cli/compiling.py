"""Commands on model files: compile, eval, verify, run, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.host.cli.output import JSON, print_json, progress, table

if TYPE_CHECKING:
    from intaglio.boards.cores import Core
    from intaglio.codegen.compile import Compiled
    from intaglio.quantizer.pipeline import Options

Model = Annotated[Path, typer.Argument(help="Model file: .tflite or .onnx.", show_default=False)]
Board = Annotated[str | None, typer.Option("--board", help="Board to compile for; its limits apply.")]
CoreName = Annotated[str | None, typer.Option("--core", help="Core to compile for, without a board's limits.")]
Data = Annotated[Path | None, typer.Option("--data", help="Calibration samples for a float model.")]
Ranges = Annotated[str, typer.Option("--ranges", help="Calibration: min-max, percentile, mse or kl.")]
Activations = Annotated[str, typer.Option("--activations", help="int8 or int16, for a float model.")]
Pixels = Annotated[
    str, typer.Option("--pixels", help="What the darkest and brightest pixel of calibration images stand for.")
]
Json = Annotated[bool, JSON]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("compile")(compile_command)
    app.command("eval")(eval_command)
    app.command("verify")(verify_command)
    app.command("run")(run_command)
    app.command("report")(report_command)


def make_options(data: Path | None, ranges: str, activations: str, pixels: str = "0,1") -> Options:
    """Check the options of the quantiser."""
    from intaglio.quantizer.errors import UsageError
    from intaglio.quantizer.ir import DType
    from intaglio.quantizer.pipeline import Options

    if activations not in ("int8", "int16"):
        raise UsageError(f"--activations {activations}", "unknown type", "give int8 or int16")
    if ranges not in ("min-max", "percentile", "mse", "kl"):
        raise UsageError(f"--ranges {ranges}", "unknown method", "give min-max, percentile, mse or kl")
    try:
        dark, bright = (float(value) for value in pixels.split(","))
    except ValueError:
        raise UsageError(f"--pixels {pixels}", "not two numbers", "give, for example, 0,255 or -1,1") from None
    return Options(data=data, range_method=ranges, activations=DType(activations), pixels=(dark, bright))


def find_core(board: str | None, core: str | None) -> Core:
    """The core of a board, or one named; exactly one of the two is wanted."""
    from difflib import get_close_matches

    from intaglio.boards.cores import CORES
    from intaglio.quantizer.errors import UsageError

    if (board is None) == (core is None):
        raise UsageError("--board, --core", "one of the two is needed", "try --board microbit or --core cortex-m4")
    if board is not None:
        from intaglio.boards.board import load_board

        return load_board(board).core
    assert core is not None
    if core not in CORES:
        near = get_close_matches(core, CORES, 3) or list(CORES)
        raise UsageError(f"--core {core}", "unknown core", f"try {', '.join(near)}")
    return CORES[core]


def compile_here(
    model: Path, out: Path, board: str | None, core: str | None, options: Options, name: str | None = None
) -> Compiled:
    """Compile and, where a C compiler is installed, fill in the sizes and hold them against the board."""
    from intaglio.codegen.compile import compile_model
    from intaglio.host.sizing import add_sizes

    target = find_core(board, core)
    compiled = compile_model(model, target, out, name, options, board)
    return add_sizes(compiled, target, board)


def compile_command(
    model: Model,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; new, empty or an earlier result.")],
    board: Board = None,
    core: CoreName = None,
    name: Annotated[str | None, typer.Option("--name", help="C identifier; else made from the file's name.")] = None,
    data: Data = None,
    ranges: Ranges = "mse",
    activations: Activations = "int8",
    pixels: Pixels = "0,1",
    json: Json = False,
) -> None:
    """Compile a model to a folder of self-contained C.

    Example: `intaglio compile kws.tflite --board microbit -o out`
    """
    with progress("compiling", None):
        compiled = compile_here(model, out, board, core, make_options(data, ranges, activations, pixels), name)
    if json:
        print_json(compiled.manifest)
        return
    print_summary(compiled)


def print_summary(compiled: Compiled) -> None:
    """Print the layers and the totals of a library."""
    m = compiled.manifest
    table(
        f"{m['name']}: {m['contract']} contract, {m['core']}",
        ("#", "operator", "shape", "MACs", "kernel", "name"),
        [
            (x["index"], x["op"], "x".join(map(str, x["shape"])), x["macs"] or None, x["kernel"], x["name"])
            for x in m["layers"]
        ],
    )
    print_facts(m)
    typer.echo(f"written to {compiled.folder}")


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
    data: Data = None,
    ranges: Ranges = "mse",
    activations: Activations = "int8",
    pixels: Pixels = "0,1",
    json: Json = False,
) -> None:
    """Print accuracy, float against integer, and each layer's signal-to-quantisation-noise ratio.

    Example: `intaglio eval digits.onnx --data calibration.npz --test test.npz`
    """
    from dataclasses import asdict

    from intaglio.quantizer.evaluate import evaluate_model

    with progress("evaluating", None):
        result = evaluate_model(model, test, make_options(data, ranges, activations, pixels))
    if json:
        print_json(asdict(result))
        return
    table("signal to quantisation noise", ("tensor", "operator", "dB"), [(x.tensor, x.op, x.db) for x in result.layers])
    for label, value in result.headline():
        typer.echo(f"{label}: {value}")


def verify_command(
    model: Model,
    board: Board = None,
    core: CoreName = None,
    samples_file: Annotated[Path | None, typer.Option("--samples", help="Samples to run; else drawn.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many samples.")] = 8,
    quick: Annotated[bool, typer.Option("--quick", help="Two host builds instead of ten.")] = False,
    data: Data = None,
    ranges: Ranges = "mse",
    activations: Activations = "int8",
    pixels: Pixels = "0,1",
    json: Json = False,
) -> None:
    """Prove a model exact: definition, integer reference, C on the host and on the simulated core, LiteRT.

    Example: `intaglio verify kws.tflite --board microbit --count 20`
    """
    import tempfile
    from dataclasses import asdict

    from intaglio.codegen.compile import compile_model
    from intaglio.host.samples import drawn_samples, load_samples
    from intaglio.host.verify import HOST_BUILDS, litert_row, verify

    target = find_core(board, core)
    with tempfile.TemporaryDirectory(prefix="intaglio-verify-") as folder, progress("verifying", None) as bar:
        options = make_options(data, ranges, activations, pixels)
        compiled = compile_model(model, target, Path(folder) / "library", None, options, board)
        if samples_file is None:
            samples = drawn_samples(compiled.graph, count)
        else:
            samples, _ = load_samples(samples_file, compiled.graph, count)
        builds = (HOST_BUILDS[2], HOST_BUILDS[-2]) if quick else HOST_BUILDS
        rows = list(verify(compiled, samples, target, builds, bar.describe))
        rows.append(litert_row(model, compiled, samples))
    exact = all(row.exact or row.skipped for row in rows)
    if json:
        print_json({"exact": exact, "digest": compiled.library.digest, "rows": [asdict(row) for row in rows]})
    else:
        table(
            f"{model.name} on {target.name}: compared with the integer reference",
            ("route", "samples", "tensors", "integers", "different", "first difference"),
            [(r.route, r.samples, r.tensors, r.integers, r.different, r.first or r.skipped or "") for r in rows],
        )
        typer.echo("exact" if exact else "NOT exact")
    if not exact:
        raise typer.Exit(1)


def run_command(
    model: Model,
    board: Board = None,
    core: CoreName = None,
    samples_file: Annotated[Path | None, typer.Option("--samples", help="Samples to run; else drawn.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many samples.")] = 8,
    data: Data = None,
    ranges: Ranges = "mse",
    activations: Activations = "int8",
    pixels: Pixels = "0,1",
    json: Json = False,
) -> None:
    """Run a model on the simulated core and print its outputs and instructions.

    Example: `intaglio run digits.onnx --core cortex-m0 --data calibration.npz --samples test.npz`
    """
    import tempfile

    from intaglio.codegen.compile import compile_model
    from intaglio.host.samples import drawn_samples, load_samples
    from intaglio.host.simcore import run_on_core

    target = find_core(board, core)
    with tempfile.TemporaryDirectory(prefix="intaglio-run-") as folder, progress("simulating", None):
        options = make_options(data, ranges, activations, pixels)
        compiled = compile_model(model, target, Path(folder) / "library", None, options, board)
        if samples_file is None:
            samples, labels = drawn_samples(compiled.graph, count), None
        else:
            samples, labels = load_samples(samples_file, compiled.graph, count)
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
    board: Board = None,
    core: CoreName = None,
    data: Data = None,
    ranges: Ranges = "mse",
    activations: Activations = "int8",
    pixels: Pixels = "0,1",
) -> None:
    """Write an HTML report: memory plan over time, flash, RAM, MACs and instructions per layer.

    Example: `intaglio report kws.tflite --core cortex-m4 -o kws.html`
    """
    import tempfile

    from intaglio.host.reporting import write_report

    target = find_core(board, core)
    with tempfile.TemporaryDirectory(prefix="intaglio-report-") as folder, progress("measuring", None):
        options = make_options(data, ranges, activations, pixels)
        compiled = compile_here(model, Path(folder) / "library", board, core, options)
        write_report(compiled, target, out)
    typer.echo(f"written to {out}")
