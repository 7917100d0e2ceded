"""Robot Framework keywords for a board on a serial line, whatever stands at the other end of it.

They call `intaglio` as a user does, in a process of its own: Renode runs its tests with the system's Python, which
needs nothing of ours. INTAGLIO_PYTHON names the Python that has Intaglio, else the checkout's .venv is taken.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COUNT = 8
COMMAND_TIMEOUT_S = 180

_prepared: dict[str, dict[str, Any]] = {}


def prepare_firmware(board: str) -> dict[str, Any]:
    """Build the firmware for a board, once a run; returns the facts that prepare.py prints."""
    if board not in _prepared:
        folder = ROOT / "build" / "hardware" / board
        _prepared[board] = json.loads(_python([str(ROOT / "renode" / "prepare.py"), board, str(folder), str(COUNT)]))
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
            raise AssertionError(f"sample {index}: the board gives {prediction['outputs'][0]}, not {wanted}")


def new_store() -> str:
    """The name of a capture store that does not exist yet."""
    return str(Path(tempfile.mkdtemp(prefix="intaglio-store-")) / "captures.db")


def captures_should_be_complete(facts: dict[str, Any], store: str) -> None:
    """Fail unless the store holds each sample's prediction once, exactly, and the device has let go of them."""
    exported = Path(store).with_suffix(".jsonl")
    _intaglio("captures", "export", store, str(exported), json_output=False)
    records = [json.loads(line) for line in exported.read_text(encoding="utf-8").splitlines()]
    sequences = [record["sequence"] for record in records]
    if sequences != list(range(COUNT)):
        raise AssertionError(f"the records are {sequences}, not 0 to {COUNT - 1}")
    for record, wanted in zip(records, facts["expected"], strict=True):
        if record["digest"] != facts["digest"] or [out["values"] for out in record["outputs"]] != [wanted]:
            raise AssertionError(f"record {record['sequence']}: {record}, not {wanted}")


def ring_should_be_empty(port: str) -> None:
    """Fail unless every record of the device has been acknowledged."""
    status = _intaglio("capture", "--port", port)["status"]
    if status["pending"]:
        raise AssertionError(f"records are left in the ring: {status}")


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
        tty.setraw(descriptor)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view[:64]) :]
            time.sleep(0.01)
    finally:
        os.close(descriptor)


def _intaglio(*arguments: str, json_output: bool = True) -> Any:
    text = _python(["-m", "intaglio.host.cli", *arguments, *(["--json"] if json_output else [])])
    return json.loads(text) if json_output else None


def _python(arguments: list[str]) -> str:
    own = ROOT / ".venv" / "bin" / "python"
    python = os.environ.get("INTAGLIO_PYTHON") or (str(own) if own.exists() else sys.executable)
    # Renode's Python may be another: nothing of its environment is passed on.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(arguments)}: {done.stderr.strip()[-1000:]}")
    return done.stdout
