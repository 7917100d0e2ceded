"""One table: the commands, the CDDL file, the headers of C and the reference page say the same."""

from __future__ import annotations

import re
import subprocess
import sys

from agent_bench import AGENT, ROOT, abi_template

from intaglio.host import protocol
from intaglio.host.client import _PREDICT_OVERHEAD
from intaglio.host.codecgen import map_names
from intaglio.host.framing import CRC_BYTES
from intaglio.host.protocol import COMMANDS, EVENTS, REASONS, Reason
from intaglio.host.schema import load_schema
from intaglio.host.tensors import DTYPES


def test_abi_is_that_of_the_header() -> None:
    found = re.search(r"#define INTAGLIO_ABI_VERSION (\d+)", abi_template())
    assert found is not None
    assert int(found[1]) == protocol.ABI_VERSION


def test_dtypes_are_those_of_the_header() -> None:
    values = re.findall(r"INTAGLIO_(U?INT\d+|BOOL) = (\d+)", abi_template())
    assert [(name.lower(), int(number)) for name, number in values] == [
        (name, number) for number, name in enumerate(DTYPES)
    ]


def test_label_is_that_of_the_cddl() -> None:
    assert dict(load_schema().aliases)["label"] == f"tstr .size (0..{protocol.LABEL_BYTES})"


def test_every_map_is_used_and_every_number_is_taken_once() -> None:
    schema = load_schema()
    used = set(map_names()) | {"error-response", "error"}
    assert used == schema.rules.keys()
    assert len(set(schema.keys.values())) == len(schema.keys)
    assert {field.name for rule in schema.rules.values() for field in rule.fields if field.key is not None} == set(
        schema.keys
    )
    rows = [(row.group, row.id, row.op) for row in COMMANDS]
    assert len(set(rows)) == len(rows)
    # a heartbeat is asked for by one operation and sent unasked by the other
    events = [(protocol.Group.DEVICE, event.id, protocol.Op.WRITE) for event in EVENTS]
    assert not set(events) & set(rows)
    assert REASONS.keys() == set(Reason)


def test_cddl_is_read_as_it_is_written() -> None:
    """The reader of `schema` takes in every line of the file."""
    text = (ROOT / "host" / "protocol.cddl").read_text()
    assert len(re.findall(r" => ", text)) == sum(len(rule.fields) for rule in load_schema().rules.values())
    assert all(rule.doc for rule in load_schema().rules.values() if rule.name != "error" and "-" not in rule.name)


def test_framing_transport_and_store_know_no_compiler() -> None:
    """Nor do they, or the client, load what is heavy before it is needed."""
    code = (
        "import sys, intaglio.host.framing, intaglio.host.transport, intaglio.host.store, intaglio.host.client;"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "intaglio.host.client" in loaded
    ours = {name for name in loaded if name.startswith("intaglio.")}
    assert not {name for name in ours if re.match(r"intaglio\.(codegen|boards|quantizer\.(?!errors))", name)}
    assert not loaded & {"pyarrow", "zcbor", "cbor2", "serial", "onnx", "ortools", "jinja2", "platformio"}


def largest(rule: str, data: int) -> int:
    """Bytes of a message of the agent whose fields all have their largest values, CRC included."""
    values: dict[str, object] = {
        "u8": 2**8 - 1,
        "u32": 2**32 - 1,
        "u64": 2**64 - 1,
        "i32": -(2**31),
        "(0..1)": 1,
        "bool": True,
        "bstr": bytes(data),
        "bstr .size 32": bytes(32),
        "bstr .size (0..32)": bytes(32),
        "label": "x" * 64,
        "[0*8 i32]": [-(2**31)] * 8,
        "[14*14 u32]": [2**32 - 1] * 14,
    }
    schema = load_schema()
    body = schema.encode(rule, {field.name: values[field.type] for field in schema.rules[rule].fields})
    # zcbor ends a map by a byte more, and its arrays too
    more = 1 + sum(field.type.startswith("[") for field in schema.rules[rule].fields)
    return protocol.HEADER.size + len(body) + more + CRC_BYTES


def test_every_message_of_the_agent_fits_its_buffer() -> None:
    text = "".join(path.read_text() for path in sorted(AGENT.glob("*.[ch]")))

    def number(pattern: str) -> int:
        found = re.search(pattern, text)
        assert found is not None
        return int(found[1])

    least = number(r"AGENT_FRAME_BYTES >= (\d+)")
    beside = number(r"DATA_BYTES = AGENT_FRAME_BYTES - (\d+)")
    event = number(r"EVENT_BYTES = (\d+)")
    for row in COMMANDS:
        for rule in row.responses:
            assert largest(rule, least - beside) <= least
    for kind in EVENTS:
        assert largest(kind.body, 0) <= event
    request = largest("predict-request", 1000) - 1000
    assert request <= _PREDICT_OVERHEAD
