"""The agent's framing and codec in C, under the sanitizers, against those of Python."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import AGENT, BOARD, SANITIZE, compile_c
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.host.framing import FrameReader, encode_frame
from intaglio.host.protocol import COMMANDS, EVENTS
from intaglio.host.schema import Field, Message, MessageError, load_schema

SCHEMA = load_schema()
RULES = [
    *dict.fromkeys(
        [
            *(name for row in COMMANDS for name in (row.request, *row.responses)),
            *(event.body for event in EVENTS),
            "error-response",
        ]
    )
]
FRAME_BYTES = 512


class Probe:
    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def ask(self, what: int, data: bytes) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(bytes([what]) + struct.pack("<I", len(data)) + data)
        stdin.flush()
        head = stdout.read(4)
        if len(head) != 4:
            pytest.fail(self._process.communicate()[1].decode())
        return stdout.read(struct.unpack("<I", head)[0])

    def frames(self, line: bytes) -> tuple[int, int, list[bytes]]:
        answer = self.ask(ord("f"), line)
        messages, at = [], 2
        while at < len(answer):
            (size,) = struct.unpack_from("<I", answer, at)
            messages.append(answer[at + 4 : at + 4 + size])
            at += 4 + size
        return answer[0], answer[1], messages

    def encode(self, message: bytes) -> bytes:
        return self.ask(ord("e"), message)

    def transcode(self, rule: str, data: bytes) -> bytes | None:
        answer = self.ask(RULES.index(rule), data)
        return answer[1:] if answer[0] else None

    def close(self) -> None:
        _, report = self._process.communicate(timeout=10)
        assert self._process.returncode == 0, report.decode()


@pytest.fixture(scope="module")
def probe(codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    folder = tmp_path_factory.mktemp("probe")
    names = [rule.replace("-", "_") for rule in RULES]
    (folder / "probe_table.h").write_text("".join(f"CODEC({name})\n" for name in names))
    (folder / "probe_structs.h").write_text("".join(f"CODEC({name})\n" for name in names if name != "nothing"))
    sources = [AGENT / "framing.c", BOARD / "probe.c"]
    running = Probe(compile_c("gcc", sources, codec, folder / "probe", *SANITIZE, f"-I{folder}"))
    yield running
    running.close()


messages = st.binary(max_size=FRAME_BYTES - 4) | st.builds(
    lambda zero, length: bytes(length) if zero else bytes([7]) * length,
    st.booleans(),
    st.sampled_from([0, 1, 249, 250, 251, 253, 254, 255, 507, 508]),
)


@settings(max_examples=300, deadline=None)
@given(message=messages)
def test_both_frame_alike(probe: Probe, message: bytes) -> None:
    frame = encode_frame(message)
    assert probe.encode(message) == frame
    assert probe.frames(frame) == (0, 0, [message])
    assert FrameReader().feed(frame) == [message]


@settings(max_examples=300, deadline=None)
@given(line=st.lists(st.one_of(st.binary(max_size=40), messages.map(encode_frame)), max_size=6))
def test_both_read_any_line_alike(probe: Probe, line: list[bytes]) -> None:
    stream = b"".join(line)
    reader = FrameReader(FRAME_BYTES)
    read = reader.feed(stream)
    bad, oversize, found = probe.frames(stream)
    assert found == read
    assert bad + oversize == reader.bad + reader.oversize


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_damage_is_never_taken_for_a_message(probe: Probe, data: st.DataObject) -> None:
    """CRC-32 finds every change within 32 bits; COBS may turn one byte on the line into more, so that what holds
    for sure is: nothing but the message itself is ever read, and the next frame is read again."""
    message = data.draw(st.binary(min_size=1, max_size=200))
    frame = encode_frame(message)
    spot = data.draw(st.integers(0, len(frame) - 2))
    kind = data.draw(st.sampled_from(["flip", "lose", "insert", "cut"]))
    byte = data.draw(st.integers(1, 255))
    damaged = {
        "flip": frame[:spot] + bytes([frame[spot] ^ byte]) + frame[spot + 1 :],
        "lose": frame[:spot] + frame[spot + 1 :],
        "insert": frame[:spot] + bytes([byte]) + frame[spot:],
        "cut": frame[:spot] + b"\x00",
    }[kind]
    following = encode_frame(b"next")
    for found in (FrameReader().feed(damaged + following), probe.frames(damaged + following)[2]):
        assert found[-1] == b"next"
        assert set(found[:-1]) <= {message}


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_line_may_be_cut_anywhere(pieces: int) -> None:
    rng = random.Random(pieces)
    sent = [rng.randbytes(rng.randrange(300)) for _ in range(40)]
    line = b"".join(map(encode_frame, sent))
    reader, read = FrameReader(), []
    for at in range(0, len(line), pieces):
        read += reader.feed(line[at : at + pieces])
    assert read == sent
    assert (reader.bad, reader.oversize) == (0, 0)


def test_a_line_without_end_takes_no_memory(probe: Probe) -> None:
    reader = FrameReader(FRAME_BYTES)
    for _ in range(1000):
        assert reader.feed(b"\x02\x03" * 1000) == []
        assert len(reader._pending) <= 2 * FRAME_BYTES
    assert reader.feed(b"\x00" + encode_frame(b"x")) == [b"x"]
    assert (reader.bad, reader.oversize) == (0, 1)
    assert probe.frames(b"\x02" * 5000 + b"\x00" + encode_frame(b"x")) == (0, 1, [b"x"])


def values_of(field: Field) -> st.SearchStrategy[object]:
    kinds: dict[str, st.SearchStrategy[object]] = {
        "u8": st.integers(0, 2**8 - 1),
        "u16": st.integers(0, 2**16 - 1),
        "u32": st.integers(0, 2**32 - 1),
        "u64": st.integers(0, 2**64 - 1),
        "i32": st.integers(-(2**31), 2**31 - 1),
        "(0..1)": st.integers(0, 1),
        "bool": st.booleans(),
        "bstr": st.binary(max_size=450),
        "bstr .size 32": st.binary(min_size=32, max_size=32),
        "bstr .size (0..32)": st.binary(max_size=32),
        "label": st.text(max_size=16),  # at most 64 bytes of UTF-8
        "[0*8 i32]": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8),
        "[14*14 u32]": st.lists(st.integers(0, 2**32 - 1), min_size=14, max_size=14),
    }
    if field.type in SCHEMA.rules:
        return message_of(field.type)
    return kinds[field.type]


def message_of(rule: str) -> st.SearchStrategy[Message]:
    return st.fixed_dictionaries({field.name: values_of(field) for field in SCHEMA.rules[rule].fields})


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_both_codecs_read_what_the_other_wrote(probe: Probe, rule: str, data: st.DataObject) -> None:
    message = data.draw(message_of(rule))
    encoded = SCHEMA.encode(rule, message)
    again = probe.transcode(rule, encoded)
    assert again is not None
    assert SCHEMA.decode(rule, again) == message
    assert probe.transcode(rule, again) == again
    for length in range(len(encoded)):
        assert probe.transcode(rule, encoded[:length]) is None


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_the_c_codec_takes_python_takes_too(probe: Probe, rule: str, data: st.DataObject) -> None:
    """Mutated messages: the C side accepts none that the schema refuses, and reads the same values."""
    encoded = bytearray(SCHEMA.encode(rule, data.draw(message_of(rule))))
    for _ in range(data.draw(st.integers(1, 3))):
        spot = data.draw(st.integers(0, len(encoded) - 1))
        encoded[spot : spot + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        if not encoded:
            break
    taken = probe.transcode(rule, bytes(encoded))
    if taken is None:
        return
    try:
        assert SCHEMA.decode(rule, taken) == SCHEMA.decode(rule, bytes(encoded))
    except MessageError as error:
        # zcbor's C passes text on as it is; cbor2 insists on UTF-8
        assert "utf-8" in str(error).lower() and "label" in {field.type for field in SCHEMA.rules[rule].fields}


@pytest.mark.parametrize("rule", RULES)
def test_the_c_codec_survives_any_bytes(probe: Probe, rule: str) -> None:
    rng = random.Random(rule)
    for _ in range(200):
        probe.transcode(rule, rng.randbytes(rng.randrange(64)))


@given(data=st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_python_decodes_or_refuses_any_bytes(data: bytes) -> None:
    for rule in ("hello-response", "error-response", "describe-response", "nothing"):
        try:
            assert set(SCHEMA.decode(rule, data)) == {field.name for field in SCHEMA.rules[rule].fields}
        except MessageError as error:
            assert len(str(error).splitlines()) == 1
