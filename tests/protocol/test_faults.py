"""The line at its worst: garbage, lost and repeated bytes, resets, other devices."""

from __future__ import annotations

import os
import pty
import random
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from agent_bench import MockBoard

from intaglio.boards.board import Board
from intaglio.host import protocol
from intaglio.host.client import Client
from intaglio.host.framing import FrameReader, encode_frame
from intaglio.host.protocol import Reason, pack_request, unpack
from intaglio.host.schema import load_schema
from intaglio.host.session import RefusedError, RestartedError
from intaglio.host.transport import SocketTransport, Transport, open_transport
from intaglio.quantizer.errors import BoardError, LinkError, UsageError


class Bent:
    """A transport whose bytes pass through `up` and `down`."""

    def __init__(
        self,
        inner: Transport,
        up: Callable[[bytes], bytes] = lambda data: data,
        down: Callable[[bytes], bytes] = lambda data: data,
    ) -> None:
        self.name = inner.name
        self._inner, self.up, self.down = inner, up, down

    def read(self, timeout: float) -> bytes:
        data = self._inner.read(timeout)
        return self.down(data) if data else b""

    def write(self, data: bytes) -> None:
        self._inner.write(self.up(data))

    def close(self) -> None:
        self._inner.close()


def one(value: int) -> list[np.ndarray]:
    return [np.array([value], np.int32)]


def impatient(transport: Transport, timeout: float = 0.05, tries: int = 100) -> Client:
    return Client(transport, timeout=timeout, tries=tries, patience=10)


@pytest.mark.parametrize("seed", range(3))
def test_every_prediction_is_made_once_on_a_lossy_line(board: MockBoard, seed: int) -> None:
    rng = random.Random(seed)

    def lossy(data: bytes) -> bytes:
        if rng.random() < 0.3:
            spot = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0:  # a byte is lost
                return data[:spot] + data[spot + 1 :]
            if kind == 1:  # a bit flips
                return data[:spot] + bytes([data[spot] ^ 1 << rng.randrange(8)]) + data[spot + 1 :]
            return data[:spot] + rng.randbytes(rng.randrange(1, 40)) + data[spot:]  # noise
        return data

    client = impatient(Bent(board.transport(), lossy, lossy), timeout=0.02)
    total = 0
    with client:
        for value in range(1, 31):
            total += value
            assert client.predict("count", one(value)).outputs[0].tolist() == [total]
        assert client.heartbeat()["invocations"] == 30
        assert client.heartbeat()["bad"] > 0


def test_lost_answer_is_repeated_from_memory(board: MockBoard) -> None:
    drop = [False]

    def down(data: bytes) -> bytes:
        if drop[0]:
            drop[0] = False
            return b""
        return data

    with impatient(Bent(board.transport(), down=down)) as client:
        client.models()
        for value in (5, 7):
            drop[0] = True
            done = client.predict("count", one(value))
        assert done.outputs[0].tolist() == [12]
        assert client.heartbeat()["invocations"] == 2


def test_late_answers_are_dropped(board: MockBoard) -> None:
    """An answer that comes after its request was given up does not answer the next one."""
    held: list[bytes] = []

    def hold(data: bytes) -> bytes:
        held.append(data)
        return b""

    transport = Bent(board.transport())
    with impatient(transport) as client:
        transport.down = hold
        with pytest.raises(LinkError, match="stopped answering"):
            client.request(protocol.CONFIG_GET, {}, tries=4)
        transport.down = lambda data: b"".join(held) + data
        assert client.request(protocol.CAPTURE_STATUS, {})["pending"] == 0


def test_garbage_before_between_and_behind(board: MockBoard) -> None:
    rng = random.Random(4)
    with impatient(board.transport()) as client:
        client.models()
        for size in (1, 2, 3, 63, 64, 65, 511, 512, 513, 5000):
            board.host.sendall(rng.randbytes(size))
            assert client.predict("count", one(0)).outputs[0].tolist() == [0]
        beat = client.heartbeat()
        assert beat["bad"] > 0
        board.host.sendall(b"\x01" * 3000)
        assert client.heartbeat()["oversize"] == beat["oversize"] + 1
        client.reset_statistics()
        beat = client.heartbeat()
        assert [beat[name] for name in ("bad", "oversize", "lost", "dropped", "invocations", "errors")] == [0] * 6


def exchange(line: socket.socket, data: bytes) -> list[bytes]:
    """Sends bytes and returns the messages that answer before a heartbeat's answer does."""
    fence = pack_request(protocol.HEARTBEAT, 0xEE, {})
    line.sendall(b"\x00" + data + b"\x00" + encode_frame(fence))
    reader, answers = FrameReader(), []
    line.settimeout(10)
    while True:
        for message in reader.feed(line.recv(65536)):
            header, _ = unpack(message)
            if header.sequence == 0xEE and header.op == protocol.Op.READ_ANSWER:
                return answers
            if header.op != protocol.Op.WRITE:
                answers.append(message)


def refusal(message: bytes) -> Reason:
    body = unpack(message)[1]
    return Reason(load_schema().decode("error-response", body)["err"]["rc"])


HELLO = pack_request(protocol.HELLO, 1, {"nonce": 7})


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (HELLO[:-1], Reason.MALFORMED),  # the header announces more
        (HELLO + b"\x00", Reason.MALFORMED),
        (protocol.pack(2, 64, 1, 0, HELLO[8:] + b"\x00"), Reason.MALFORMED),  # bytes behind the map
        (protocol.pack(2, 64, 1, 0, b""), Reason.MALFORMED),
        (protocol.pack(2, 64, 1, 0, b"\xa0"), Reason.MALFORMED),
        (protocol.pack(2, 64, 1, 0, b"\xa1\x0d\x20"), Reason.MALFORMED),  # a negative nonce
        (protocol.pack(2, 64, 1, 0, b"\xbf\x0d\x01"), Reason.MALFORMED),  # a map that does not end
        (protocol.pack(2, 64, 1, 0, b"\xbb" + b"\xff" * 8), Reason.MALFORMED),
        (protocol.pack(0, 64, 1, 1, b"\xa1\x01\x02"), Reason.MALFORMED),  # heartbeat takes no arguments
        (b"\x02" + HELLO[1:], Reason.MALFORMED),  # SMP version 1
        (protocol.pack(0, 64, 1, 0, HELLO[8:]), Reason.UNSUPPORTED),  # hello is a write
        (protocol.pack(2, 64, 1, 99, b"\xa0"), Reason.UNSUPPORTED),
        (protocol.pack(2, 0, 1, 0, b"\xa0"), Reason.UNSUPPORTED),  # the echo of MCUmgr's own group
        (protocol.pack(2, 320, 1, 0, HELLO[8:]), Reason.UNSUPPORTED),  # 64 + 256
        (pack_request(protocol.LIST, 1, {"model": 4}), Reason.NOT_FOUND),
        (pack_request(protocol.LIST, 1, {"model": 2**32 - 1}), Reason.NOT_FOUND),
        (pack_request(protocol.DESCRIBE, 1, {"model": 0, "tensor": 4}), Reason.NOT_FOUND),
        (pack_request(protocol.OUTPUT, 1, {"model": 0, "off": 0}), Reason.NOT_FOUND),
        (pack_request(protocol.CAPTURE_DATA, 1, {"least": 0, "off": 0}), Reason.OTHER_BOOT),
        (pack_request(protocol.CAPTURE_ACK, 1, {"boot": 1, "seq": 0}), Reason.OTHER_BOOT),
        (
            pack_request(protocol.PREDICT, 1, {"model": 0, "off": 1, "data": b"", "capture": False}),
            Reason.OFFSET,
        ),
        (
            pack_request(protocol.PREDICT, 1, {"model": 0, "off": 0, "data": bytes(17), "capture": False}),
            Reason.OFFSET,
        ),
        (
            pack_request(protocol.PREDICT, 1, {"model": 0, "off": 2**32 - 1, "data": b"", "capture": False}),
            Reason.OFFSET,
        ),
        (
            pack_request(protocol.PREDICT, 1, {"model": 9, "off": 0, "data": b"", "capture": False}),
            Reason.NOT_FOUND,
        ),
    ],
)
def test_malformed_requests_get_their_reason(board: MockBoard, message: bytes, reason: Reason) -> None:
    (answer,) = exchange(board.host, encode_frame(message))
    assert refusal(answer) is reason
    assert answer[6] == message[6]


@pytest.mark.parametrize("message", [b"", b"\x0a", HELLO[:7], protocol.pack(3, 64, 1, 0, b"\xa0")])
def test_what_is_no_request_is_not_answered(board: MockBoard, message: bytes) -> None:
    assert exchange(board.host, encode_frame(message)) == []


def test_outputs_are_not_those_of_another_model(board: MockBoard) -> None:
    with Client(board.transport()) as client:
        client.predict("count", one(1))
        with pytest.raises(RefusedError):
            client.request(protocol.OUTPUT, {"model": 0, "off": 0})
        with pytest.raises(RefusedError):
            client.request(
                protocol.PREDICT, {"model": 0, "off": 0, "data": bytes(17), "capture": False}, response="predict-more"
            )
        for model in (0, 2):
            with pytest.raises(RefusedError) as refused:
                client.request(protocol.OUTPUT, {"model": model, "off": 0})
            assert refused.value.reason is Reason.NOT_FOUND


def test_reset_amid_the_inputs_is_noticed(board: MockBoard) -> None:
    with impatient(board.transport()) as client:
        image = np.zeros((30, 40, 1), np.uint8)
        first = client.hello.boot
        with pytest.raises(RestartedError, match="restarted meanwhile"):
            client.predict("wide", [image], progress=lambda *_: board.reboot())
    with Client(board.transport()) as client:
        assert client.hello.boot != first
        assert client.predict("wide", [image]).outputs[0].tolist() == [0] * 1200


def test_boot_is_that_of_the_first_hello(board: MockBoard) -> None:
    boots = []
    for _ in range(2):
        with Client(board.transport()) as client:
            boots.append(client.hello.boot)
    board.reboot()
    with Client(board.transport()) as client:
        boots.append(client.hello.boot)
    assert boots[0] == boots[1] != boots[2]


def test_no_nonce_is_sent_twice() -> None:
    """A hello repeated byte for byte could give its nonce to two boots."""
    here, there = socket.socketpair()
    with here, there:
        with pytest.raises(LinkError, match="no answer"):
            Client(SocketTransport(here, "deaf"), timeout=0.01, tries=5)
        nonces = [
            load_schema().decode("hello-request", unpack(message)[1])["nonce"]
            for message in FrameReader().feed(there.recv(65536))
        ]
    assert len(nonces) == len(set(nonces)) == 5


def test_fault_of_the_last_boot_is_told(board: MockBoard) -> None:
    board.reboot(MOCK_FAULT="1")
    with Client(board.transport()) as client:
        assert client.heartbeat()["faults"] == 1
        faults = [event.fields for event in client.events if event.name == "fault event"]
        # once when it started, once more after hello, for a host that opened the line later
        assert len(faults) == 2
        registers = dict(zip(protocol.FAULT_REGISTERS, faults[1]["registers"], strict=True))
        assert protocol.FAULT_KINDS[faults[1]["kind"]] == "hard fault"
        assert registers["pc"] == 0x08001234
        assert registers["bfar"] == 14


def test_heartbeats_come_unasked(board: MockBoard) -> None:
    with Client(board.transport()) as client:
        assert client.configure(beat=10)["beat"] == 10
        client.listen(0.2)
        client.configure(beat=0)
        beats = [event for event in client.events if event.name == "heartbeat"]
        assert len(beats) >= 2
        ups = [beat.fields["up"] for beat in beats]
        assert ups == sorted(ups)
        with pytest.raises(UsageError, match="configuration"):
            client.configure(policy=2)
        with pytest.raises(UsageError, match="unknown keys"):
            client.configure(color=2)


def test_time_is_the_hosts(board: MockBoard) -> None:
    with Client(board.transport()) as client:
        now = client.set_time(1_700_000_000_000_000)
        assert now["wall"] == 1_700_000_000_000_000
        beat = client.heartbeat()
        assert beat["wall"] - beat["up"] == now["wall"] - now["up"]


def test_answers_of_another_protocol() -> None:
    """Bytes without a message: a wrong baud rate, or another program on the board."""
    here, there = socket.socketpair()
    there.sendall(b"\xff\xfe\x80Zephyr shell $ \r\n\x00\x13")
    with there, pytest.raises(LinkError, match="bytes arrived, but no message in them; check --baud"):
        Client(SocketTransport(here, "tty"), timeout=0.05, tries=2)


def answering(line: socket.socket, body: bytes) -> threading.Thread:
    """Answers one hello with a map of its own."""

    def serve() -> None:
        (message,) = FrameReader().feed(line.recv(4096))
        header, _ = unpack(message)
        line.sendall(encode_frame(protocol.pack(header.op + 1, header.group, header.sequence, header.id, body)))

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize("body", [b"", b"\xa0", b"\xff", b"\x9b" + b"\xff" * 8, b"\xc0\x61x", b"\x81" * 5000])
def test_garbage_inside_a_valid_frame(body: bytes) -> None:
    here, there = socket.socketpair()
    thread = answering(there, body)
    with there, pytest.raises(LinkError, match="answers hello with garbage"):
        Client(SocketTransport(here, "tty"))
    thread.join()


def test_unplugged(board: MockBoard) -> None:
    here, there = socket.socketpair()
    there.close()
    with pytest.raises(LinkError, match="the line broke"):
        Client(SocketTransport(here, "tty"))


def test_serial_port_missing_busy_and_unplugged() -> None:
    with pytest.raises(LinkError, match=r"/dev/nowhere: there is no such port; `intaglio devices`"):
        open_transport("/dev/nowhere")
    with pytest.raises(LinkError, match=r"/etc/passwd: cannot be opened: .*inappropriate ioctl"):
        open_transport("/etc/passwd")
    with pytest.raises(UsageError, match="check --port and --baud"):
        open_transport("nonsense://x")
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    first = open_transport(name)
    with pytest.raises(LinkError, match="the port is busy; close the program that holds it"):
        open_transport(name)
    first.write(b"\x01")
    assert os.read(master, 10) == b"\x01"
    os.write(master, b"\x02\x00\x03")
    assert first.read(1.0) == b"\x02\x00\x03"
    assert first.read(0.01) == b""
    os.close(master)
    os.close(slave)
    with pytest.raises(LinkError, match="the line broke"):
        first.read(0.1)
    with pytest.raises(LinkError, match="the line broke"):
        first.write(b"x")
    first.close()


def test_sockets_refused_and_malformed() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(LinkError, match="cannot connect: connection refused"):
        open_transport(f"socket://127.0.0.1:{port}")
    for url in ("socket://", "socket://host", "socket://host:x", "socket://host:0", "socket://:5"):
        with pytest.raises(UsageError, match="socket://HOST:PORT"):
            open_transport(url)


def test_over_tcp_and_a_pty(board: MockBoard) -> None:
    """The two lines that `intaglio simulate` offers, bytes passed on by a thread each way."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        transport = open_transport(url)
        peer, _ = server.accept()
    ends = [(peer.fileno(), board.host.fileno()), (board.host.fileno(), peer.fileno())]

    def pump(source: int, sink: int) -> None:
        while data := os.read(source, 4096):
            os.write(sink, data)

    threads = [threading.Thread(target=pump, args=pair, daemon=True) for pair in ends]
    for thread in threads:
        thread.start()
    with Client(transport) as client:
        assert client.predict("count", one(3)).outputs[0].tolist() == [3]
    threads[0].join(timeout=10)
    board.host.shutdown(socket.SHUT_RDWR)
    threads[1].join(timeout=10)
    peer.close()


def test_a_simulated_board_lives_as_long_as_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LinkError, match=r"sim:microbit: no firmware in build/firmware/microbit; `intaglio build"):
        open_transport("sim:microbit")
    with pytest.raises(LinkError, match=r"there is no other\.elf"):
        open_transport("sim:microbit:other.elf")
    with pytest.raises(BoardError, match="did you mean microbit"):
        open_transport("sim:microbitt")
    elf = tmp_path / "build" / "firmware" / "microbit" / "firmware.elf"
    elf.parent.mkdir(parents=True)
    elf.write_bytes(b"")
    log: list[object] = []

    class Simulation:
        """Stands for the emulator: what it is asked, and a socket that hangs up."""

        def __init__(self, target: Board, image: Path) -> None:
            log.append((target.name, image.name))

        def __enter__(self) -> Simulation:
            self._server = socket.create_server(("127.0.0.1", 0))
            self.address = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
            return self

        def __exit__(self, *_: object) -> None:
            self._server.close()
            log.append("ended")

    monkeypatch.setitem(sys.modules, "intaglio.host.simulate", SimpleNamespace(Simulation=Simulation))
    line = open_transport("sim:microbit")
    assert line.name == "sim:microbit"
    assert log == [("microbit", "firmware.elf")]
    line.close()
    line.close()
    assert log == [("microbit", "firmware.elf"), "ended"]
