"""One message of `intaglio/{fleet}/{device}/up/record`: checked to the last byte, for anybody may have sent it.

The map is checked against the rule `capture-response` as `schema` reads it from `protocol.cddl`. zcbor, which checks
everywhere else, takes 1.4 ms for that, thirty times as long; a test holds the two against each other.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from intaglio.host import protocol
from intaglio.host.protocol import CAPTURE_ACK, CAPTURE_DATA, Op
from intaglio.host.schema import Message, MessageError, load_schema

SHARED_TOPIC = "intaglio/+/+/up/record"
LARGEST_MESSAGE = 1 << 20
"""Bytes of an MQTT packet that a worker takes; the broker is told, and keeps larger ones back."""

_TOPIC = re.compile(r"intaglio/([^/+#\0]{1,128})/([^/+#\0]{1,128})/up/record\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_BOOT = re.compile(r"[0-9a-f]{16}\Z")
_NUMBER = re.compile(r"\d{1,20}\Z", re.ASCII)
_LIMITS = {"u8": 1 << 8, "u16": 1 << 16, "u32": 1 << 32, "u64": 1 << 64}
# A clock that was never set counts from 1970; one that runs ahead by more than a day is wrong.
_FIRST_TIME = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)
_AHEAD = timedelta(days=1)


class RejectedError(ValueError):
    """A message that is no record; says why.

    Attributes:
        key: (fleet, device, boot, sequence) where the message can be acknowledged all the same, else None.
    """

    def __init__(self, why: str, key: Key | None = None) -> None:
        super().__init__(why)
        self.key = key


@dataclass(frozen=True)
class Key:
    """What a record is known by, and where its acknowledgement goes.

    Attributes:
        boot: 16 hexadecimal digits.
    """

    fleet: str
    device: str
    boot: str
    sequence: int

    @property
    def ack_topic(self) -> str:
        """The topic of the durable acknowledgement."""
        return f"intaglio/{self.fleet}/{self.device}/down/ack"

    def ack(self) -> bytes:
        """The message of the durable acknowledgement: a `capture ack` of this one record."""
        import cbor2

        keys = load_schema().keys
        body = cbor2.dumps({keys["boot"]: int(self.boot, 16), keys["seq"]: self.sequence})
        return protocol.pack(CAPTURE_ACK.op, CAPTURE_ACK.group, self.sequence & 0xFF, CAPTURE_ACK.id, body)


@dataclass(frozen=True)
class Arrival:
    """A record as it came in, before anything is known of its model.

    Attributes:
        digest: SHA-256 of the model's integer graph, hexadecimal.
        time_us: microseconds since 1970-01-01 UTC; None when the sender's clock was not set, or is wrong.
        description: the property `model`: what the model's tensors are, as JSON; None when it was not sent.
        data: all inputs, then all outputs.
    """

    key: Key
    digest: str
    time_us: int | None
    up_us: int
    cycles: int
    description: str | None
    data: bytes


def parse_message(topic: str, payload: bytes, properties: Mapping[str, str]) -> Arrival:
    """Check one message and take it apart.

    Args:
        properties: the user properties of MQTT 5: `digest`; `wall`, `boot`, `seq` and `model` where they are sent.

    Raises:
        RejectedError: it is not a whole record.
    """
    match = _TOPIC.match(topic)
    if match is None:
        raise RejectedError("the topic is not intaglio/FLEET/DEVICE/up/record")
    try:
        header, body = protocol.unpack(payload)
        if (header.op, header.group, header.id) != (Op.READ_ANSWER, CAPTURE_DATA.group, CAPTURE_DATA.id):
            raise MessageError("not the answer to capture data")
        fields = decode_flat("capture-response", body)
    except MessageError as error:
        raise RejectedError(f"payload: {error}") from None
    key = Key(match[1], match[2], f"{fields['boot']:016x}", fields["seq"])
    digest = properties.get("digest", "")
    if not _DIGEST.match(digest):
        raise RejectedError("property digest is not 64 hexadecimal digits", key)
    if fields["off"] != 0 or fields["total"] != len(fields["data"]):
        raise RejectedError(f"not whole: {len(fields['data'])} of {fields['total']} bytes", key)
    if fields["up"] >= 1 << 63:
        raise RejectedError("up is longer than 292,000 years", key)
    for name, pattern, own in (("boot", _BOOT, key.boot), ("seq", _NUMBER, str(key.sequence))):
        said = properties.get(name)
        if said is not None and (not pattern.match(said) or said != own):
            raise RejectedError(f"property {name} is not that of the message", key)
    wall = properties.get("wall", "0")
    if not _NUMBER.match(wall):
        raise RejectedError("property wall is not a number", key)
    return Arrival(
        key=key,
        digest=digest,
        time_us=_plausible(int(wall)),
        up_us=fields["up"],
        cycles=fields["cycles"],
        description=properties.get("model"),
        data=fields["data"],
    )


def decode_flat(rule: str, data: bytes) -> Message:
    """`Schema.decode` for a rule whose fields are unsigned numbers and byte strings, without zcbor.

    Raises:
        MessageError: as `Schema.decode`.
    """
    import cbor2

    stream = io.BytesIO(data)
    try:
        wire: Any = cbor2.CBORDecoder(stream).decode()
    except Exception as error:  # the decoder raises what its tags' constructors raise, too
        raise MessageError(f"not CBOR: {' '.join(str(error).split())[:160]}") from None
    if stream.tell() != len(data):
        raise MessageError(f"{len(data) - stream.tell()} bytes behind the CBOR item")
    fields = load_schema().rules[rule].fields
    if type(wire) is not dict or list(wire) != [field.key for field in fields]:
        raise MessageError(f"not a {rule}: other keys, or in another order")
    named: Message = {}
    for field in fields:
        value = wire[field.key]
        if field.type == "bstr":
            sound = type(value) is bytes
        else:
            sound = type(value) is int and 0 <= value < _LIMITS[field.type]
        if not sound:
            raise MessageError(f"not a {rule}: {field.name} is not {field.type}")
        named[field.name] = value
    return named


def _plausible(wall: int) -> int | None:
    latest = int((datetime.now(UTC) + _AHEAD).timestamp() * 1_000_000)
    return wall if _FIRST_TIME <= wall <= latest else None
