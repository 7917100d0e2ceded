"""Workers against a real mosquitto: nothing acknowledged is lost, nothing read twice, whoever is killed."""

from __future__ import annotations

import random
import re
import signal
import ssl
import time
from datetime import timedelta
from pathlib import Path

from intaglio.host.identity.authority import new_authority
from intaglio.host.identity.broker import CONFIGURATION, write_broker
from intaglio.host.identity.office import Office
from intaglio.host.ingest.broker import Subscription, parse_address
from intaglio.host.ingest.query import Captures

from .conftest import (
    Broker,
    Gateway,
    Worker,
    find_port,
    make_record,
    payload_of,
    properties_of,
    running_broker,
    topic_of,
)

QUICK = ("--batch", "50", "--period", "0.2")


def test_records_are_written_acknowledged_and_read_back(broker: Broker, gateway: Gateway, where: str) -> None:
    worker = Worker("--broker", broker.url, "--to", where, *QUICK)
    worker.wait_ready()
    records = [make_record(n) for n in range(120)] + [make_record(n, device="0c", fleet="other") for n in range(30)]
    for record in records:
        gateway.send(record)
    gateway.wait(60)
    assert worker.end() == (0, "")
    with Captures(where) as captures:
        assert list(captures.records()) == records


def test_an_interrupted_worker_keeps_and_acknowledges_what_it_has_taken(broker: Broker, tmp_path: Path) -> None:
    place = str(tmp_path / "captures")
    worker = Worker("--broker", broker.url, "--to", place, "--batch", "5000", "--period", "3600")
    worker.wait_ready()
    gateway = Gateway(broker.port, patience=3600)
    try:
        for n in range(500):
            gateway.send(make_record(n))
        time.sleep(1)
        assert not gateway.acknowledged
        assert worker.end() == (0, "")
        with Captures(place) as captures:
            stored = set(captures.ask("SELECT device, boot, sequence FROM captures").rows)
        assert len(stored) > 100
        end = time.monotonic() + 30
        while gateway.acknowledged != stored:
            assert time.monotonic() < end, f"{len(gateway.acknowledged)} of {len(stored)} acknowledged"
            time.sleep(0.05)
    finally:
        gateway.close()


def test_messages_that_are_no_records_are_kept_aside_and_block_nothing(
    broker: Broker, gateway: Gateway, tmp_path: Path
) -> None:
    place = str(tmp_path / "captures")
    worker = Worker("--broker", broker.url, "--to", place, *QUICK)
    worker.wait_ready()
    rng = random.Random(5)
    records = [make_record(n) for n in range(100)]
    for record in records:
        gateway.publish("intaglio/acme/0a0b/up/record", rng.randbytes(rng.randrange(300)), {})
        gateway.publish(topic_of(record), payload_of(record, off=1), properties_of(record))
        gateway.publish("intaglio/../%2e/up/record", payload_of(record), properties_of(record) | {"digest": "no"})
        gateway.send(record)
    gateway.wait(60)
    status, errors = worker.end()
    assert (status, errors) == (0, "")
    with Captures(place) as captures:
        assert list(captures.records()) == records
        reasons = captures.ask("SELECT count(*), count(DISTINCT payload) FROM rejected").rows
        whole = captures.ask("SELECT payload FROM rejected WHERE reason LIKE 'not whole%' LIMIT 1").rows
    assert reasons[0][0] >= 300
    assert bytes(whole[0][0])[:8] == payload_of(records[0])[:8]
    assert not [path for path in tmp_path.rglob("*") if ".." in path.name]


def test_workers_of_one_group_share_the_messages(broker: Broker, gateway: Gateway, tmp_path: Path) -> None:
    place = str(tmp_path / "captures")
    workers = [Worker("--broker", broker.url, "--to", place, *QUICK) for _ in range(2)]
    for worker in workers:
        worker.wait_ready()
    records = [make_record(n) for n in range(300)]
    for record in records:
        gateway.send(record)
    gateway.wait(60)
    counts = []
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
        said, _ = worker.process.communicate(timeout=60)
        counts.append(int(re.search(r"messages\D+(\d+)", said)[1]))  # type: ignore[index]
    assert min(counts) > 0 and sum(counts) >= 300
    with Captures(place) as captures:
        assert list(captures.records()) == records


def test_the_window_holds_the_broker_back_until_the_disk_has_it(
    broker: Broker, gateway: Gateway, tmp_path: Path
) -> None:
    """A worker that acknowledges nothing is sent as many messages as its window, and no more."""
    with Subscription(parse_address(broker.url, None, None, None), "ingest", 30).open() as subscription:
        for n in range(100):
            gateway.send(make_record(n))
        taken = []
        while (message := subscription.take(1.0)) is not None:
            taken.append(message)
        assert len(taken) == 30
        for message in taken:
            subscription.done(message)
        assert subscription.take(10) is not None


def test_a_broker_that_goes_is_waited_for(broker: Broker, gateway: Gateway, tmp_path: Path) -> None:
    place = str(tmp_path / "captures")
    worker = Worker("--broker", broker.url, "--to", place, *QUICK)
    worker.wait_ready()
    gateway.send(make_record(0))
    gateway.wait(60)
    broker.kill()
    time.sleep(1)
    broker.start()
    gateway.send(make_record(1))
    gateway.wait(60)
    assert worker.end() == (0, "")
    with Captures(place) as captures:
        assert len(list(captures.records())) == 2


def test_a_worker_with_the_certificate_of_one_reads_and_acknowledges(tmp_path: Path) -> None:
    """Mutual TLS and topic rules as `intaglio fleet broker` writes them."""
    new_authority(tmp_path / "fleet", "Test root", timedelta(days=10))
    with Office(tmp_path / "fleet") as office:
        office.create_fleet("acme")
        office.add_type("leaf", "microbit", ("digits",))
        office.register("leaf-1", "leaf", "acme", None, "00000000000000a1")
        office.issue("device", "leaf-1", tmp_path / "leaf")
        office.issue("worker", "w1", tmp_path / "worker")
        write_broker(office, tmp_path / "broker", ("localhost",), find_port(), None)
    settings = (tmp_path / "broker" / CONFIGURATION).read_text().replace("listener", "# listener")
    with running_broker(tmp_path, settings) as broker:
        ca = str(tmp_path / "broker" / "ca.pem")
        address = f"mqtts://localhost:{broker.port}"
        certificates = dict.fromkeys(("worker", "leaf"))
        for name in certificates:
            (key,) = (tmp_path / name).glob("*.key.pem")
            certificates[name] = ("--ca", ca, "--cert", str(key).replace(".key.pem", ".pem"), "--key", str(key))
        place = str(tmp_path / "captures")
        worker = Worker("--broker", address, "--to", place, *QUICK, *certificates["worker"])
        worker.wait_ready()
        record = make_record(1, device="00000000000000a1")
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(certificates["leaf"][3], certificates["leaf"][5])
        device = Gateway(broker.port, tls=context)
        try:
            device.send(record)
            device.wait(60)
        finally:
            device.close()
        assert worker.end() == (0, "")
        with Captures(place) as captures:
            assert list(captures.records()) == [record]
        for options, why in (
            ((), r"its certificate is not trusted|refuses the TLS connection"),
            (("--ca", ca), r"closes the connection|refuses the TLS connection"),
        ):
            refused = Worker("--broker", address, "--to", place, *QUICK, *options)
            _, errors = refused.process.communicate(timeout=60)
            assert refused.process.returncode == 1
            assert re.fullmatch(rf"intaglio: broker {address}: ({why}).*\n", errors), errors
