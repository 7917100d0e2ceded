from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from agent_bench import BOARD, SANITIZE, MockBoard, agent_sources, codec_in, compile_c


@pytest.fixture(scope="session")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return codec_in(tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="session")
def program(codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("board") / "mock_board"
    sources = [*agent_sources(), BOARD / "mock_board.c", BOARD / "mock_models.c"]
    return compile_c("gcc", sources, codec, out, *SANITIZE)


@pytest.fixture
def board(program: Path) -> Iterator[MockBoard]:
    running = MockBoard(program)
    yield running
    running.close()
