"""docs/boards.md, docs/firmware.md and docs/add-a-board.md say what the files and the schema say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from intaglio.boards import board as schema
from intaglio.boards import board_names, load_board
from intaglio.boards.board import Board, parse_board

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str) -> dict[str, list[str]]:
    """The table rows of a page by their first cell."""
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


def test_the_table_names_every_board_and_no_other() -> None:
    assert sorted(rows("boards.md")) == list(board_names())


@pytest.mark.parametrize("name", board_names())
def test_the_table_s_row_is_that_of_the_file(name: str) -> None:
    board = load_board(name)
    core, flash, ram, line, simulated, flashed = rows("boards.md")[name]
    assert core == board.core.name
    assert [int(cell.removesuffix(" KB").replace(",", "")) * 1024 for cell in (flash, ram)] == [
        board.flash_bytes,
        board.ram_bytes,
    ]
    assert line.endswith(f", window {board.serial.rx_window}")
    assert simulated == ticked({"QEMU": board.simulators.qemu, "Renode": board.simulators.renode}, " ")
    ways = {"pyOCD": board.program.pyocd, "OpenOCD": board.program.openocd, "volume": board.program.volume}
    assert flashed == ticked(ways, ", ")


def ticked(things: dict[str, object], separator: str) -> str:
    """The names of those that there are, `-` for none."""
    return separator.join(name for name, there in things.items() if there) or "-"


def test_the_example_is_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "add-a-board.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```", page, re.S | re.M)
    assert tomllib.loads(block)["inherits"] == "chips/stm32f4"
    (tmp_path / "chips").mkdir()
    for chip in (schema.BOARDS_DIR / "chips").iterdir():
        (tmp_path / "chips" / chip.name).write_bytes(chip.read_bytes())
    (tmp_path / "example.toml").write_text(block, encoding="utf-8")
    monkeypatch.setattr(schema, "BOARDS_DIR", tmp_path)
    example = load_board("example")
    assert example.memory.flash.origin == 0x0800_0000
    assert example.flash_bytes == 0x8_0000
    assert example.serial.driver == "stm32_usart_v1"


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of the schema, dotted, down to the tables that have none below."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        inner = [t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(t, type)]
        table = next((t for t in inner if issubclass(t, BaseModel) and t.__name__ not in ("Region", "Step")), None)
        found += keys(table, f"{key}.") if table is not None else [key]
    return found


@pytest.mark.parametrize("key", [key for key in keys(Board) if key != "name"])
def test_every_key_is_described_in_its_section(key: str) -> None:
    table, _, name = key.partition(".")
    page = (DOCS / "add-a-board.md").read_text(encoding="utf-8")
    section = re.search(rf"^### `\[{table}\]`$(.*?)^##", page, re.S | re.M) if name else None
    text = section[1] if section else page
    assert (section is not None) == bool(name)
    assert all(re.search(rf"`[^`]*\b{word}\b", text) for word in (name or table).split("."))


def test_every_driver_is_described() -> None:
    text = (DOCS / "firmware.md").read_text(encoding="utf-8")
    for drivers in (schema.SerialDriver, schema.TimeDriver, schema.WatchdogDriver):
        for driver in drivers.__args__:
            assert f"`{driver}`" in text


def test_a_parsed_board_keeps_its_name() -> None:
    data = load_board("microbit").model_dump(by_alias=True)
    assert parse_board("other", data).name == "other"
