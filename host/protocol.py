"""The wire protocol: one table of versions, commands and reasons, messages, and the codec of the device.

A message is the 8-byte header of SMP version 2 (the Simple Management Protocol of MCUmgr: operation and
version, flags, length, group, sequence number, command id; big-endian) and one CBOR map, described in
`protocol.cddl`.
The C header `wire.h` of the agent is generated from the table here.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from intaglio.host.schema import CDDL, Message, MessageError, load_schema
from intaglio.quantizer.errors import ToolError

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


REASONS = {
    Reason.OK: "no error",
    Reason.UNKNOWN: "an error inside the agent",
    Reason.MALFORMED: "the message is not what protocol.cddl describes",
    Reason.UNSUPPORTED: "the agent does not know the command",
    Reason.NOT_FOUND: "no such model, tensor, record or output",
    Reason.OFFSET: "not the offset that comes next, or more bytes than the tensors have",
    Reason.MODEL_FAILED: "invoke returned a negative status",
    Reason.OTHER_BOOT: "the acknowledgement is meant for another boot",
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
PREDICT = Command(
    "predict", Group.MODEL, 2, Op.WRITE, "predict-request", ("predict-more", "predict-response")
)
OUTPUT = Command("output", Group.MODEL, 3, Op.READ, "output-request", ("output-response",))
CAPTURE_STATUS = Command("capture status", Group.CAPTURE, 0, Op.READ, "nothing", ("capture-status",))
CAPTURE_DATA = Command("capture data", Group.CAPTURE, 1, Op.READ, "capture-request", ("capture-response",))
CAPTURE_ACK = Command("capture ack", Group.CAPTURE, 2, Op.WRITE, "ack-request", ("ack-response",))

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
    return pack(
        command.op, command.group, sequence, command.id, load_schema().encode(command.request, values)
    )


def unpack_event(header: Header, body: bytes) -> tuple[Event, Message]:
    """What the device sent unasked.

    Raises:
        MessageError: not an event.
    """
    for event in EVENTS:
        if (header.op, header.group, header.id) == (Op.WRITE, Group.DEVICE, event.id):
            return event, load_schema().decode(event.body, body)
    raise MessageError(f"no event has group {header.group} and id {header.id}")


def wire_header() -> str:
    """Text of `wire.h`: the table above as C enumerators."""
    ids = {f"WIRE_{row.name.upper().replace(' ', '_')}": row.id for row in (*COMMANDS, *EVENTS)}
    return "\n".join(
        [
            "/* Generated from the table in host/protocol.py. */",
            "#ifndef INTAGLIO_WIRE_H",
            "#define INTAGLIO_WIRE_H",
            "",
            f"enum {{ WIRE_VERSION = {WIRE_VERSION}, PACKAGE_VERSION = {PACKAGE_VERSION} }};",
            f"enum {{ WIRE_LABEL_BYTES = {LABEL_BYTES} }};",
            _enum("wire_op", {f"WIRE_{op.name}": op.value for op in Op}),
            _enum("wire_group", {f"WIRE_GROUP_{group.name}": group.value for group in Group}),
            _enum("wire_id", ids),
            _enum("wire_reason", {f"WIRE_{reason.name}": reason.value for reason in Reason}),
            "",
            "#endif",
            "",
        ]
    )


def _enum(name: str, values: dict[str, int]) -> str:
    body = "".join(f"    {key} = {value},\n" for key, value in values.items())
    return f"enum {name} {{\n{body}}};"


# zcbor's logging would include <stdio.h>, which a freestanding compiler does not have.
CODEC_FLAGS = ("-DZCBOR_PRINT_FUNC(...)=((void)0)",)


def generate_codec(out: Path) -> list[Path]:
    """Writes what the agent is compiled with beside its own sources, into the folder `out`.

    zcbor's generated codec (`codec_*`) and C runtime (`zcbor_*`), `wire.h`, and `intaglio_abi.h`. The folder
    goes on the include path as a system folder (`-isystem`), since zcbor's files do not pass the project's
    warnings; compile with `CODEC_FLAGS`. Files that have not changed are not touched.

    Returns: the files; those that end in `.c` are to be compiled.

    Raises:
        ToolError: zcbor is missing or fails.
    """
    import zcbor

    runtime = Path(zcbor.__file__).parent
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        generated = _run_zcbor(Path(scratch))
        files = [_write(out / path.name, path.read_text(encoding="utf-8")) for path in generated]
    for pattern in ("src/zcbor_[cde]*.c", "include/zcbor_*.h"):
        sources = sorted(runtime.glob(pattern))
        files += [_write(out / path.name, path.read_text(encoding="utf-8")) for path in sources]
    files.append(_write(out / "wire.h", wire_header()))
    files.append(_write(out / "intaglio_abi.h", _abi_header()))
    return files


def _run_zcbor(out: Path) -> list[Path]:
    maps = [name for row in COMMANDS for name in (row.request, *row.responses)]
    entries = dict.fromkeys([*maps, *(event.body for event in EVENTS), "error-response"])
    # Through the interpreter: the `zcbor` script need not be on the PATH.
    command = [sys.executable, "-c", "from zcbor import main; main()", "code", "-c", str(CDDL)]
    command += ["--decode", "--encode", "--short-names", "--entry-types", *entries]
    command += ["--output-c", str(out / "codec.c"), "--output-h", str(out / "codec.h")]
    command += ["--output-h-types", str(out / "codec_types.h")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ToolError("zcbor", f"cannot generate the codec: {last}", "pip install 'zcbor>=0.9.1' 'cbor2<6'")
    return sorted(out.glob("codec*"))


def _abi_header() -> str:
    from importlib.resources import files

    template = files("intaglio.codegen") / "templates" / "abi.h.j2"
    return "#include <stdint.h>\n\n" + template.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> Path:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path
