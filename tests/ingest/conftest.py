"""A real broker, and a gateway that repeats a record until a worker has said that it is durable."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from intaglio.host import protocol
from intaglio.host.ingest import worker as ingest
from intaglio.host.ingest.broker import Delivery
from intaglio.host.ingest.models import Models, describe
from intaglio.host.ingest.place import Place, new_place
from intaglio.host.ingest.worker import Counts
from intaglio.host.protocol import CAPTURE_DATA, Op
from intaglio.host.schema import load_schema
from intaglio.host.store import Record
from intaglio.host.tensors import TensorMeta

INPUTS = (TensorMeta("image", "int8", (1, 4, 4, 1), 0x3B808081, -128, 16),)
OUTPUTS = (TensorMeta("scores", "int16", (1, 3), 0x3D4CCCCD, 0, 6),)
NOON = 1_700_000_000_000_000
DIGEST = "ab" * 32


def make_record(sequence: int, **changes: Any) -> Record:
    """A record whose bytes follow from its sequence number."""
    rng = random.Random(sequence)
    values: dict[str, Any] = {
        "device": "0a0b",
        "boot": "00000000000000ff",
        "sequence": sequence,
        "model": "digits",
        "digest": DIGEST,
        "time_us": NOON + sequence,
        "up_us": 10 * sequence,
        "cycles": 17,
        "input_tensors": INPUTS,
        "output_tensors": OUTPUTS,
        "inputs": rng.randbytes(16),
        "outputs": rng.randbytes(6),
        "fleet": "acme",
    }
    return Record(**(values | changes))


def payload_of(record: Record, **changes: Any) -> bytes:
    """The message that brings a record."""
    data = record.inputs + record.outputs
    values: dict[str, Any] = {
        "boot": int(record.boot, 16),
        "seq": record.sequence,
        "model": 0,
        "up": record.up_us,
        "cycles": record.cycles,
        "total": len(data),
        "off": 0,
        "data": data,
    }
    body = load_schema().encode("capture-response", values | changes)
    return protocol.pack(Op.READ_ANSWER, CAPTURE_DATA.group, 7, CAPTURE_DATA.id, body)


def properties_of(record: Record, *, described: bool = True) -> dict[str, str]:
    """The user properties that a gateway adds to it."""
    properties = {"digest": record.digest, "boot": record.boot, "seq": str(record.sequence)}
    if record.time_us is not None:
        properties["wall"] = str(record.time_us)
    if described:
        properties["model"] = describe(record.model, record.input_tensors, record.output_tensors)
    return properties


def topic_of(record: Record) -> str:
    return f"intaglio/{record.fleet}/{record.device}/up/record"


def find_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A mosquitto of our own, which may be killed and started again on the same port."""

    def __init__(self, folder: Path, settings: str = "allow_anonymous true") -> None:
        self.port = find_port()
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\n{settings}\npersistence false\nuser {_user()}\n", encoding="utf-8"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < end and self.process.poll() is None, "mosquitto does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def _user() -> str:
    import getpass

    return getpass.getuser()


@contextmanager
def running_broker(folder: Path, settings: str = "allow_anonymous true") -> Iterator[Broker]:
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto: apt-get install mosquitto")
    broker = Broker(folder, settings)
    try:
        yield broker
    finally:
        broker.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as started:
        yield started


class Worker:
    """`intaglio ingest` as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "intaglio.host.cli", "ingest", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        assert "go to" in line, (line, self.process.stderr.read())

    def kill(self) -> None:
        """What a power cut would do."""
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Ask it to stop; exit status and standard error."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


class Gateway:
    """Publishes records, and again those that no worker has acknowledged for `patience` seconds."""

    def __init__(self, port: int, patience: float = 1.5, tls: ssl.SSLContext | None = None) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str, int], tuple[Record, float]] = {}
        self.acknowledged: set[tuple[str, str, int]] = set()
        self.published = 0
        self._stop = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_message = self._on_message
        self.client.on_connect = lambda client, *_: client.subscribe("intaglio/+/+/down/ack", qos=1)
        self.client.reconnect_delay_set(1, 1)
        self.client.max_inflight_messages_set(20)
        if tls is not None:
            self.client.tls_set_context(tls)
        self.client.connect("localhost" if tls else "127.0.0.1", port, keepalive=10)
        self.client.loop_start()
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._thread.start()

    def send(self, record: Record) -> None:
        """Publish a record until it is acknowledged."""
        with self._lock:
            self._waiting[(record.device, record.boot, record.sequence)] = (record, time.monotonic())
        self._publish(record)

    def publish(self, topic: str, payload: bytes, properties: dict[str, str]) -> None:
        """Publish anything, once."""
        wanted = Properties(PacketTypes.PUBLISH)
        wanted.UserProperty = list(properties.items())
        self.client.publish(topic, payload, qos=1, properties=wanted)
        self.published += 1

    def waiting(self) -> int:
        with self._lock:
            return len(self._waiting)

    def wait(self, seconds: float) -> None:
        """Until everything is acknowledged."""
        end = time.monotonic() + seconds
        while self.waiting():
            assert time.monotonic() < end, f"{self.waiting()} records were never acknowledged"
            time.sleep(0.05)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.client.disconnect()
        self.client.loop_stop()

    def _publish(self, record: Record) -> None:
        self.publish(topic_of(record), payload_of(record), properties_of(record))

    def _repeat(self) -> None:
        while not self._stop.wait(0.2):
            now = time.monotonic()
            with self._lock:
                late = [(k, r) for k, (r, since) in self._waiting.items() if now - since > self._patience][:200]
                for key, record in late:
                    self._waiting[key] = (record, now)
            for _, record in late:
                self._publish(record)

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        _, _, device, _, _ = message.topic.split("/")
        header, body = protocol.unpack(message.payload)
        assert (header.op, header.group, header.id) == (Op.WRITE, protocol.CAPTURE_ACK.group, protocol.CAPTURE_ACK.id)
        ack = load_schema().decode("ack-request", body)
        key = (device, f"{ack['boot']:016x}", ack["seq"])
        with self._lock:
            self._waiting.pop(key, None)
            self.acknowledged.add(key)


@pytest.fixture
def gateway(broker: Broker) -> Iterator[Gateway]:
    opened = Gateway(broker.port)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server with the bucket `captures`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ).create_bucket(Bucket="captures")
    yield address
    server.stop()


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty prefix of a bucket; the environment leads to it."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://captures/{tmp_path.name}"


@pytest.fixture(params=["folder", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of either kind."""
    if request.param == "folder":
        return str(tmp_path / "captures")
    return str(request.getfixturevalue("bucket"))


def delivery(record: Record, **more: Any) -> Delivery:
    """A record's message as a worker takes it."""
    return Delivery(topic_of(record), payload_of(record), properties_of(record, **more), 1, 1)


class Nobody:
    """Stands for the subscription of a worker that is handed its messages."""

    def __init__(self) -> None:
        self.done_: list[Delivery] = []
        self.published: list[str] = []

    def done(self, message: Delivery) -> None:
        self.done_.append(message)

    def publish(self, topic: str, payload: bytes) -> None:
        self.published.append(topic)


def made(where: str) -> Place:
    """A place that is there."""
    place = new_place(where)
    if not place.check():
        place.mark()
    return place


def keep(where: str, *batches: list[Delivery], models: Models | None = None) -> Counts:
    """Have a worker write batches of messages."""
    worker = ingest.Worker(made(where), models or Models(None), batch=100, period=1, warn=lambda text: None)
    for batch in batches:
        worker.keep(batch, Nobody())  # type: ignore[arg-type]
    return worker.counts
