"""Builds the firmware of the hardware tests for one board, and what its predictions have to be.

    python prepare.py BOARD FOLDER COUNT

The model is that of docs/examples/digits. Prints JSON: the ELF, the first COUNT test samples, the outputs of the
integer reference for them, and the instructions that each takes, counted on the simulated core.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from intaglio.boards.board import load_board
from intaglio.host.build import build_firmware
from intaglio.host.samples import load_samples
from intaglio.host.simcore import run_on_core
from intaglio.host.sizing import compile_sized
from intaglio.quantizer.pipeline import Options
from intaglio.quantizer.reference import Evaluator, Mode

DIGITS = Path(__file__).parents[1] / "docs" / "examples" / "digits"


def main(board_name: str, folder: Path, count: int) -> None:
    board = load_board(board_name)
    options = Options(data=DIGITS / "digits_calibration.npz")
    compiled = compile_sized(DIGITS / "digits.onnx", board.core, folder / "library", None, options, board_name)
    image = build_firmware([compiled.folder], board, folder / "firmware")
    assert image.float_report.clean, image.float_report.findings

    samples, _ = load_samples(DIGITS / "digits_test.npz", compiled.graph, count)
    evaluator = Evaluator(compiled.graph, Mode.INTEGER)
    expected = [evaluator.run(sample)[compiled.graph.outputs[0]].ravel().tolist() for sample in samples]
    counted = run_on_core(compiled.folder, board.core, samples, count=True)
    stored = folder / "samples.npz"
    np.savez(stored, x=np.stack([sample[0] for sample in samples]))
    facts = {
        "board": board.name,
        "core": board.core.name,
        "clock_hz": board.clock.hz,
        "elf": str(image.elf),
        "model": compiled.manifest["name"],
        "digest": compiled.manifest["digest"],
        "samples": str(stored),
        "expected": expected,
        "instructions": counted.instructions,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).absolute(), int(sys.argv[3]))
