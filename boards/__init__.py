"""Boards and cores as data."""

from __future__ import annotations

from intaglio.boards.board import Board, board_names, load_board
from intaglio.boards.cores import CORES, Core

__all__ = ["CORES", "Board", "Core", "board_names", "load_board"]
