"""The agent's framing and codec in C, under the sanitizers, against those of Python."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_bench import AGENT, BOARD, SANITIZE, compile_c
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.host.codecgen import c_name, map_names, run_zcbor
from intaglio.host.framing import FrameReader, encode_frame
from intaglio.host.protocol import COMMANDS
from intaglio.host.schema import Field, Message, MessageError, load_schema

SCHEMA = load_schema()
RULES = map_names()
REQUESTS = list(dict.fromkeys(row.request for row in COMMANDS))
FRAME, FRAMES, BY_ZCBOR = 0x7E, 0x7F, 0x80
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
        answer = self.ask(FRAMES, line)
        messages, at = [], 2
        while at < len(answer):
            (size,) = struct.unpack_from("<I", answer, at)
            messages.append(answer[at + 4 : at + 4 + size])
            at += 4 + size
        return answer[0], answer[1], messages

    def encode(self, message: bytes) -> bytes:
        return self.ask(FRAME, message)

    def transcode(self, rule: str, data: bytes, by: int = 0) -> bytes | None:
        """Decoded and encoded again; None when it does not decode."""
        answer = self.ask(RULES.index(rule) + by, data)
        return answer[1:] if answer[0] else None

    def close(self) -> None:
        _, report = self._process.communicate(timeout=10)
        assert self._process.returncode == 0, report.decode()


@pytest.fixture(scope="module")
def probe(codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    folder = tmp_path_factory.mktemp("probe")
    run_zcbor(folder)
    (folder / "probe_table.h").write_text("".join(f"CODEC({c_name(rule)})\n" for rule in RULES))
    ours = [AGENT / "framing.c", AGENT / "crc32.c", AGENT / "codec.c", BOARD / "probe.c"]
    theirs = [folder / "codec_decode.c", folder / "codec_encode.c"]
    program = compile_c(
        "gcc", ours, codec, folder / "probe", *SANITIZE, "-DAGENT_SLOTS=1", "-isystem", str(folder), extra=theirs
    )
    running = Probe(program)
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
def test_the_codecs_write_alike(probe: Probe, rule: str, data: st.DataObject) -> None:
    """Every map: written by Python, read by zcbor, written by our C and zcbor's, read by Python."""
    message = data.draw(message_of(rule))
    again = probe.transcode(rule, SCHEMA.encode(rule, message), BY_ZCBOR)
    assert again is not None
    assert SCHEMA.decode(rule, again) == message


@pytest.mark.parametrize("rule", REQUESTS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_agent_reads_requests_and_no_part_of_one(probe: Probe, rule: str, data: st.DataObject) -> None:
    message = data.draw(message_of(rule))
    encoded = SCHEMA.encode(rule, message)
    again = probe.transcode(rule, encoded)
    assert again is not None
    assert SCHEMA.decode(rule, again) == message
    assert probe.transcode(rule, again) == again
    for length in range(len(encoded)):
        assert probe.transcode(rule, encoded[:length]) is None


@pytest.mark.parametrize("rule", REQUESTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_codecs_take_and_refuse_alike(probe: Probe, rule: str, data: st.DataObject) -> None:
    """Mutated requests: our C takes what zcbor's takes; Python, whose decoder knows more of CBOR (strings in
    pieces), takes all of that with the same values."""
    encoded = bytearray(SCHEMA.encode(rule, data.draw(message_of(rule))))
    for _ in range(data.draw(st.integers(1, 3))):
        spot = data.draw(st.integers(0, len(encoded)))
        encoded[spot : spot + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    taken = probe.transcode(rule, bytes(encoded))
    assert taken == probe.transcode(rule, bytes(encoded), BY_ZCBOR)
    if taken is not None:
        assert SCHEMA.decode(rule, taken) == SCHEMA.decode(rule, bytes(encoded))


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
