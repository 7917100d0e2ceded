"""The demonstration: a float model to exact predictions on a simulated board.

    python docs/examples/digits/demo.py [--board microbit]

Quantises digits.onnx, generates C, builds firmware with PlatformIO, starts the board in its simulator, sends the
held-back test images over the serial line, captures the inputs and outputs of some of them, and prints what it
measured. Everything it writes lies in build/demo.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from intaglio.boards.board import load_board
from intaglio.codegen.report import render_report
from intaglio.host.build import build_firmware
from intaglio.host.cli.compiling import print_facts
from intaglio.host.cli.output import progress, table
from intaglio.host.client import Client
from intaglio.host.export import export
from intaglio.host.predicting import predict_all
from intaglio.host.reporting import with_instructions
from intaglio.host.samples import load_samples
from intaglio.host.simulate import Simulation
from intaglio.host.sizing import compile_sized
from intaglio.host.store import Store
from intaglio.quantizer.errors import IntaglioError
from intaglio.quantizer.evaluate import evaluate_model
from intaglio.quantizer.pipeline import Options
from intaglio.quantizer.reference import Evaluator, Mode

HERE = Path(__file__).parent
CAPTURED = 20


def demonstrate(board_name: str, out: Path) -> bool:
    """Run the demonstration; return whether the board's integers were those of the reference."""
    board = load_board(board_name)
    model, test = HERE / "digits.onnx", HERE / "digits_test.npz"
    options = Options(data=HERE / "digits_calibration.npz")
    with progress("quantising, generating C", None) as bar:
        scores = evaluate_model(model, test, options)
        compiled = compile_sized(model, board.core, out / "library", None, options, board_name)
        bar.describe("counting instructions on the simulated core")
        compiled, cycles, _ = with_instructions(compiled, board.core)
        bar.describe(f"building firmware for {board.title} with PlatformIO")
        image = build_firmware([compiled.folder], board, out / "firmware")

    samples, labels = load_samples(test, compiled.graph)
    assert labels is not None
    evaluator = Evaluator(compiled.graph, Mode.INTEGER)
    expected = [evaluator.run(sample)[compiled.graph.outputs[0]] for sample in samples]
    captures = out / "captures.db"
    with Simulation(board, image.elf) as simulation, Client.open(simulation.address) as client:
        (found,) = client.models()
        with progress(f"predicting {len(samples)} images over the serial line", len(samples)) as bar:
            first = predict_all(client, found, samples[:CAPTURED], True, captures, bar.advance)
            rest = predict_all(client, found, samples[CAPTURED:], False, None, bar.advance)
        beat = client.heartbeat()
    results = first + rest
    with Store(captures) as store:
        exported = export(store.query(), out / "captures.jsonl")

    different = sum(
        int(np.count_nonzero(r.outputs[0].astype(np.int64) != e)) for r, e in zip(results, expected, strict=True)
    )
    right = sum(int(r.outputs[0].argmax() == y) for r, y in zip(results, labels, strict=True))
    report = out / "report.html"
    report.write_text(render_report(compiled.manifest, cycles, image.float_report), encoding="utf-8")

    table(
        f"digits on {board.title}",
        ("layer", "operator", "kernel", "MACs", "flash", "instructions"),
        [
            (x["name"], x["op"], x["kernel"], x["macs"] or None, x["flash"], x["instructions"])
            for x in compiled.manifest["layers"]
        ],
    )
    for label, value in scores.headline():
        print(f"{label}: {value}")
    print(f"accuracy on the board: {right / len(labels):.4f} ({right} of {len(labels)})")
    print(f"integers that differ from the reference: {different}")
    print(f"float instructions in the firmware: {'none' if image.float_report.clean else 'FOUND'}")
    print_facts(compiled.manifest)
    executed = sum(x["instructions"] for x in compiled.manifest["layers"])
    print(f"instructions per inference {executed:,} (measured)  cycles {cycles:,} (modelled)")
    print(f"firmware: flash {image.flash_bytes:,} B  RAM {image.ram_bytes:,} B  stack used {beat['stack']:,} B")
    print(f"captured: {exported} predictions in {out / 'captures.jsonl'}")
    print(f"report: {report}")
    return different == 0 and image.float_report.clean


def main() -> None:
    parser = argparse.ArgumentParser(description="From a float model to exact predictions on a simulated board.")
    parser.add_argument("--board", default="microbit")
    parser.add_argument("--out", type=Path, default=Path("build") / "demo")
    arguments = parser.parse_args()
    try:
        exact = demonstrate(arguments.board, arguments.out)
    except IntaglioError as error:
        sys.exit(f"demo: {error}")
    sys.exit(0 if exact else 1)


if __name__ == "__main__":
    main()
