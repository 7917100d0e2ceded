"""A fleet of two gateways, a device that speaks for itself and a worker; a mosquitto on loopback; MQTT 5 clients."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from intaglio.host.identity.authority import new_authority
from intaglio.host.identity.broker import CONFIGURATION, write_broker
from intaglio.host.identity.office import Office

LONGEST_WAIT = 20.0
"""Seconds for what has to happen; what must not happen is awaited by something that comes behind it."""

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
CHIPS = {"leaf-1": "00000000000000a1", "leaf-2": "00000000000000a2", "leaf-3": "00000000000000a3"}


def topic(device: str, direction: str, kind: str, fleet: str = "meadow") -> str:
    return f"intaglio/{fleet}/{CHIPS[device]}/{direction}/{kind}"


def new_office(folder: Path) -> Office:
    """A fleet with an authority and a type of devices."""
    new_authority(folder, "Test root", timedelta(days=100))
    office = Office(folder)
    office.create_fleet("meadow")
    office.add_type("leaf", "microbit", ("kws",))
    return office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with new_office(tmp_path / "fleet") as made:
        yield made


class Mosquitto:
    """A broker that runs with the files that `write_broker` wrote; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Mosquitto:
        assert MOSQUITTO is not None
        # Without this line a mosquitto that root starts goes on as another user, who cannot read a test's files.
        mine = "user root\n" if os.geteuid() == 0 else ""
        file = self.folder / "test.conf"
        file.write_text((self.folder / CONFIGURATION).read_text() + mine)
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-v", "-c", str(file)], stdout=log, stderr=log)
        wait_for(self._listens, self.log)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(LONGEST_WAIT)

    def reload(self) -> None:
        """Have it read topics and revocation list again."""
        assert self._process is not None
        before = self.log().count("Reloading config")
        self._process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.log().count("Reloading config") > before, self.log)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def wait_for(happened: Callable[[], bool], why: Callable[[], str] = lambda: "") -> None:
    """Wait until something has happened."""
    end = time.monotonic() + LONGEST_WAIT
    while not happened():
        assert time.monotonic() < end, why()
        time.sleep(0.02)


@dataclass
class Client:
    """An MQTT 5 client with a certificate; a context manager, connected or refused.

    Attributes:
        folder: of `intaglio ca issue` and `device cert`; None to come without a certificate.
        root: the root that it checks the broker with.
    """

    port: int
    folder: Path | None
    root: Path
    host: str = "localhost"
    identifier: str = ""
    will: str | None = None
    connected: bool = False
    gone: threading.Event = field(default_factory=threading.Event)
    received: Queue[tuple[str, bytes]] = field(default_factory=Queue)

    def __post_init__(self) -> None:
        self._answers: Queue[Any] = Queue()
        self._mqtt = mqtt.Client(
            CallbackAPIVersion.VERSION2, self.identifier, protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        self._mqtt.on_message = lambda client, data, message: self.received.put((message.topic, message.payload))
        self._mqtt.on_connect = lambda client, data, flags, code, properties: self._answers.put(code)
        self._mqtt.on_publish = lambda client, data, number, code, properties: self._answers.put(code)
        self._mqtt.on_subscribe = lambda client, data, number, codes, properties: self._answers.put(codes[0])
        self._mqtt.on_disconnect = lambda *_: (self.gone.set(), self._answers.put(None))
        if self.will is not None:
            self._mqtt.will_set(self.will, b"will", qos=1)

    def __enter__(self) -> Client:
        context = ssl.create_default_context(cafile=str(self.root))
        if self.folder is not None:
            (key,) = self.folder.glob("*.key.pem")
            context.load_cert_chain(str(key).replace(".key.pem", ".pem"), str(key))
        self._mqtt.tls_set_context(context)
        try:
            self._mqtt.connect(self.host, self.port)
        except OSError:
            return self
        self._mqtt.loop_start()
        code = self._answers.get(timeout=LONGEST_WAIT)
        self.connected = code is not None and not code.is_failure
        if not self.connected:
            self._mqtt.loop_stop()
        return self

    def __exit__(self, *_: object) -> None:
        self._mqtt.disconnect()
        self._mqtt.loop_stop()

    def drop(self) -> None:
        """Lose the connection without a goodbye: the broker sends the last will."""
        socket_ = self._mqtt.socket()
        self._mqtt.loop_stop()
        assert socket_ is not None
        socket_.close()

    def publish(self, to: str, payload: bytes) -> bool:
        """Publish, at least once; whether the broker took it."""
        self._mqtt.publish(to, payload, qos=1)
        return not self._answer().is_failure

    def subscribe(self, to: str) -> None:
        self._mqtt.subscribe(to, options=SubscribeOptions(qos=1))
        assert not self._answer().is_failure

    def next(self) -> tuple[str, bytes]:
        """The next message."""
        return self.received.get(timeout=LONGEST_WAIT)

    def nothing_left(self) -> bool:
        try:
            self.received.get_nowait()
        except Empty:
            return True
        return False

    def _answer(self) -> Any:
        code = self._answers.get(timeout=LONGEST_WAIT)
        assert code is not None, "the broker closed the connection"
        return code


@dataclass
class Field:
    """The fleet and its broker; `client(name)` connects with the certificate in the folder of that name."""

    office: Office
    broker: Mosquitto
    folder: Path

    def client(self, name: str | None, **more: Any) -> Client:
        folder = None if name is None else self.folder / name
        return Client(self.broker.port, folder, self.folder / "broker" / "ca.pem", **more)

    def issue(self, kind: str, name: str, **more: Any) -> None:
        self.office.issue(kind, name, self.folder / name, **more)

    def write(self) -> None:
        """Write the broker's files anew, as after every change."""
        write_broker(self.office, self.folder / "broker", (), self.broker.port, "127.0.0.1")


@pytest.fixture
def ground(office: Office, tmp_path: Path) -> Iterator[Field]:
    """leaf-1 behind barn, leaf-2 behind mill, leaf-3 by itself, and the worker ingest-1."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto: apt-get install mosquitto")
    made = Field(office, Mosquitto(tmp_path / "broker"), tmp_path)
    for gateway in ("barn", "mill"):
        made.issue("gateway", gateway)
    for device, gateway in (("leaf-1", "barn"), ("leaf-2", "mill"), ("leaf-3", None)):
        office.register(device, "leaf", "meadow", gateway, CHIPS[device])
    made.issue("device", "leaf-3")
    made.issue("worker", "ingest-1")
    made.write()
    with made.broker:
        yield made
