"""What the agent in C is compiled with: message structs, field tables, zcbor's runtime, and headers of constants.

zcbor makes the structs from `protocol.cddl`, and its runtime reads and writes the CBOR items. The functions that it
would generate, one or two for each map, are not used: with them agent and codec take 10.8 KB on a Cortex-M0, with
one walk over a table of four bytes a field (`firmware/agent/codec.c`) 6.5. The tables come from the same file,
and the tests hold the walk against zcbor's functions.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from intaglio.host import protocol
from intaglio.host.protocol import COMMANDS, EVENTS, SLOT_COMMANDS, Group, Op, Reason
from intaglio.host.schema import CDDL, Field, load_schema
from intaglio.quantizer.errors import ToolError

_ARRAY = re.compile(r"^\[(\d+)\*(\d+) (u32|i32)\]$")
_BYTES = re.compile(r"^bstr(?: \.size \(?(?:0\.\.)?(\d+)\)?)?$")
_RANGE = re.compile(r"^\(0\.\.(\d+)\)$")
_PLAIN = {
    "u8": ("U32", 255),
    "u32": ("U32", 0),
    "u64": ("U64", 0),
    "i32": ("I32", 0),
    "bool": ("BOOL", 0),
    "label": ("TEXT", protocol.LABEL_BYTES),
}


def map_names() -> list[str]:
    """The maps that travel as commands and events, each once; last those that only devices with slots know. The error
    response is not among them: it has text keys, and one shape, which the agent keeps ready."""
    rows = [row for row in COMMANDS if row not in SLOT_COMMANDS]
    names = [
        *(name for row in rows for name in (row.request, *row.responses)),
        *(event.body for event in EVENTS),
        *(name for row in SLOT_COMMANDS for name in (row.request, *row.responses)),
    ]
    return list(dict.fromkeys(names))


def slot_maps() -> list[str]:
    """Those of `map_names` that only devices with slots know."""
    common = {name for row in COMMANDS if row not in SLOT_COMMANDS for name in (row.request, *row.responses)}
    return [name for name in map_names() if name not in common | {event.body for event in EVENTS}]


def write_codec(out: Path) -> list[Path]:
    """See `protocol.generate_codec`."""
    import zcbor

    runtime = Path(zcbor.__file__).parent
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        run_zcbor(Path(scratch))
        written = [_write(out / "codec_types.h", (Path(scratch) / "codec_types.h").read_text(encoding="utf-8"))]
    for pattern in ("src/zcbor_[cde]*.c", "include/zcbor_*.h"):
        sources = sorted(runtime.glob(pattern))
        written += [_write(out / path.name, path.read_text(encoding="utf-8")) for path in sources]
    abi = files("intaglio.codegen") / "templates" / "abi.h.j2"
    written.append(_write(out / "codec_tables.h", _tables()))
    written.append(_write(out / "codec_maps.h", _maps()))
    written.append(_write(out / "wire.h", _wire()))
    text = "#include <stdint.h>\n\n" + abi.read_text(encoding="utf-8")
    written.append(_write(out / "intaglio_abi.h", text))
    return written


def run_zcbor(out: Path) -> None:
    """zcbor's own codec of the protocol: `codec_decode.[ch]`, `codec_encode.[ch]`, `codec_types.h`.

    Raises:
        ToolError: zcbor fails.
    """
    # Through the interpreter: the `zcbor` script need not be on the PATH.
    command = [sys.executable, "-c", "from zcbor import main; main()", "code", "-c", str(CDDL)]
    command += ["--decode", "--encode", "--short-names", "--entry-types", *map_names(), "error-response"]
    command += ["--output-c", str(out / "codec.c"), "--output-h", str(out / "codec.h")]
    command += ["--output-h-types", str(out / "codec_types.h")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ToolError("zcbor", f"cannot generate the codec: {last}", "pip install 'zcbor>=0.9.1' 'cbor2<6'")


def c_name(rule: str) -> str:
    """Name of the struct that zcbor makes of a map."""
    return rule.replace("-", "_")


def _maps() -> str:
    names = map_names()
    slots = slot_maps()
    members = "".join(
        f"    struct {c_name(name)} {c_name(name)};\n" for name in names if name not in ("nothing", *slots)
    )
    members += "#ifdef AGENT_SLOTS\n"
    members += "".join(f"    struct {c_name(name)} {c_name(name)};\n" for name in slots) + "#endif\n"
    return _header(
        "CODEC_MAPS",
        '#include "codec_types.h"\n',
        _enum("codec_map", {f"CODEC_{c_name(name).upper()}": index for index, name in enumerate(names)}),
        f"union codec_any {{\n{members}}};",
    )


def _tables() -> str:
    schema = load_schema()
    rows: list[str] = []
    starts = [0]
    slots = slot_maps()
    for name in map_names():
        if name == slots[0]:
            rows_common, starts_common = len(rows), len(starts)
        for field in schema.rules[name].fields:
            rows += _rows(c_name(name), field)
        starts.append(len(rows))

    def table(type_: str, name: str, values: list[str], common: int) -> str:
        body = "".join(f"    {value},\n" for value in values[:common])
        more = "".join(f"    {value},\n" for value in values[common:])
        return f"static const {type_} {name}[] = {{\n{body}#ifdef AGENT_SLOTS\n{more}#endif\n}};"

    return _header(
        "CODEC_TABLES",
        table("struct codec_field", "codec_fields", rows, rows_common),
        "/* Where the fields of each map begin, and, last, where those of the last one end. */",
        table("uint8_t", "codec_starts", [str(start) for start in starts], starts_common),
    )


def _rows(struct: str, field: Field) -> list[str]:
    """Table rows of one field; an array takes a second one for the place of its count."""
    assert field.key is not None

    def row(kind: str, bound: int, member: str) -> str:
        return f"{{{field.key}, CODEC_{kind}, {bound}, offsetof(struct {struct}, {member})}}"

    if array := _ARRAY.match(field.type):
        member = f"{array[3]}_m"  # zcbor names an array by its element
        return [row(f"ARRAY_{array[3].upper()}", int(array[2]), member), row("COUNT", 0, f"{member}_count")]
    if data := _BYTES.match(field.type):
        return [row("BYTES", int(data[1] or 0), field.name)]
    if span := _RANGE.match(field.type):
        return [row("U32", int(span[1]), field.name)]
    kind, bound = _PLAIN[field.type]
    return [row(kind, bound, field.name)]


def _wire() -> str:
    ids = {f"WIRE_{row.name.upper().replace(' ', '_')}": row.id for row in (*COMMANDS, *EVENTS)}
    return _header(
        "WIRE",
        f"enum {{ WIRE_VERSION = {protocol.WIRE_VERSION}, PACKAGE_VERSION = {protocol.PACKAGE_VERSION} }};",
        f"enum {{ WIRE_LABEL_BYTES = {protocol.LABEL_BYTES} }};",
        _enum("wire_op", {f"WIRE_{op.name}": op.value for op in Op}),
        _enum("wire_group", {f"WIRE_GROUP_{group.name}": group.value for group in Group}),
        _enum("wire_id", ids),
        _enum("wire_reason", {f"WIRE_{reason.name}": reason.value for reason in Reason}),
    )


def _enum(name: str, values: dict[str, int]) -> str:
    body = "".join(f"    {key} = {value},\n" for key, value in values.items())
    return f"enum {name} {{\n{body}}};"


def _header(guard: str, *parts: str) -> str:
    lines = ["/* Generated from host/protocol.py and host/protocol.cddl. */", f"#ifndef INTAGLIO_{guard}_H"]
    return "\n".join([*lines, f"#define INTAGLIO_{guard}_H", "", *parts, "", "#endif", ""])


def _write(path: Path, text: str) -> Path:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path
