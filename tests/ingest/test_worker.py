"""Workers against a real mosquitto: nothing acknowledged is lost, nothing read twice, whoever is killed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from intaglio.host.ingest.query import Captures

from .conftest import Broker, Gateway, Worker, make_record, payload_of, properties_of, topic_of

QUICK = ("--batch", "50", "--period", "0.2")


def test_records_are_written_acknowledged_and_read_back(broker: Broker, gateway: Gateway, tmp_path: Path) -> None:
    place = str(tmp_path / "captures")
    worker = Worker("--broker", broker.url, "--to", place, *QUICK)
    worker.wait_ready()
    records = [make_record(n) for n in range(120)] + [make_record(n, device="0c", fleet="other") for n in range(30)]
    for record in records:
        gateway.send(record)
    gateway.wait(60)
    assert worker.end() == (0, "")
    with Captures(place) as captures:
        assert list(captures.records()) == records
