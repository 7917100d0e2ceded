"""The whole agent under libFuzzer with the sanitizers: short here, long in `make test-all`."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest
from agent_bench import BOARD, SANITIZE, agent_sources, compile_c

from intaglio.host import protocol
from intaglio.host.protocol import Command, pack_request

SEEDS: list[tuple[Command, dict[str, object]]] = [
    (protocol.HELLO, {"nonce": 1}),
    (protocol.HEARTBEAT, {}),
    (protocol.TIME_SET, {"wall": 2**60}),
    (protocol.CONFIG_SET, {"every": 1, "policy": 0, "beat": 1}),
    (protocol.LIST, {"model": 1}),
    (protocol.DESCRIBE, {"model": 1, "tensor": 1}),
    (protocol.PREDICT, {"model": 0, "off": 0, "data": bytes(16), "capture": True}),
    (protocol.PREDICT, {"model": 1, "off": 0, "data": bytes(200), "capture": True}),
    (protocol.PREDICT, {"model": 2, "off": 0, "data": bytes(4), "capture": True}),
    (protocol.OUTPUT, {"model": 2, "off": 0}),
    (protocol.CAPTURE_STATUS, {}),
    (protocol.CAPTURE_DATA, {"least": 0, "off": 0}),
    (protocol.CAPTURE_ACK, {"boot": 1, "seq": 0}),
    (protocol.RESET_STATISTICS, {}),
]


def piece(command: Command, values: dict[str, object], sequence: int) -> bytes:
    message = pack_request(command, sequence, values)
    return bytes([len(message)]) + message


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One conversation a file: each command alone, and all of them in random orders."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(3)
    for number, (command, values) in enumerate(SEEDS):
        (folder / f"one{number}").write_bytes(piece(command, values, number))
    for number in range(20):
        order = rng.choices(SEEDS, k=30)
        talk = b"".join(piece(command, values, at) for at, (command, values) in enumerate(order))
        (folder / f"all{number}").write_bytes(talk + bytes([0xF3, 40]) + rng.randbytes(40))
    return folder


@pytest.fixture(scope="module")
def fuzzer(codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [*agent_sources(), BOARD / "fuzz_agent.c", BOARD / "mock_models.c"]
    out = tmp_path_factory.mktemp("fuzz") / "fuzz_agent"
    return compile_c("clang", sources, codec, out, *SANITIZE, "-fsanitize=fuzzer")


def fuzz(program: Path, corpus: Path, seconds: int, folder: Path) -> int:
    """Runs for so long; returns the edges covered. A finding fails the test with its report."""
    command = [str(program), f"-max_total_time={seconds}", "-max_len=4096", "-timeout=5", "-seed=1"]
    done = subprocess.run(
        [*command, "-print_final_stats=1", f"-artifact_prefix={folder}/", str(corpus)],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return max(int(found) for found in re.findall(r"cov: (\d+)", done.stderr))


def test_no_finding_in_a_short_run(fuzzer: Path, corpus: Path, tmp_path: Path) -> None:
    assert fuzz(fuzzer, corpus, 5, tmp_path) > 300


@pytest.mark.slow
def test_no_finding_in_a_long_run(fuzzer: Path, corpus: Path, tmp_path: Path) -> None:
    assert fuzz(fuzzer, corpus, 180, tmp_path) > 300
