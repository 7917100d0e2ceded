"""A message is checked to the last byte; the quick decoder takes and refuses what zcbor does."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.host import protocol
from intaglio.host.ingest.message import Key, RejectedError, decode_flat, parse_message
from intaglio.host.ingest.models import Models, describe, parse_description
from intaglio.host.protocol import CAPTURE_ACK
from intaglio.host.schema import MessageError, load_schema
from intaglio.host.tensors import TensorMeta

from .conftest import INPUTS, OUTPUTS, make_record, payload_of, properties_of, topic_of

RECORD = make_record(7)
RULE = "capture-response"
FIELDS = {"boot": 255, "seq": 7, "model": 0, "up": 70, "cycles": 17, "total": 3, "off": 0, "data": b"abc"}


def test_a_message_becomes_the_record_that_was_sent() -> None:
    arrival = parse_message(topic_of(RECORD), payload_of(RECORD), properties_of(RECORD))
    assert Models(None).record(arrival) == RECORD


def test_the_acknowledgement_is_that_of_the_protocol() -> None:
    header, body = protocol.unpack(Key("acme", "0a", "00000000000000ff", 300).ack())
    assert (header.op, header.group, header.id) == (CAPTURE_ACK.op, CAPTURE_ACK.group, CAPTURE_ACK.id)
    assert load_schema().decode("ack-request", body) == {"boot": 255, "seq": 300}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"digest": None}, "digest is not 64 hexadecimal digits"),
        ({"digest": "AB" * 32}, "digest is not 64 hexadecimal digits"),
        ({"boot": "ff"}, "boot is not that of the message"),
        ({"seq": "8"}, "seq is not that of the message"),
        ({"seq": "٧"}, "seq is not that of the message"),
        ({"wall": "-1"}, "wall is not a number"),
        ({"wall": "9" * 30}, "wall is not a number"),
        ({"model": "{"}, "model: not JSON"),
        ({"model": "[" * 100_000}, "model: not JSON"),
        ({"model": "{}"}, "model: no name"),
        ({"model": '{"name":"\\ud800","inputs":[],"outputs":[]}'}, "model: no name"),
        ({"model": '{"name":"x","inputs":[],"outputs":[]}'}, "22 bytes, the tensors of its model have 0"),
    ],
)
def test_properties_that_lie_are_refused(changes: dict[str, str | None], why: str) -> None:
    properties = {name: value for name, value in (properties_of(RECORD) | changes).items() if value is not None}
    with pytest.raises(RejectedError, match=why) as caught:
        Models(None).record(parse_message(topic_of(RECORD), payload_of(RECORD), properties))
    assert caught.value.key == Key("acme", "0a0b", "00000000000000ff", 7)


@pytest.mark.parametrize("changes", [{"off": 1}, {"total": 23}, {"up": 1 << 63}])
def test_records_that_are_not_whole_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(RejectedError, match=r"not whole|up is longer"):
        parse_message(topic_of(RECORD), payload_of(RECORD, **changes), properties_of(RECORD))


@pytest.mark.parametrize("topic", ["intaglio/a/b/up/event", "intaglio/a/up/record", "intaglio/a/b/c/up/record", "x"])
def test_another_topic_is_refused(topic: str) -> None:
    with pytest.raises(RejectedError, match="topic"):
        parse_message(topic, payload_of(RECORD), properties_of(RECORD))


@pytest.mark.parametrize("wall", ["0", "1000000", str(1 << 63), str((1 << 64) - 1)])
def test_a_clock_that_is_not_set_or_wrong_gives_no_time(wall: str) -> None:
    arrival = parse_message(topic_of(RECORD), payload_of(RECORD), properties_of(RECORD) | {"wall": wall})
    assert arrival.time_us is None


def test_a_model_that_nobody_knows_keeps_the_bytes() -> None:
    arrival = parse_message(topic_of(RECORD), payload_of(RECORD), properties_of(RECORD, described=False))
    record = Models(None).record(arrival)
    assert (record.model, record.inputs, record.outputs) == (RECORD.digest[:16], RECORD.inputs + RECORD.outputs, b"")


def test_every_byte_damaged_and_every_end_cut_is_refused_or_a_record() -> None:
    payload = payload_of(RECORD)
    rng = random.Random(3)
    for n in range(len(payload)):
        for damaged in (payload[:n], payload[:n] + bytes([payload[n] ^ rng.randrange(1, 256)]) + payload[n + 1 :]):
            try:
                arrival = parse_message(topic_of(RECORD), damaged, {"digest": RECORD.digest})
            except RejectedError:
                continue
            assert arrival.data and len(arrival.data) == 22


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(payload: bytes) -> None:
    with pytest.raises(RejectedError):
        parse_message(topic_of(RECORD), payload, properties_of(RECORD))


ODD = st.one_of(
    st.integers(-1, 1 << 65),
    st.binary(max_size=8),
    st.text(max_size=3),
    st.booleans(),
    st.none(),
    st.floats(),
    st.lists(st.integers(), max_size=2),
    st.sampled_from([0, (1 << 32) - 1, 1 << 32, (1 << 64) - 1, 1 << 64]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(FIELDS)), ODD, max_size=2),
    st.sets(st.sampled_from(sorted(FIELDS)), max_size=1),
)
def test_the_quick_decoder_agrees_with_zcbor(changes: dict[str, object], left_out: set[str]) -> None:
    schema = load_schema()
    values = {name: value for name, value in (FIELDS | changes).items() if name not in left_out}
    body = cbor2.dumps({schema.keys[name]: value for name, value in values.items()})
    assert outcome(lambda: decode_flat(RULE, body)) == outcome(lambda: schema.decode(RULE, body))


def outcome(decode: object) -> object:
    try:
        return decode()  # type: ignore[operator]
    except MessageError:
        return None


def test_keys_in_another_order_or_too_many_are_refused() -> None:
    schema = load_schema()
    pairs = [(schema.keys[name], value) for name, value in FIELDS.items()]
    for wrong in (pairs[::-1], [*pairs, (99, 1)]):
        body = bytes([0xA0 + len(wrong)]) + b"".join(cbor2.dumps(item) for pair in wrong for item in pair)
        with pytest.raises(MessageError):
            decode_flat(RULE, body)


def test_a_description_comes_back_as_it_was() -> None:
    found = parse_description(describe("digits", INPUTS, OUTPUTS))
    assert (found.name, found.inputs, found.outputs) == ("digits", INPUTS, OUTPUTS)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float32"},
        {"shape": [0]},
        {"shape": [16] * 9},
        {"shape": "x"},
        {"shape": [1 << 31]},
        {"nbytes": 17},
        {"scale_bits": -1},
        {"scale_bits": 0x7F800000},
        {"scale_bits": 1.5},
        {"zero_point": 1 << 31},
        {"name": "n" * 65},
        {"name": 3},
    ],
)
def test_descriptions_that_are_none_are_refused(change: dict[str, object]) -> None:
    value = json.loads(describe("digits", INPUTS, ()))
    value["inputs"][0] |= change
    with pytest.raises(ValueError, match="a tensor"):
        parse_description(json.dumps(value))


def test_a_description_of_too_many_tensors_is_refused() -> None:
    one = TensorMeta("x", "int8", (1,), 0, 0, 1)
    with pytest.raises(ValueError, match="at most 64 tensors"):
        parse_description(describe("m", tuple(replace(one, name=str(n)) for n in range(65)), ()))
