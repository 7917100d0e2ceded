"""The hardware suite (renode/hardware.robot): on QEMU by Robot Framework, on Renode where renode-test is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from intaglio.boards.board import board_names, load_board

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "renode" / "hardware.robot"
BOARDS = {name: load_board(name) for name in board_names()}
IN_QEMU = [name for name, board in BOARDS.items() if board.simulators.qemu]
IN_RENODE = [name for name, board in BOARDS.items() if board.simulators.renode]
USUAL = ("microbit", "mps2_an385", "netduinoplus2", "mps2_an505", "mps3_an547")
TESTS = 6
TIMEOUT_S = 280
RENODE = shutil.which("renode-test")

MODELS = {
    "cmsdk_uart": "UART.CMSDK_APB_UART",
    "nrf_uarte": "UART.NRF52840_UART",
    "stm32_usart_v1": "UART.STM32_UART",
    "stm32_usart_v2": "UART.STM32F7_USART",
}

# Signatures of Renode 1.15.3's keywords: tests/renode-keywords.robot and src/Renode/RobotFrameworkEngine.
RENODE_KEYWORDS = """*** Keywords ***
Setup
    No Operation

Teardown
    No Operation

Save Test Log
    No Operation

Reset Emulation
    No Operation

Start Emulation
    No Operation

Clear Cached Log
    No Operation

Execute Command
    [Arguments]    ${command}    ${machine}=
    No Operation

Execute Script
    [Arguments]    ${path}
    No Operation
"""


def passed_and_other(output: Path) -> tuple[int, int]:
    """The tests of a Robot Framework run that passed, and those that failed or were skipped."""
    states = [state.get("status") for state in ElementTree.parse(output).getroot().iterfind(".//test/status")]
    return states.count("PASS"), len(states) - states.count("PASS")


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm: apt-get install qemu-system-arm")
@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")
@pytest.mark.parametrize(
    "board", [pytest.param(name, marks=[] if name in USUAL else [pytest.mark.slow]) for name in IN_QEMU]
)
def test_board_in_qemu(board: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "robot", "--outputdir", str(tmp_path)]
    variables = ["--variable", "SIMULATOR:qemu", "--variable", f"BOARDS:{board}"]
    done = subprocess.run(
        [*command, *variables, str(SUITE)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert passed_and_other(tmp_path / "output.xml") == (TESTS, 0)


@pytest.mark.slow
@pytest.mark.skipif(RENODE is None, reason="renode-test: install Renode 1.15.3 from renode.io")
@pytest.mark.parametrize("board", IN_RENODE)
def test_board_in_renode(board: str, tmp_path: Path) -> None:
    command = ["renode-test", "-r", str(tmp_path), "--variable", f"BOARDS:{board}", str(SUITE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert passed_and_other(tmp_path / "robot_output.xml") == (TESTS, 0)


@pytest.mark.parametrize("simulator", ["qemu", "renode"])
def test_every_keyword_of_the_suite_exists(simulator: str, tmp_path: Path) -> None:
    keywords = tmp_path / "renode-keywords.resource"
    keywords.write_text(RENODE_KEYWORDS)
    command = [sys.executable, "-m", "robot", "--dryrun", "--outputdir", str(tmp_path)]
    variables = ["--variable", f"SIMULATOR:{simulator}", "--variable", f"RENODEKEYWORDS:{keywords}"]
    done = subprocess.run(
        [*command, *variables, str(SUITE)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "[ WARN ]" not in done.stderr
    assert "[ ERROR ]" not in done.stderr


def test_the_suite_names_every_board_of_renode() -> None:
    (words,) = re.findall(r"^\$\{BOARDS\}([^*]*)", SUITE.read_text(), re.MULTILINE)
    assert sorted(words.replace("...", " ").split()) == sorted(IN_RENODE)


@pytest.mark.parametrize("name", IN_RENODE)
def test_renode_platform_agrees_with_the_board(name: str) -> None:
    board = BOARDS[name]
    renode = board.simulators.renode
    assert renode is not None
    platform = (ROOT / "renode" / f"{name}.repl").read_text()
    script = (ROOT / "renode" / f"{name}.resc").read_text()

    assert renode.platform == f"{name}.repl" or f'using "{renode.platform}"' in platform
    assert f"systickFrequency: {board.clock.hz}\n" in platform
    assert f"PerformanceInMips: {board.clock.hz // 1_000_000}\n" in platform
    assert ("Miscellaneous.DWT" in platform) == board.core.thumb2
    if "Miscellaneous.DWT" in platform:
        assert f"frequency: {board.clock.hz}\n" in platform.split("Miscellaneous.DWT")[1]

    assert f"machine LoadPlatformDescription $ORIGIN/{name}.repl\n" in script
    assert f"connector Connect sysbus.{renode.uart} line\n" in script
    assert f"cpu VectorTableOffset 0x{board.memory.flash.origin:08X}\n" in script

    watchdog = re.search(r"^iwdg: .* @ sysbus (0x[0-9A-F]+)\n    frequency: (\d+)\n", platform, re.M)
    if watchdog is not None:
        assert (int(watchdog[1], 16), int(watchdog[2])) == (board.watchdog.base, board.watchdog.clock_hz)


@pytest.mark.skipif(RENODE is None, reason="renode-test: install Renode 1.15.3 from renode.io")
@pytest.mark.parametrize("name", IN_RENODE)
def test_serial_port_of_renode_s_platform_is_the_board_s(name: str) -> None:
    assert RENODE is not None
    board = BOARDS[name]
    renode = board.simulators.renode
    assert renode is not None
    platform = whole_platform(ROOT / "renode" / f"{name}.repl", Path(RENODE).resolve().parent)

    port = re.search(rf"^{renode.uart}: (UART\.\w+) @ sysbus <?(0x[0-9A-Fa-f]+)", platform, re.M)
    assert port is not None
    assert (port[1], int(port[2], 16)) == (MODELS[board.serial.driver], board.serial.base)
    # What registers are called is downloaded, unless the board's own file replaces the step.
    assert "ApplySVD" not in platform or "sysbus:\n    init:\n" in (ROOT / "renode" / f"{name}.repl").read_text()


def whole_platform(path: Path, root: Path) -> str:
    """A platform's description with those that it uses, wherever they lie."""
    text = path.read_text(encoding="utf-8-sig")
    used = re.findall(r'^using "(.*)"', text, re.M)
    return text + "".join(whole_platform((path.parent if u.startswith(".") else root) / u, root) for u in used)


@pytest.mark.parametrize("name", [n for n in IN_RENODE if n.startswith("mps2")])
def test_own_platforms_have_the_board_s_addresses(name: str) -> None:
    board = BOARDS[name]
    platform = (ROOT / "renode" / f"{name}.repl").read_text()
    assert f'cpuType: "{board.core.name}"' in platform
    for label, region in (("flash", board.memory.flash), ("ram", board.memory.ram)):
        assert memory(platform, label) == (region.origin, region.length)
    assert memory(platform, "watchdog")[0] == board.watchdog.base
    line = re.search(r"uart0: UART\.CMSDK_APB_UART @ sysbus (0x[0-9A-F]+)\s+.*\s+RxInterrupt -> nvic@(\d+)", platform)
    assert line is not None
    assert (int(line[1], 16), int(line[2])) == (board.serial.base, board.serial.irq)


def memory(platform: str, label: str) -> tuple[int, int]:
    found = re.search(rf"^{label}: Memory\.MappedMemory @ sysbus (0x[0-9A-F]+)\s+size: (0x[0-9A-F]+)", platform, re.M)
    assert found is not None, label
    return int(found[1], 16), int(found[2], 16)
