"""Who may connect: not an unknown authority's, an expired, a revoked or no certificate; and what the client checks."""

from __future__ import annotations

import socket
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from intaglio.host.identity.authority import load_authority
from intaglio.host.identity.broker import write_broker
from intaglio.host.identity.certificates import Issued, Subject, make_certificate, now

from .conftest import MOSQUITTO, Field, new_office, topic


def put(folder: Path, certificate: bytes, key: bytes) -> None:
    """Files as `intaglio ca issue` leaves them."""
    folder.mkdir()
    (folder / "gateway.pem").write_bytes(certificate)
    (folder / "gateway.key.pem").write_bytes(key)


NONE, UNKNOWN, EXPIRED, REVOKED, EARLY, PURPOSE = (
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "TLSV1_ALERT_UNKNOWN_CA",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_REVOKED",
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
)


def refusal(ground: Field, name: str | None) -> str | None:
    """The alert (RFC 8446, section 6.2) with which the broker ends a handshake, as OpenSSL names it."""
    context = ssl.create_default_context(cafile=str(ground.folder / "broker" / "ca.pem"))
    if name is not None:
        (key,) = (ground.folder / name).glob("*.key.pem")
        context.load_cert_chain(str(key).replace(".key.pem", ".pem"), str(key))
    with (
        socket.create_connection(("127.0.0.1", ground.broker.port), timeout=20) as line,
        context.wrap_socket(line, server_hostname="localhost") as wrapped,
        pytest.raises(ssl.SSLError) as told,
    ):
        wrapped.recv(1)
    return told.value.reason


def test_without_a_certificate_nobody_connects(ground: Field) -> None:
    with ground.client(None) as stranger:
        assert not stranger.connected
    assert refusal(ground, None) == NONE
    with ground.client("barn") as barn:
        assert barn.connected


def test_a_certificate_of_another_authority_is_refused(ground: Field, tmp_path: Path) -> None:
    """Also when its authority has the same name, and it names the same gateway."""
    with new_office(tmp_path / "other") as other:
        other.issue("gateway", "barn", tmp_path / "forged")
    with ground.client("forged") as forged:
        assert not forged.connected
    assert refusal(ground, "forged") == UNKNOWN


def test_a_certificate_signed_by_a_client_is_refused(ground: Field, tmp_path: Path) -> None:
    """A gateway's key is no authority, whatever it signs."""
    key = load_pem_private_key((tmp_path / "mill" / "gateway.key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    pem = (tmp_path / "mill" / "gateway.pem").read_bytes()
    forged = make_certificate(
        Issued(load_pem_x509_certificate(pem), key), Subject("gateway", "barn"), timedelta(days=1), now()
    )
    put(tmp_path / "forged", forged.certificate_pem() + pem, forged.key_pem())
    with ground.client("forged") as client:
        assert not client.connected


@pytest.mark.parametrize(("age", "holds"), [(timedelta(days=4), True), (timedelta(days=6), False)])
def test_an_expired_certificate_is_refused(ground: Field, tmp_path: Path, age: timedelta, holds: bool) -> None:
    root = load_authority(ground.office.folder)
    old = make_certificate(root, Subject("gateway", "barn"), timedelta(days=5), now() - age)
    put(tmp_path / "old", old.certificate_pem(), old.key_pem())
    with ground.client("old") as client:
        assert client.connected == holds
    if not holds:
        assert refusal(ground, "old") == EXPIRED


def test_a_certificate_that_is_not_valid_yet_is_refused(ground: Field, tmp_path: Path) -> None:
    root = load_authority(ground.office.folder)
    early = make_certificate(root, Subject("gateway", "barn"), timedelta(days=5), now() + timedelta(days=2))
    put(tmp_path / "early", early.certificate_pem(), early.key_pem())
    with ground.client("early") as client:
        assert not client.connected
    assert refusal(ground, "early") == EARLY


def test_the_certificate_of_a_broker_is_not_one_of_a_client(ground: Field, tmp_path: Path) -> None:
    broker = tmp_path / "broker"
    put(tmp_path / "server", (broker / "broker.pem").read_bytes(), (broker / "broker.key.pem").read_bytes())
    with ground.client("server") as client:
        assert not client.connected
    assert refusal(ground, "server") == PURPOSE


def test_a_name_that_the_broker_does_not_know_may_do_nothing(ground: Field, tmp_path: Path) -> None:
    """A gateway made after the broker's files were written, until they are written again."""
    ground.issue("gateway", "shed")
    with ground.client("shed") as shed, ground.client("ingest-1") as worker:
        worker.subscribe("#")
        shed.subscribe("#")
        for device in ("leaf-1", "leaf-2", "leaf-3"):
            assert not shed.publish(topic(device, "up", "record"), b"forged")
            assert worker.publish(topic(device, "down", "ack"), b"ack")
        ground.office.move("leaf-1", None, "shed")
        ground.write()
        ground.broker.reload()
    with ground.client("shed") as shed, ground.client("ingest-1") as worker:
        worker.subscribe("#")
        assert shed.publish(topic("leaf-1", "up", "record"), b"real")
        assert worker.next() == (topic("leaf-1", "up", "record"), b"real")
        assert shed.nothing_left()


def test_a_revoked_gateway_is_out_and_the_others_stay_in(ground: Field) -> None:
    """An open connection stays, and has no topics any more."""
    with ground.client("barn") as barn, ground.client("mill") as mill:
        assert barn.connected
        assert mill.connected
        assert ground.office.revoke("gateway", "barn", "key_compromise") == 1
        ground.write()
        ground.broker.reload()
        assert not barn.publish(topic("leaf-1", "up", "record"), b"forged")
    assert refusal(ground, "barn") == REVOKED
    with ground.client("barn") as barn, ground.client("mill") as mill:
        assert not barn.connected
        assert mill.publish(topic("leaf-2", "up", "record"), b"real")


def test_several_revocations_within_one_second_all_hold(ground: Field) -> None:
    """OpenSSL keeps the list with the later date when a broker reads several, so the dates differ."""
    for kind, name in (("gateway", "barn"), ("device", "leaf-3"), ("gateway", "mill")):
        ground.office.revoke(kind, name, "unspecified")
        ground.write()
        ground.broker.reload()
        with ground.client(name) as client:
            assert not client.connected
    assert [refusal(ground, name) for name in ("barn", "leaf-3", "mill")] == [REVOKED] * 3
    with ground.client("ingest-1") as worker:
        assert worker.connected


def test_a_renewed_certificate_takes_over_from_the_old_one(ground: Field, tmp_path: Path) -> None:
    ground.office.issue("gateway", "barn", tmp_path / "barn-2")
    ground.write()
    ground.broker.reload()
    for name in ("barn", "barn-2"):
        with ground.client(name) as client:
            assert client.connected
    ground.office.issue("gateway", "barn", tmp_path / "barn-3", replace=True)
    ground.write()
    ground.broker.reload()
    for name, holds in (("barn", False), ("barn-2", False), ("barn-3", True)):
        with ground.client(name) as client:
            assert client.connected == holds
            if holds:
                assert client.publish(topic("leaf-1", "up", "record"), b"real")


def test_a_client_refuses_the_wrong_broker(ground: Field, tmp_path: Path) -> None:
    """Another authority's root, and an address that is not in the broker's certificate."""
    with new_office(tmp_path / "other") as other:
        other.issue("gateway", "barn", tmp_path / "elsewhere")
    client = ground.client("barn")
    client.root = tmp_path / "elsewhere" / "ca.pem"
    with client:
        assert not client.connected
    with ground.client("barn", host="127.0.0.2") as client:
        assert not client.connected
    with ground.client("barn", host="127.0.0.1") as client:
        assert client.connected


def test_the_renewed_certificate_of_the_broker_is_read_at_the_signal(ground: Field, tmp_path: Path) -> None:
    """One that was signed for other hosts, so that the client sees which one it meets."""
    before = (tmp_path / "broker" / "broker.key.pem").read_bytes()
    written = write_broker(ground.office, tmp_path / "broker", ("127.0.0.1",), ground.broker.port, "127.0.0.1")
    assert written.renewed
    assert (tmp_path / "broker" / "broker.key.pem").read_bytes() == before
    ground.broker.reload()
    with ground.client("barn", host="127.0.0.1") as client:
        assert client.connected
    with ground.client("barn", host="localhost") as client:
        assert not client.connected


def test_a_broker_without_the_revocation_list_does_not_start(ground: Field, tmp_path: Path) -> None:
    assert MOSQUITTO is not None
    (tmp_path / "broker" / "ca.crl.pem").unlink()
    file = tmp_path / "second.conf"
    file.write_text(
        (tmp_path / "broker" / "test.conf").read_text().replace(f"listener {ground.broker.port}", "listener 0")
    )
    done = subprocess.run([MOSQUITTO, "-c", str(file)], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0
    assert "ca.crl.pem" in done.stderr
