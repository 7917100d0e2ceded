"""A worker's line to the broker: MQTT 5, a shared subscription, acknowledged by hand."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from intaglio.host.ingest.message import LARGEST_MESSAGE, SHARED_TOPIC
from intaglio.quantizer.errors import LinkError, StoreError, UsageError

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_PATIENCE = 20.0
"""Seconds that the first connection may take, subscription included."""

_FAREWELL = 10.0
"""Seconds that the last acknowledgements may take when the worker ends."""

# Of MQTT 5, table 2-6: server unavailable, busy, shutting down, quota exceeded, connection rate exceeded.
_PASSING = (0x88, 0x89, 0x8B, 0x97, 0x9F)


@dataclass(frozen=True)
class Address:
    """Where a broker is, and what proves who we are.

    Attributes:
        ca: certificates that the broker's must be signed by; None: those of the system.
        certificate, key: ours.
    """

    host: str
    port: int
    tls: bool
    user: str | None = None
    password: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def parse_address(url: str, ca: Path | None, certificate: Path | None, key: Path | None) -> Address:
    """mqtt://HOST[:PORT] or mqtts://HOST[:PORT], with USER:PASSWORD@ where the broker wants them.

    Raises:
        UsageError: another kind of URL, or files that do not go with it.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in _PORTS or not parts.hostname or port == -1 or parts.path.strip("/"):
        raise UsageError(f"--broker {url}", "is not the address of a broker", "give mqtt://HOST:1883 or mqtts://HOST")
    tls = parts.scheme == "mqtts"
    if (ca or certificate or key) and not tls:
        raise UsageError("--ca, --cert, --key", "are for mqtts://", f"give --broker mqtts://{parts.hostname}")
    if (certificate is None) != (key is None):
        raise UsageError("--cert, --key", "go together", "give both or none")
    return Address(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        tls=tls,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        ca=ca,
        certificate=certificate,
        key=key,
    )


@dataclass(frozen=True)
class Delivery:
    """A message as it came, and which PUBACK it waits for.

    Attributes:
        connection: number of the connection that it came over; its packet identifier means nothing on another.
    """

    topic: str
    payload: bytes
    properties: Mapping[str, str]
    packet: int
    connection: int


class Subscription:
    """Messages of a shared subscription, each acknowledged when `done` is called for it.

    The broker sends at most `window` messages that were not acknowledged (MQTT 5, Receive Maximum): a worker that is
    slow, or whose disk is, is sent no more. The session ends with the connection: what a worker that died held goes
    to others as soon as its sender repeats it.

    Args:
        group: workers of one group share the messages.
        window: 1 to 65,535.
    """

    def __init__(self, address: Address, group: str, window: int) -> None:
        self._address = address
        self._topic = f"$share/{group}/{SHARED_TOPIC}"
        self._arrived: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self._window = window
        self._connection = 0
        self._fault: LinkError | None = None
        self._last: Any = None
        self._ready = threading.Event()
        self._client = self._make_client()

    @contextlib.contextmanager
    def open(self) -> Iterator[Subscription]:
        """Connect and subscribe; when the connection is lost, connect again until the block ends.

        Raises:
            LinkError: no broker there, or it refuses.
        """
        self._connect()
        network = threading.Thread(target=self._run, daemon=True, name="mqtt")
        network.start()
        try:
            if not self._ready.wait(_PATIENCE):
                raise self._fault or self._error("does not answer as a broker of MQTT 5", "check host and port")
            self.check()
            yield self
            if self._last is not None:
                # They go out in order, a few at a time; without the last ones their records would come again.
                with contextlib.suppress(RuntimeError, ValueError):
                    self._last.wait_for_publish(_FAREWELL)
        finally:
            self._client.disconnect()
            network.join(5)

    def take(self, timeout: float) -> Delivery | None:
        """The next message; None when none came in `timeout` seconds."""
        try:
            return self._arrived.get(timeout=max(timeout, 0.001))
        except queue.Empty:
            return None

    def done(self, delivery: Delivery) -> None:
        """Send the PUBACK of a message, unless its connection was lost."""
        # Should the connection go right here, the broker forgets a message that is not ours; its sender, who waits
        # for the durable acknowledgement, does not.
        if delivery.connection == self._connection:
            self._client.ack(delivery.packet, 1)

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a message with QoS 1; it waits where the connection is lost."""
        self._last = self._client.publish(topic, payload, qos=1)

    def check(self) -> None:
        """Raises:
        LinkError: the broker has refused us since.
        """
        if self._fault is not None:
            raise self._fault

    def _make_client(self) -> Any:
        try:
            import paho.mqtt.client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise StoreError(
                "ingest", "needs paho-mqtt, which is not installed", "pip install 'intaglio[ingest]'"
            ) from (None)
        name = f"ingest-{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5, manual_ack=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.reconnect_delay_set(1, 10)
        if self._address.user is not None:
            client.username_pw_set(self._address.user, self._address.password)
        if self._address.tls:
            client.tls_set_context(self._tls())
        return client

    def _tls(self) -> ssl.SSLContext:
        ours = self._address
        try:
            context = ssl.create_default_context(cafile=None if ours.ca is None else str(ours.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if ours.certificate is not None:
                context.load_cert_chain(ours.certificate, ours.key)
        except (OSError, ValueError) as error:
            names = ", ".join(str(path) for path in (ours.ca, ours.certificate, ours.key) if path)
            raise LinkError(
                names, f"cannot be used ({_said(error)})", "give PEM files, the key that of --cert"
            ) from None
        return context

    def _connect(self) -> None:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wanted.ReceiveMaximum = self._window
        wanted.MaximumPacketSize = LARGEST_MESSAGE
        wanted.SessionExpiryInterval = 0
        try:
            self._client.connect(
                self._address.host, self._address.port, keepalive=30, clean_start=True, properties=wanted
            )
        except ssl.SSLCertVerificationError as error:
            raise self._error(
                f"its certificate is not trusted ({error.verify_message})", "check --ca and HOST"
            ) from None
        except ssl.SSLError as error:
            raise self._error(f"refuses the TLS connection ({_said(error)})", "check --ca, --cert, --key") from None
        except (OSError, ValueError) as error:
            raise self._error(f"cannot be reached ({_said(error)})", "check host and port, start the broker") from None

    def _run(self) -> None:
        try:
            self._client.loop_forever(retry_first_connection=False)
        except Exception as error:  # it would end the thread, and the worker would wait for ever
            self._fail(f"the connection ended ({_said(error)})", "start the worker again")

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            if reason.value not in _PASSING:
                self._fail(f"refuses us ({str(reason).lower()})", "check user, password, certificate and ACL")
            return
        self._connection += 1
        client.subscribe(self._topic, qos=1)

    def _on_subscribe(self, _client: Any, _data: Any, _packet: Any, reasons: Any, _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._fail(f"refuses {self._topic} ({str(reasons[0]).lower()})", "check the ACL of the worker")
            return
        self._ready.set()

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        pairs = getattr(message.properties, "UserProperty", None) or []
        self._arrived.put(Delivery(message.topic, message.payload, dict(pairs), message.mid, self._connection))

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if not self._ready.is_set() and reason.is_failure:
            # Before the first subscription: a broker that wants a certificate closes after the handshake (TLS 1.3).
            self._fail(f"closes the connection ({str(reason).lower()})", "check certificate, user and password")

    def _fail(self, what: str, hint: str) -> None:
        self._fault = self._fault or self._error(what, hint)
        self._ready.set()
        self._client.disconnect()

    def _error(self, what: str, hint: str) -> LinkError:
        return LinkError(f"broker {self._address}", what, hint)


def _said(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
