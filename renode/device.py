"""Robot Framework keywords for a board on a serial line, whatever stands at the other end of it.

They call `intaglio` as a user does, in a process of its own: Renode runs its tests with the system's Python, which
needs nothing of ours. INTAGLIO_PYTHON names the Python that has Intaglio, else the checkout's .venv is taken.
"""

from __future__ import annotations

import functools
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COUNT = 8
COMMAND_TIMEOUT_S = 180
BUILD_TIMEOUT_S = 600

_prepared: dict[str, dict[str, Any]] = {}
_held: list[int] = []
_scratch = tempfile.TemporaryDirectory(prefix="intaglio-")  # goes with the run


def prepare_firmware(board: str) -> dict[str, Any]:
    """Build the firmware for a board, once a run; returns the facts that prepare.py prints."""
    if board not in _prepared:
        folder = ROOT / "build" / "hardware" / board
        script = str(ROOT / "renode" / "prepare.py")
        _prepared[board] = json.loads(_python([script, board, str(folder), str(COUNT)], BUILD_TIMEOUT_S))
    return _prepared[board]


def describe_device(port: str) -> dict[str, Any]:
    """What the board says of itself: `device`, `model` and `heartbeat`."""
    return _intaglio("describe", "--port", port)


def predict_samples(port: str, facts: dict[str, Any], store: str = "") -> list[dict[str, Any]]:
    """Run all samples on the board; with a store, capture them and move the records there."""
    more = ["--store", store] if store else []
    answer = _intaglio("predict", "--port", port, "--samples", facts["samples"], *more)
    predictions: list[dict[str, Any]] = answer["predictions"]
    return predictions


def predictions_should_be_exact(facts: dict[str, Any], predictions: list[dict[str, Any]]) -> None:
    """Fail unless every integer is that of the reference."""
    for index, (prediction, wanted) in enumerate(zip(predictions, facts["expected"], strict=True)):
        if prediction["outputs"] != [wanted]:
            raise AssertionError(
                f"{facts['board']}, sample {index}: the board gives {prediction['outputs'][0]}, not {wanted}"
            )


def new_store() -> str:
    """The name of a capture store that does not exist yet."""
    return str(Path(tempfile.mkdtemp(dir=_scratch.name)) / "captures.db")


def captures_should_be_complete(facts: dict[str, Any], store: str) -> None:
    """Fail unless the store holds each sample's prediction once, exactly, and the device has let go of them."""
    exported = Path(store).with_suffix(".jsonl")
    _intaglio("captures", "export", store, str(exported), json_output=False)
    records = [json.loads(line) for line in exported.read_text(encoding="utf-8").splitlines()]
    sequences = [record["sequence"] for record in records]
    if sequences != list(range(COUNT)):
        raise AssertionError(f"{facts['board']}: the records are {sequences}, not 0 to {COUNT - 1}")
    for record, wanted in zip(records, facts["expected"], strict=True):
        if record["digest"] != facts["digest"] or [out["values"] for out in record["outputs"]] != [wanted]:
            raise AssertionError(f"{facts['board']}, record {record['sequence']}: {record}, not {wanted}")


def ring_should_be_empty(port: str) -> None:
    """Fail unless every record of the device has been acknowledged."""
    status = _intaglio("capture", "--port", port)["status"]
    if status["pending"]:
        raise AssertionError(f"records are left in the ring: {status}")


def line_of(facts: dict[str, Any]) -> str:
    """Where the pseudo-terminal of a board is to appear; the name tells the board in every message."""
    return str(Path(_scratch.name) / facts["board"])


def hold_line(port: str) -> None:
    """Keep a pseudo-terminal open until `release_line`.

    Renode 1.15.3 closes its own end of the line before it stops reading from it; where nobody else holds the line,
    the read that is under way fails, and Renode ends.
    """
    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY)
    _held.append(descriptor)
    attributes = termios.tcgetattr(descriptor)
    attributes[:4] = [0, 0, termios.CS8 | termios.CREAD | termios.CLOCAL, 0]  # raw, and nothing echoed
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def release_line() -> None:
    """Close what `hold_line` opened."""
    while _held:
        os.close(_held.pop())


def send_garbage(port: str, size: int = 3000, seed: int = 1) -> None:
    """Write random bytes, delimiters among them, to the line."""
    data = random.Random(seed).randbytes(int(size))
    if port.startswith("socket://"):
        host, _, number = port.removeprefix("socket://").rpartition(":")
        with socket.create_connection((host, int(number)), timeout=10) as line:
            line.sendall(data)
            time.sleep(0.5)
        return
    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view[:64]) :]
            time.sleep(0.01)
    finally:
        os.close(descriptor)


def _intaglio(*arguments: str, json_output: bool = True) -> Any:
    text = _python(["-m", "intaglio.host.cli", *arguments, *(["--json"] if json_output else [])])
    return json.loads(text) if json_output else None


def _python(arguments: list[str], timeout: float = COMMAND_TIMEOUT_S) -> str:
    done = _run([_interpreter(), *arguments], timeout)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(arguments)}: {done.stderr.strip()[-1000:]}")
    return done.stdout


@functools.cache
def _interpreter() -> str:
    """The Python that has Intaglio."""
    own = ROOT / ".venv" / "bin" / "python"
    python = os.environ.get("INTAGLIO_PYTHON") or (str(own) if own.exists() else sys.executable)
    try:
        found = _run([python, "-c", "import intaglio.host.cli"], COMMAND_TIMEOUT_S).returncode == 0
    except OSError:
        found = False
    if not found:
        raise AssertionError(
            f"{python} has no intaglio: run `make setup` in {ROOT}, "
            "or name in INTAGLIO_PYTHON a Python in which `pip install intaglio` was done"
        )
    return python


def _run(command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    # Renode's Python may be another: nothing of its environment is passed on.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        env=environment,
        check=False,
    )
