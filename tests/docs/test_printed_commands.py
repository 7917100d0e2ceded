"""The commands that the documents print run as printed, page by page in the order of the page, in a clone.

What stands for something outside of the page is put in its place: the port of a board on the desk, the port that a
simulation chose, a broker. Flashing ends where it finds no probe.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import ROOT, Clone

PAGES = sorted((ROOT / "docs").glob("*.md"))
# tests/hardware and the renode job of .github/workflows/ci.yml run the suite, .ci/run runs `make check`.
ELSEWHERE = ("robot ", "renode ", "renode-test ", "make check")
# The command reference is sorted by name. These make what the examples of others work on, in this order.
FIRST = (
    "key new",
    "package",
    "store push",
    "ca init",
    "ca issue",
    "fleet create",
    "device-type add",
    "device register",
    "device cert",
)
BOARD_ON_THE_DESK = "intaglio simulate digits.onnx --board microbit --data calibration.npz"


def printed(page: Path) -> list[str]:
    """The commands of a page: the lines of its ```sh blocks, and the examples of the command reference."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```sh\n(.*?)^```|^(Example: `.*?)\n\n", text, re.M | re.S):
        if match[1]:
            found += match[1].replace("\\\n", " ").splitlines()
        else:
            found += re.findall(r"`([^`]*)`", " ".join(match[2].split()))
    return sorted(found, key=rank) if page.name == "commands.md" else found


def rank(command: str) -> int:
    """The place of a command among FIRST; behind them all when it is none of them."""
    return next((i for i, name in enumerate(FIRST) if f"{command} ".startswith(f"intaglio {name} ")), len(FIRST))


@contextmanager
def simulation(clone: Clone, command: str) -> Iterator[str]:
    """A running `intaglio simulate`; gives the address of its serial line."""
    process = subprocess.Popen(
        command.split(), cwd=clone.root, env=clone.environment, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    try:
        said = ""
        while not (address := re.search(r"socket://\S+", said)):
            line = process.stdout.readline()
            assert line, f"{command}: ended with {said!r}"
            said += line
        yield address[0]
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def ingest(clone: Clone, command: str) -> None:
    """Run `intaglio ingest` with a broker of its own on a free port, until it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = subprocess.Popen(["mosquitto", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while not listens(port):
            assert time.monotonic() < end and broker.poll() is None, "mosquitto does not start"
            time.sleep(0.05)
        told = command.replace("localhost:1883", f"localhost:{port}").split()
        worker = subprocess.Popen(told, cwd=clone.root, env=clone.environment, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        try:
            assert "go to captures" in worker.stdout.readline()
        finally:
            worker.send_signal(signal.SIGINT)
            worker.communicate(timeout=60)
        assert worker.returncode == 0
    finally:
        broker.terminate()
        broker.wait()


def listens(port: int) -> bool:
    """Whether a server of this machine has that port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(900)  # of many commands, on a busy machine
@pytest.mark.parametrize("page", [page.name for page in PAGES if printed(page)])
def test_commands_of_a_page_run_as_printed(page: str, clone: Clone) -> None:
    commands = [command for command in printed(ROOT / "docs" / page) if not command.startswith(ELSEWHERE)]
    if page == "add-a-board.md":
        write_the_example(clone)
    if page == "add-an-operator.md":
        copy_the_operator(clone)
        commands = [command.replace("NAME", "Recast") for command in commands]
    if any("/dev/ttyACM0" in command for command in commands):
        keys = [command for command in commands if command.startswith("intaglio key new ")]
        run_all(clone, keys)
        trust = "".join(f" --trust {command.split()[-1]}" for command in keys)
        with simulation(clone, BOARD_ON_THE_DESK + trust) as port:
            run_all(clone, [command.replace("/dev/ttyACM0", port) for command in commands if command not in keys])
    else:
        run_all(clone, commands)
    if page == "add-an-operator.md":
        assert "## Recast\n" in (clone.root / "docs" / "operators.md").read_text(encoding="utf-8")


def run_all(clone: Clone, commands: list[str]) -> None:
    """Run commands in order; those that want the port of a simulation come after it."""
    for i, command in enumerate(commands):
        if re.search(r"PORT|127\.0\.0\.1:40001", command):
            continue
        if command.startswith("intaglio simulate"):
            with simulation(clone, command) as port:
                for following in commands[i + 1 :]:
                    if (told := re.sub(r"socket://127\.0\.0\.1:(PORT|40001)", port, following)) != following:
                        check(clone, told)
        elif command.startswith("intaglio ingest --broker"):
            ingest(clone, command)
        else:
            check(clone, command)


def check(clone: Clone, command: str) -> None:
    """Run one command: it ends well, or where it looks for a probe."""
    done = clone.run(command.replace("--seconds 60", "--seconds 1"))
    if command.startswith("intaglio flash"):
        assert done.returncode == 1
        assert re.fullmatch(
            r"intaglio: board \w+: .*; plug the board in, and close what holds its probe\n", done.stderr
        )
    else:
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def write_the_example(clone: Clone) -> None:
    """The board of docs/add-a-board.md, as that page says: one file."""
    page = (ROOT / "docs" / "add-a-board.md").read_text(encoding="utf-8")
    name, text = re.search(r"`boards/(\w+)\.toml`.*?^```toml\n(.*?)^```", page, re.M | re.S).groups()  # type: ignore[union-attr]
    (clone.root / "boards" / f"{name}.toml").write_text(text, encoding="utf-8")


def copy_the_operator(clone: Clone) -> None:
    """The skeleton of docs/add-an-operator.md under another name: one module, one template."""
    for old, new in (("quantizer/ops/cast.py", "recast.py"), ("codegen/templates/cast.c.j2", "recast.c.j2")):
        path = clone.root / old
        text = path.read_text(encoding="utf-8")
        path.with_name(new).write_text(
            text.replace("Cast", "Recast").replace("cast.c.j2", "recast.c.j2"), encoding="utf-8"
        )


def test_every_page_with_a_command_is_found() -> None:
    """A command in another kind of block would escape."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"^ {4}\$? ?(intaglio|make|pio|python|robot|renode|pytest)\b", text, re.M), page
