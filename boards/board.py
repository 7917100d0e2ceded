"""What a board is: the schema of `boards/*.toml`, and how they are read.

A board is data. `inherits = "chips/nrf51822"` (a path below `boards/`, without `.toml`) takes another file's tables
and lays its own over them: tables are merged key by key, everything else (lists too) is replaced.
"""

from __future__ import annotations

import difflib
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from intaglio.boards.cores import CORES, Core
from intaglio.quantizer.errors import BoardError

BOARDS_DIR = Path(__file__).resolve().parent

# A mark, a checksum, two lengths, the signature and the longest manifest: struct envelope of firmware/slots/slots.h.
_ENVELOPE_BYTES = 16 + 64 + 1024

Word = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
Irq = Annotated[int, Field(ge=0, le=479)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(_Table):
    """An address range: `origin` in bytes, `length` in bytes."""

    origin: Word
    length: Annotated[int, Field(gt=0, le=1 << 32)]

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.origin + self.length

    @model_validator(mode="after")
    def _ends_in_the_address_space(self) -> Region:
        if self.origin + self.length > 1 << 32:
            raise ValueError(f"ends at {self.origin + self.length:#x}, beyond the 32-bit address space")
        return self


class Step(_Table):
    """One access of a set-up sequence, as the chip's manual describes it.

    With `reg`: the bits of `mask` become those of `value`, the others are kept (`mask` all ones: a plain write, no
    read before it). With `until`: poll that register until its bits under `mask` equal `value`.
    """

    reg: Word | None = None
    until: Word | None = None
    mask: Word = 0xFFFF_FFFF
    value: Word = 0
    why: str = Field(min_length=3)

    @model_validator(mode="after")
    def _one_access(self) -> Step:
        if (self.reg is None) == (self.until is None):
            raise ValueError("takes exactly one of reg and until")
        if self.value & ~self.mask & 0xFFFF_FFFF:
            raise ValueError(f"value {self.value:#x} has bits outside mask {self.mask:#x}")
        if self.address % 4:
            raise ValueError(f"address {self.address:#x} is not a multiple of 4")
        return self

    @property
    def address(self) -> int:
        """The register's address."""
        return self.reg if self.reg is not None else self.until or 0


class Memory(_Table):
    """Where the program and its data live."""

    flash: Region
    ram: Region


class Clock(_Table):
    """The core's clock once `setup` has run, in Hz."""

    hz: Annotated[int, Field(ge=1_000_000, le=1_000_000_000)]
    setup: tuple[Step, ...] = ()


SerialDriver = Literal["cmsdk_uart", "nrf_uart", "nrf_uarte", "pl011", "stm32_usart_v1", "stm32_usart_v2"]
TimeDriver = Literal["systick", "nrf_timer"]
WatchdogDriver = Literal["none", "nrf_wdt", "sp805", "stm32_iwdg", "rp2040_watchdog"]
FlashDriver = Literal["nrf_nvmc", "stm32f4_flash", "ram"]


class Serial(_Table):
    """The serial line to the host, 8N1.

    Attributes:
        driver: the peripheral IP; `firmware/hal/serial_<driver>.c`.
        base, irq: its address and its (receive) interrupt.
        clock_hz: of the peripheral, Hz; the core's clock when absent.
        baud: bits per second.
        rx_window: bytes that the receive ring holds, a power of two.
        parameters: what else the driver wants, as `HAL_SERIAL_<NAME>` in C.
        setup: pins and clock gates, run before the driver starts.
    """

    driver: SerialDriver
    base: Word
    irq: Irq
    clock_hz: int | None = None
    baud: Annotated[int, Field(ge=1200, le=4_000_000)] = 115_200
    rx_window: Annotated[int, Field(ge=256, le=65_536)] = 2048
    parameters: dict[str, Word] = {}
    setup: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _power_of_two(self) -> Serial:
        if self.rx_window & (self.rx_window - 1):
            raise ValueError(f"rx_window {self.rx_window} is not a power of two")
        return self


class Time(_Table):
    """The clock behind `hal_time_us`: SysTick, or a timer peripheral with its address and interrupt."""

    driver: TimeDriver = "systick"
    base: Word = 0xE000_E010
    irq: Irq | None = None


class Watchdog(_Table):
    """The watchdog.

    Attributes:
        driver: the peripheral IP; `firmware/hal/watchdog_<driver>.c`.
        base: its address.
        irq: the interrupt by which it warns before it resets, where that is not the NMI.
        clock_hz: of its counter, Hz.
        period_ms: until it resets a chip that nothing feeds.
        setup: clock gates, run before it starts.
    """

    driver: WatchdogDriver = "none"
    base: Word = 0
    irq: Irq | None = None
    clock_hz: Annotated[int, Field(gt=0)] = 32_768
    period_ms: Annotated[int, Field(ge=100, le=120_000)] = 20_000
    setup: tuple[Step, ...] = ()


class Slots(_Table):
    """Where models that are loaded at run time live, and how that memory is programmed.

    Attributes:
        driver: the flash controller; `firmware/hal/flash_<driver>.c`. `ram`: memory that a reset does not clear.
        base: the controller's address.
        page: the unit of erasure, bytes.
        journal: pages of the log of what is loaded; it needs two, so that one is whole while the other is rewritten.
        regions: one per slot, in whole pages, executed in place.
    """

    driver: FlashDriver
    base: Word = 0
    page: Annotated[int, Field(ge=256, le=0x4_0000)]
    journal: Region
    regions: Annotated[tuple[Region, ...], Field(min_length=2, max_length=8)]

    @model_validator(mode="after")
    def _whole_pages_apart(self) -> Slots:
        if self.page & (self.page - 1):
            raise ValueError(f"page {self.page} is not a power of two")
        if self.journal.length < 2 * self.page:
            raise ValueError("journal is shorter than two pages")
        spans = sorted((self.journal, *self.regions), key=lambda region: region.origin)
        for region in spans:
            if region.origin % self.page or region.length % self.page:
                raise ValueError(f"{region.origin:#x}, {region.length:#x} bytes: not whole pages of {self.page} bytes")
        for region, following in pairwise(spans):
            if region.end > following.origin:
                raise ValueError(f"{region.origin:#x}, {region.length:#x} bytes: overlaps {following.origin:#x}")
        return self

    @property
    def envelope_bytes(self) -> int:
        """Bytes at the end of each slot for the signed manifest of its model; whole pages where a slot has several."""
        pages = -(-_ENVELOPE_BYTES // self.page) * self.page
        return pages if pages < min(region.length for region in self.regions) else _ENVELOPE_BYTES

    @property
    def origin(self) -> int:
        """The lowest address of all."""
        return min(region.origin for region in (self.journal, *self.regions))


class UniqueId(_Table):
    """The chip's unique id in its address space."""

    address: Word
    length: Annotated[int, Field(ge=4, le=32)]


class Qemu(_Table):
    """The QEMU machine that runs the board's ELF; its first serial port is the board's.

    Attributes:
        machine: as `-M` spells it.
        systick_hz: where QEMU does not model the clock tree and SysTick runs at another speed than the core's clock
            on the board, that speed: time in the simulation runs so much too fast.
    """

    machine: str
    systick_hz: Annotated[int, Field(gt=0)] | None = None


class Renode(_Table):
    """The Renode platform (a path that Renode knows, or one in `renode/`), and the serial port in it."""

    platform: str
    uart: str


class Simulators(_Table):
    """What simulates the board."""

    qemu: Qemu | None = None
    renode: Renode | None = None


class Program(_Table):
    """How the board is flashed: any of a pyOCD target, OpenOCD configuration files, a mass-storage volume."""

    pyocd: str | None = None
    openocd: tuple[str, ...] = ()
    volume: str | None = None


class Boot(_Table):
    """A second-stage loader that the boot ROM copies from the start of flash and checks.

    Attributes:
        source: its file in `firmware/boot/`.
        length: bytes it takes of flash, checksum included; the vector table follows.
    """

    source: str
    length: Annotated[int, Field(ge=64, le=4096)]


class Board(_Table):
    """One board, as `boards/<name>.toml` describes it."""

    name: str
    title: str
    core_name: Annotated[str, Field(alias="core")]
    vendor: str
    url: str
    mcu: str
    memory: Memory
    clock: Clock
    serial: Serial
    time: Time = Time()
    watchdog: Watchdog = Watchdog()
    slots: Slots | None = None
    unique_id: UniqueId | None = None
    simulators: Simulators = Simulators()
    program: Program = Program()
    boot: Boot | None = None
    stack_bytes: Annotated[int, Field(ge=512, multiple_of=8)] = 2048

    @model_validator(mode="after")
    def _core_exists(self) -> Board:
        if self.core_name not in CORES:
            raise ValueError(f"core {self.core_name!r} is none of {', '.join(CORES)}")
        return self

    @model_validator(mode="after")
    def _slots_end_the_flash(self) -> Board:
        if self.slots is not None:
            flash = self.memory.flash
            if not all(
                flash.origin < region.origin and region.end <= flash.end
                for region in (self.slots.journal, *self.slots.regions)
            ):
                raise ValueError("slots: a region lies outside the flash, or at its beginning")
        return self

    @property
    def core(self) -> Core:
        """The processor core."""
        return CORES[self.core_name]

    def without_slots(self) -> Board:
        """The same board, all of whose flash is the program's."""
        return self.model_copy(update={"slots": None})

    @property
    def program_flash(self) -> Region:
        """The flash that the firmware itself may fill: up to the slots, where the board has any."""
        flash = self.memory.flash
        end = flash.end if self.slots is None else self.slots.origin
        return Region(origin=flash.origin, length=end - flash.origin)

    @property
    def flash_bytes(self) -> int:
        """Bytes of flash."""
        return self.memory.flash.length

    @property
    def ram_bytes(self) -> int:
        """Bytes of RAM."""
        return self.memory.ram.length


def board_names() -> tuple[str, ...]:
    """The names of all boards, sorted."""
    return tuple(sorted(path.stem for path in BOARDS_DIR.glob("*.toml")))


def load_board(name: str) -> Board:
    """Read `boards/<name>.toml` and what it inherits.

    Raises:
        BoardError: no such board (the message names the nearest), or its data are invalid.
    """
    if name not in board_names():
        near = difflib.get_close_matches(name.lower().replace("-", "_"), board_names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the boards are {', '.join(board_names())}"
        raise BoardError(f"board {name!r}", "there is no such board", hint)
    return parse_board(name, _merged(name, ()))


def parse_board(name: str, data: dict[str, Any]) -> Board:
    """Validate a board's merged tables.

    Raises:
        BoardError: the first thing that is wrong, with its key.
    """
    try:
        return Board.model_validate({**data, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the board"
        raise BoardError(
            f"boards/{name}.toml", f"{key}: {first['msg']}", "docs/add-a-board.md describes every key"
        ) from None


def _merged(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    path = BOARDS_DIR / f"{name}.toml"
    if name in seen:
        raise BoardError(f"boards/{name}.toml", f"inherits itself ({' -> '.join((*seen, name))})", "break the circle")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BoardError(
            f"boards/{seen[-1]}.toml", f"inherits {name!r}, and there is no boards/{name}.toml", "correct `inherits`"
        ) from None
    except UnicodeDecodeError as error:
        raise BoardError(f"boards/{name}.toml", f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"boards/{name}.toml", f"is not valid TOML: {error}", "correct that line") from None
    parent = data.pop("inherits", None)
    return _overlay(_merged(parent, (*seen, name)), data) if parent is not None else data


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
