"""Robot Framework keywords that run a board in QEMU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intaglio.host.simulate import Simulation

_running: list[Simulation] = []


def start_simulation(board: str, elf: str) -> str:
    """Start a board, its time tied to its instructions; returns the port of its line."""
    simulation = Simulation(board, Path(elf), icount=True)
    simulation.start()
    _running.append(simulation)
    return simulation.address


def reset_simulation() -> None:
    """Reset the board that runs."""
    _running[-1].reset()


def stop_simulation() -> None:
    """End what runs."""
    while _running:
        _running.pop().close()


def instructions_of(facts: dict[str, Any], prediction: dict[str, Any]) -> int:
    """Instructions that a prediction took, by the board's clock."""
    simulation = _running[-1]
    assert simulation.board.simulators.qemu is not None
    clock_hz = int(facts["clock_hz"])
    systick_hz = simulation.board.simulators.qemu.systick_hz or clock_hz
    return int(prediction["us"]) * 1000 * clock_hz // (systick_hz * simulation.instruction_ns)
