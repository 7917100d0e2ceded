"""The boards' data: they load, what they name exists, the serial line has the right speed, errors are one line."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intaglio.boards import board as module
from intaglio.boards.board import BOARDS_DIR, Board, board_names, load_board
from intaglio.boards.cores import CORES
from intaglio.host.cli import run
from intaglio.quantizer.errors import BoardError

FIRMWARE = BOARDS_DIR.parent / "firmware"
QEMU = [
    "microbit",
    "stm32vldiscovery",
    "lm3s6965evb",
    "netduinoplus2",
    "mps2_an385",
    "mps2_an386",
    "mps2_an500",
    "mps2_an505",
    "mps3_an547",
]
FLASHED = [
    "stm32f4_discovery",
    "stm32f072b_discovery",
    "bluepill_f103",
    "nucleo_l073rz",
    "stm32f746g_disco",
    "nucleo_h753zi",
    "nrf52840dk",
    "arduino_nano_33_ble",
    "nucleo_f411re",
    "rpi_pico",
]


def test_every_board_is_there() -> None:
    assert {*QEMU, *FLASHED} <= set(board_names())
    assert {load_board(name).core_name for name in board_names()} == set(CORES)
    for name in QEMU:
        assert load_board(name).simulators.qemu is not None, name


@pytest.mark.parametrize("name", board_names())
def test_every_driver_is_there(name: str) -> None:
    board = load_board(name)
    for driver in (
        f"serial_{board.serial.driver}",
        f"time_{board.time.driver}",
        f"watchdog_{board.watchdog.driver}",
    ):
        assert (FIRMWARE / "hal" / f"{driver}.c").is_file(), driver
    if board.boot is not None:
        assert (FIRMWARE / "boot" / board.boot.source).is_file()


@pytest.mark.parametrize("name", FLASHED)
def test_every_real_board_can_be_flashed(name: str) -> None:
    program = load_board(name).program
    assert program.pyocd or program.openocd


@pytest.mark.parametrize("name", [name for name in board_names() if load_board(name).program.pyocd])
def test_pyocd_has_the_target_without_a_pack(name: str) -> None:
    """A target of a CMSIS pack would need the network the first time; those boards name OpenOCD alone."""
    from pyocd.target import TARGET

    board = load_board(name)
    target = TARGET[board.program.pyocd]
    flash = [region for region in target.MEMORY_MAP if region.is_flash]
    assert any(region.start <= board.memory.flash.origin <= region.end for region in flash)


# Runs before `init`, which is what opens the probe: the banks and the processors that the scripts declare.
LISTING = """
foreach bank [flash list] { echo "bank $bank" }
foreach target [target names] { echo "core [$target cget -type]" }
shutdown
"""


@pytest.mark.parametrize("name", [name for name in board_names() if load_board(name).program.openocd])
def test_openocd_reads_the_scripts(name: str) -> None:
    board = load_board(name)
    program = shutil.which("openocd")
    assert program is not None, "apt-get install openocd"
    files = [word for script in board.program.openocd for word in ("-f", script)]
    done = subprocess.run([program, *files, "-c", LISTING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    cores = re.findall(r"^core (\w+)$", done.stderr, re.M)
    assert cores
    assert set(cores) <= {"cortex_m", "hla_target"}, "hla_target: an ST-Link drives the core by itself"
    banks = re.findall(r"^bank name \S+ driver (\w+) base (\d+) ", done.stderr, re.M)
    # An STM32's bank that says 0 is where the chip's own register puts it.
    origins = {0x0800_0000 if base == "0" and driver.startswith("stm32") else int(base) for driver, base in banks}
    assert board.memory.flash.origin in origins


def achieved_baud(board: Board) -> float:
    """Bits per second that the driver's divisor gives, by the formula of the peripheral's manual."""
    hz, baud = board.serial.clock_hz or board.clock.hz, board.serial.baud
    if board.serial.driver.startswith("nrf"):
        setting = ((baud << 32) // 16_000_000 + 0x800) & 0xFFFF_F000
        return setting * 16_000_000 / 2**32
    if board.serial.driver == "pl011":
        return hz * 4 / ((hz * 4 + baud // 2) // baud)
    divisor = hz // baud if board.serial.driver == "cmsdk_uart" else (hz + baud // 2) // baud
    return hz / divisor


@pytest.mark.parametrize("name", board_names())
def test_the_serial_line_has_its_speed(name: str) -> None:
    """8N1 samples the tenth bit in its middle: both sides together may be off by 5 %; the crystal takes its share."""
    board = load_board(name)
    assert abs(achieved_baud(board) / board.serial.baud - 1) < 0.02


@pytest.mark.parametrize("name", board_names())
def test_the_watchdog_outlasts_its_counter(name: str) -> None:
    watchdog = load_board(name).watchdog
    ticks = watchdog.clock_hz * watchdog.period_ms // 1000
    widest = {"nrf_wdt": 2**32, "sp805": 2**33, "rp2040_watchdog": 2**24 // 2, "none": ticks + 1}
    if watchdog.driver == "stm32_iwdg":
        assert ticks // 256 <= 0xFFF, "longer than the counter with its largest prescaler"
    else:
        assert ticks < widest[watchdog.driver]


@pytest.mark.parametrize(
    ("wanted", "near"),
    [("microbitt", "microbit"), ("nrf52840-dk", "nrf52840dk"), ("MPS2-AN385", "mps2_an385"), ("pico", "rpi_pico")],
)
def test_an_unknown_board_names_the_nearest(wanted: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BoardError, match=f"there is no such board; did you mean .*{near}"):
        load_board(wanted)
    assert run(["build", "--board", wanted]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"intaglio: board '{wanted}': there is no such board; did you mean ")


def test_a_board_like_no_other_lists_them_all() -> None:
    with pytest.raises(BoardError, match=r"the boards are arduino_nano_33_ble, .*, stm32vldiscovery"):
        load_board("zzzz")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of boards of its own."""
    for path in BOARDS_DIR.glob("chips/*.toml"):
        (tmp_path / "chips").mkdir(exist_ok=True)
        (tmp_path / "chips" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "good.toml").write_bytes((BOARDS_DIR / "microbit.toml").read_bytes())
    monkeypatch.setattr(module, "BOARDS_DIR", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", r"is not valid TOML: Invalid value \(at end of document\)"),
        ('inherits = "chips/none"', "inherits 'chips/none', and there is no boards/chips/none.toml"),
        ('inherits = "bad"', "inherits itself"),
        ('inherits = "good"\ncolour = "red"', "colour: Extra inputs are not permitted"),
        ('inherits = "good"\ncore = "cortex-m9"', "core 'cortex-m9' is none of cortex-m0"),
        ('inherits = "good"\n[serial]\nrx_window = 1000', "serial: .*rx_window 1000 is not a power of two"),
        ('inherits = "good"\n[serial]\ndriver = "usb"', "serial.driver: Input should be 'cmsdk_uart'"),
        (
            'inherits = "good"\n[memory]\nflash = { origin = 1, length = 0x1_0000_0000 }',
            "memory.flash: .*beyond the 32",
        ),
        ('inherits = "good"\n[memory]\nram = { length = -1 }', "memory.ram.length: Input should be greater than 0"),
        ('inherits = "good"\n[clock]\nsetup = [{ value = 1, why = "what" }]', "exactly one of reg and until"),
        ('inherits = "good"\n[clock]\nsetup = [{ reg = 2, why = "what" }]', "address 0x2 is not a multiple of 4"),
        (
            'inherits = "good"\n[clock]\nsetup = [{ reg = 4, mask = 1, value = 2, why = "what" }]',
            "value 0x2 has bits outside mask 0x1",
        ),
        ('title = "x"', "core: Field required"),
    ],
)
def test_a_wrong_file_is_one_line(text: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.toml").write_text(text)
    with pytest.raises(BoardError, match=message) as caught:
        load_board("bad")
    assert str(caught.value).startswith("boards/bad.toml: ")
    assert run(["build", "--board", "bad"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_file_that_is_not_text_is_one_line(folder: Path) -> None:
    (folder / "bad.toml").write_bytes(b"title = '\xff\xfe'")
    with pytest.raises(BoardError, match=r"boards/bad.toml: is not UTF-8"):
        load_board("bad")


def test_tables_are_merged_and_lists_replaced(folder: Path) -> None:
    (folder / "child.toml").write_text('inherits = "good"\n[serial]\nrx_window = 1024\n[clock]\nsetup = []')
    parent, child = load_board("good"), load_board("child")
    assert (child.serial.rx_window, child.serial.base) == (1024, parent.serial.base)
    assert (len(parent.clock.setup), child.clock.setup) == (2, ())


def data_of(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The merged tables of the micro:bit, changed."""
    data = module._merged("microbit", ())
    change(data)
    return data


@pytest.mark.parametrize("key", ["title", "core", "memory", "clock", "serial", "mcu", "vendor", "url"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(BoardError, match=f"boards/x.toml: {key}: Field required"):
        module.parse_board("x", data_of(lambda data: data.pop(key)))


WITH_SLOTS = [name for name in board_names() if load_board(name).slots is not None]


@pytest.mark.parametrize("name", WITH_SLOTS)
def test_slots_are_whole_pages_behind_the_program(name: str) -> None:
    board = load_board(name)
    slots = board.slots
    assert slots is not None
    assert (FIRMWARE / "hal" / f"flash_{slots.driver}.c").is_file()
    flash, program = board.memory.flash, board.program_flash
    assert program.origin == flash.origin
    assert program.end == slots.origin
    assert program.length >= 64 << 10
    for region in (slots.journal, *slots.regions):
        assert program.end <= region.origin
        assert region.end <= flash.end
        assert region.origin % slots.page == region.length % slots.page == 0
    assert board.without_slots().program_flash == flash


def _with_slots(**changes: Any) -> dict[str, Any]:
    slots = {
        "driver": "nrf_nvmc",
        "page": 1024,
        "journal": {"origin": 0x1_B000, "length": 0x1000},
        "regions": [{"origin": 0x1_C000, "length": 0xC000}, {"origin": 0x2_8000, "length": 0xC000}],
    }
    return load_board("microbit").model_dump(by_alias=True, exclude={"name"}) | {"slots": slots | changes}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"page": 1000}, "page 1000 is not a power of two"),
        ({"journal": {"origin": 0x1_B000, "length": 0x400}}, "journal is shorter than two pages"),
        ({"journal": {"origin": 0x1_B200, "length": 0x800}}, "not whole pages of 1024 bytes"),
        ({"journal": {"origin": 0x1_B800, "length": 0x1000}}, "overlaps 0x1c000"),
        ({"journal": {"origin": 0, "length": 0x1000}}, "outside the flash, or at its beginning"),
        ({"regions": [{"origin": 0x1_C000, "length": 0xC000}]}, "regions"),
        (
            {"regions": [{"origin": 0x1_C000, "length": 0xC000}, {"origin": 0x4_0000, "length": 0xC000}]},
            "outside the flash",
        ),
        ({"driver": "nand"}, "driver"),
    ],
)
def test_slots_that_cannot_be_are_one_line(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(BoardError, match=what) as caught:
        module.parse_board("wrong", _with_slots(**changes))
    assert "\n" not in str(caught.value)
    assert module.parse_board("right", _with_slots()).slots is not None
