"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from intaglio.boards.cores import Core
    from intaglio.quantizer.pipeline import Options

Model = Annotated[Path, typer.Argument(help="Model file: .tflite or .onnx.", show_default=False)]


def complete_board(incomplete: str) -> list[str]:
    """For the shell: the boards whose names begin so."""
    from intaglio.boards.board import board_names

    return [name for name in board_names() if name.startswith(incomplete)]


def complete_core(incomplete: str) -> list[str]:
    """For the shell: the cores whose names begin so."""
    from intaglio.boards.cores import CORES

    return [name for name in CORES if name.startswith(incomplete)]


Board = Annotated[
    str | None,
    typer.Option("--board", help="Board to compile for; its limits apply.", autocompletion=complete_board),
]
CoreName = Annotated[
    str | None,
    typer.Option("--core", help="Core to compile for, without a board's limits.", autocompletion=complete_core),
]
Samples = Annotated[Path | None, typer.Option("--samples", help="Samples to run; else drawn.")]
Count = Annotated[int, typer.Option("--count", min=1, help="How many samples.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@dataclass(frozen=True)
class Quantiser:
    """How a model that arrives in float is quantised, as given on the command line.

    The fields are the options of every command that takes a model (`takes_quantiser`).
    """

    data: Annotated[
        Path | None, typer.Option("--data", help="Calibration samples for a float model.", show_default=False)
    ] = None
    ranges: Annotated[str, typer.Option("--ranges", help="Calibration: min-max, percentile, mse or kl.")] = "mse"
    activations: Annotated[str, typer.Option("--activations", help="int8 or int16, for a float model.")] = "int8"
    pixels: Annotated[
        str, typer.Option("--pixels", help="What the darkest and brightest pixel of calibration images stand for.")
    ] = "0,1"

    def options(self) -> Options:
        """Check them.

        Raises:
            UsageError: names the option and what it may be.
        """
        from intaglio.quantizer.errors import UsageError
        from intaglio.quantizer.ir import DType
        from intaglio.quantizer.pipeline import Options

        if self.activations not in ("int8", "int16"):
            raise UsageError(f"--activations {self.activations}", "unknown type", "give int8 or int16")
        if self.ranges not in ("min-max", "percentile", "mse", "kl"):
            raise UsageError(f"--ranges {self.ranges}", "unknown method", "give min-max, percentile, mse or kl")
        try:
            dark, bright = (float(value) for value in self.pixels.split(","))
        except ValueError:
            raise UsageError(f"--pixels {self.pixels}", "not two numbers", "give, for example, 0,255 or -1,1") from None
        return Options(
            data=self.data, range_method=self.ranges, activations=DType(self.activations), pixels=(dark, bright)
        )


def takes_quantiser(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Quantiser` instead of its parameter `quantiser`; `--help` lists them late."""
    fields = inspect.signature(Quantiser, eval_str=True).parameters
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "quantiser"]
    before_json = next((i for i, parameter in enumerate(own) if parameter.name == "json"), len(own))
    parameters = [*own[:before_json], *fields.values(), *own[before_json:]]

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        command(
            **{k: v for k, v in given.items() if k not in fields}, quantiser=Quantiser(**{k: given[k] for k in fields})
        )

    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return wrapped


def find_core(board: str | None, core: str | None) -> Core:
    """The core of a board, or one named; exactly one of the two is wanted.

    Raises:
        UsageError: none or both; no such core.
        BoardError: no such board.
    """
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
