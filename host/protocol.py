"""The wire protocol: one table of versions, commands and reasons, messages, and the codec of the device.

A message is the 8-byte header of SMP version 2 (the Simple Management Protocol of MCUmgr: operation and
version, flags, length, group, sequence number, command id; big-endian) and one CBOR map, described in
`protocol.cddl`.
The agent's constants and codec are generated from the table here and that file (`codecgen`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from intaglio.host.schema import Message, MessageError, load_schema

WIRE_VERSION = 1
PACKAGE_VERSION = 1
ABI_VERSION = 1  # of struct intaglio_model; a test compares it with the template of the header
LABEL_BYTES = 64  # `label` of protocol.cddl
HEADER = struct.Struct(">BBHHBB")
_VERSION_2 = 1 << 3
_OP_MASK, _VERSION_MASK = 0x07, 0x18


class Group(IntEnum):
    """SMP leaves the groups from 64 up to applications."""

    DEVICE = 64
    MODEL = 65
    CAPTURE = 66


class Op(IntEnum):
    """Operations of SMP; an answer's is its request's + 1. A device that speaks unasked sends WRITE."""

    READ = 0
    READ_ANSWER = 1
    WRITE = 2
    WRITE_ANSWER = 3


class Reason(IntEnum):
    """Why a device refuses a request: `rc` of the error response."""

    OK = 0
    UNKNOWN = 1
    MALFORMED = 2
    UNSUPPORTED = 3
    NOT_FOUND = 4
    OFFSET = 5
    MODEL_FAILED = 6
    OTHER_BOOT = 7
    BUSY = 8
    TAKEN = 9
    FLASH = 10
    NO_PACKAGE = 11
    UNTRUSTED = 12
    OTHER_BOARD = 13
    OTHER_SLOT = 14
    DAMAGED = 15
    ARENA = 16
    STACK = 17
    ROLLBACK = 18
    TOO_LARGE = 19


REASONS = {
    Reason.OK: "no error",
    Reason.UNKNOWN: "an error inside the agent",
    Reason.MALFORMED: "the message is not what protocol.cddl describes",
    Reason.UNSUPPORTED: "the agent does not know the command",
    Reason.NOT_FOUND: "no such model, tensor, record or output",
    Reason.OFFSET: "not the offset that comes next, or more bytes than the tensors have",
    Reason.MODEL_FAILED: "invoke returned a negative status",
    Reason.OTHER_BOOT: "meant for another boot, or before the first hello of this one",
    Reason.BUSY: "the inputs of a prediction are under way",
    Reason.TAKEN: "the slot's model is loaded, or another model has that name",
    Reason.FLASH: "the flash cannot be erased or programmed",
    Reason.NO_PACKAGE: "the slot holds no whole package",
    Reason.UNTRUSTED: "no key that the firmware trusts has signed the package",
    Reason.OTHER_BOARD: "the package is for another board, core or version of Intaglio",
    Reason.OTHER_SLOT: "the image is linked for another slot",
    Reason.DAMAGED: "the image is not the one that was signed",
    Reason.ARENA: "the model's arena does not fit into the RAM that is left",
    Reason.STACK: "the model needs more stack than the firmware keeps",
    Reason.ROLLBACK: "the package's security counter is lower than that of one loaded before",
    Reason.TOO_LARGE: "the image or the manifest is larger than the slot takes",
}


@dataclass(frozen=True)
class Command:
    """One row of the table: who it is on the wire, and the maps of `protocol.cddl` that it carries.

    Attributes:
        responses: more than one where the answer depends on the request (see the CDDL).
    """

    name: str
    group: Group
    id: int
    op: Op
    request: str
    responses: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """What the device sends unasked, as a WRITE of its own."""

    name: str
    id: int
    body: str


HELLO = Command("hello", Group.DEVICE, 0, Op.WRITE, "hello-request", ("hello-response",))
HEARTBEAT = Command("heartbeat", Group.DEVICE, 1, Op.READ, "nothing", ("heartbeat",))
TIME_GET = Command("time", Group.DEVICE, 2, Op.READ, "nothing", ("time-response",))
TIME_SET = Command("time", Group.DEVICE, 2, Op.WRITE, "time-request", ("time-response",))
CONFIG_GET = Command("config", Group.DEVICE, 3, Op.READ, "nothing", ("config",))
CONFIG_SET = Command("config", Group.DEVICE, 3, Op.WRITE, "config", ("config",))
RESET_STATISTICS = Command("reset statistics", Group.DEVICE, 4, Op.WRITE, "nothing", ("nothing",))
LIST = Command("list", Group.MODEL, 0, Op.READ, "list-request", ("list-response",))
DESCRIBE = Command("describe", Group.MODEL, 1, Op.READ, "describe-request", ("describe-response",))
PREDICT = Command("predict", Group.MODEL, 2, Op.WRITE, "predict-request", ("predict-more", "predict-response"))
OUTPUT = Command("output", Group.MODEL, 3, Op.READ, "output-request", ("output-response",))
SLOT = Command("slot", Group.MODEL, 4, Op.READ, "slot-request", ("slot-response",))
PUT_STATUS = Command("put", Group.MODEL, 5, Op.READ, "slot-request", ("put-status",))
PUT = Command("put", Group.MODEL, 5, Op.WRITE, "put-request", ("put-response",))
LOAD = Command("load", Group.MODEL, 6, Op.WRITE, "load-request", ("load-response",))
UNLOAD = Command("unload", Group.MODEL, 7, Op.WRITE, "unload-request", ("nothing",))
CAPTURE_STATUS = Command("capture status", Group.CAPTURE, 0, Op.READ, "nothing", ("capture-status",))
CAPTURE_DATA = Command("capture data", Group.CAPTURE, 1, Op.READ, "capture-request", ("capture-response",))
CAPTURE_ACK = Command("capture ack", Group.CAPTURE, 2, Op.WRITE, "ack-request", ("ack-response",))

# Known to devices that have model slots.
SLOT_COMMANDS = (SLOT, PUT_STATUS, PUT, LOAD, UNLOAD)

COMMANDS = (
    HELLO,
    HEARTBEAT,
    TIME_GET,
    TIME_SET,
    CONFIG_GET,
    CONFIG_SET,
    RESET_STATISTICS,
    LIST,
    DESCRIBE,
    PREDICT,
    OUTPUT,
    *SLOT_COMMANDS,
    CAPTURE_STATUS,
    CAPTURE_DATA,
    CAPTURE_ACK,
)

EVENTS = (
    Event("heartbeat", 1, "heartbeat"),
    Event("boot event", 5, "boot-event"),
    Event("fault event", 6, "fault-event"),
)

# In the order of `struct hal_fault`.
FAULT_REGISTERS = (
    *("r0", "r1", "r2", "r3", "r12", "lr", "pc", "xpsr", "sp", "exc_return"),
    *("cfsr", "hfsr", "mmfar", "bfar"),
)
FAULT_KINDS = {1: "hard fault", 2: "watchdog", 3: "panic"}


@dataclass(frozen=True)
class Header:
    """The header of a message; `length` is that of the map behind it, in bytes."""

    op: int
    group: int
    sequence: int
    id: int
    length: int


def pack(op: int, group: int, sequence: int, id: int, body: bytes) -> bytes:
    """A message: header and CBOR map."""
    return HEADER.pack(_VERSION_2 | op, 0, len(body), group, sequence, id) + body


def unpack(message: bytes) -> tuple[Header, bytes]:
    """Header and CBOR map of a message.

    Raises:
        MessageError: shorter than a header, another SMP version, or a length that is not that of the rest.
    """
    if len(message) < HEADER.size:
        raise MessageError(f"{len(message)} bytes are less than a header")
    first, _, length, group, sequence, id_ = HEADER.unpack_from(message)
    body = message[HEADER.size :]
    if first & _VERSION_MASK != _VERSION_2:
        raise MessageError("not SMP version 2")
    if length != len(body):
        raise MessageError(f"the header announces {length} bytes, {len(body)} follow")
    return Header(first & _OP_MASK, group, sequence, id_, length), body


def pack_request(command: Command, sequence: int, values: Message) -> bytes:
    """A request, validated.

    Raises:
        MessageError: the values are not those of the command.
    """
    return pack(command.op, command.group, sequence, command.id, load_schema().encode(command.request, values))


def unpack_event(header: Header, body: bytes) -> tuple[Event, Message]:
    """What the device sent unasked.

    Raises:
        MessageError: not an event.
    """
    for event in EVENTS:
        if (header.op, header.group, header.id) == (Op.WRITE, Group.DEVICE, event.id):
            return event, load_schema().decode(event.body, body)
    raise MessageError(f"no event has group {header.group} and id {header.id}")


# zcbor's logging would include <stdio.h>, which a freestanding compiler does not have.
CODEC_FLAGS = ("-DZCBOR_PRINT_FUNC(...)=((void)0)",)


def generate_codec(out: Path) -> list[Path]:
    """Writes what the agent is compiled with beside its own sources, into the folder `out`.

    zcbor's C runtime (`zcbor_*`) and message structs, the tables of the codec, `wire.h`, and `intaglio_abi.h`. The
    folder goes on the include path as a system folder (`-isystem`), since zcbor's files do not pass the project's
    warnings; compile with `CODEC_FLAGS`. Files that have not changed are not touched.

    Returns: the files; those that end in `.c` are to be compiled.

    Raises:
        ToolError: zcbor fails.
    """
    from intaglio.host.codecgen import write_codec

    return write_codec(out)
