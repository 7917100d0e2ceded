"""PlatformIO's view of the boards: what a board is stands in `boards/*.toml`, and nothing is downloaded.

PlatformIO's Python needs the `intaglio` package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from platformio.platform.base import PlatformBase

from intaglio.boards.board import board_names, load_board
from intaglio.host.build import board_manifest


class IntaglioPlatform(PlatformBase):  # type: ignore[misc]  # PlatformIO has no types
    """A development platform without packages: the compiler is the system's."""

    def get_boards(self, id_: str | None = None) -> Any:
        """Write the manifests that PlatformIO reads, where a build has not brought its own."""
        folder = Path(self.config.get("platformio", "boards_dir"))
        folder.mkdir(parents=True, exist_ok=True)
        for name in board_names() if id_ is None else {id_} & {*board_names()}:
            path = folder / f"{name}.json"
            if not path.exists() or "intaglio" not in json.loads(path.read_text(encoding="utf-8")):
                path.write_text(json.dumps(board_manifest(load_board(name))), encoding="utf-8")
        return super().get_boards(id_)
