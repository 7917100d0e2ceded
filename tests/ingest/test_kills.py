"""`kill -9` of workers and broker at random moments: nothing acknowledged is lost, nothing read twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from intaglio.host.ingest.compact import compact
from intaglio.host.ingest.models import Models
from intaglio.host.ingest.place import open_place
from intaglio.host.ingest.query import Captures
from intaglio.host.store import Record

from .conftest import Broker, Gateway, Worker, make_record

SETTLE = 120.0


def workers_for(broker: Broker, place: Path, count: int) -> list[Worker]:
    return [
        Worker("--broker", broker.url, "--to", str(place), "--batch", "40", "--period", "0.1") for _ in range(count)
    ]


def check_all_there_once(place: Path, sent: list[Record], gateway: Gateway) -> None:
    """What is read is what was sent, and what was acknowledged is in a file."""
    with Captures(str(place)) as captures:
        assert list(captures.records()) == sorted(sent, key=lambda r: (r.device, r.boot, r.sequence))
        (repeats,) = captures.ask("SELECT count(*) - count(DISTINCT (device, boot, sequence)) FROM captures").rows
    assert repeats == (0,)
    assert gateway.acknowledged == {(r.device, r.boot, r.sequence) for r in sent}


def torment(broker: Broker, gateway: Gateway, place: Path, kills: int, seed: int, brokers: float = 0.2) -> Counter[str]:
    """Send records while workers and broker are killed; all of it must be there afterwards, once."""
    rng = random.Random(seed)
    workers = workers_for(broker, place, 2)
    for worker in workers:
        worker.wait_ready()
    sent: list[Record] = []
    done: Counter[str] = Counter()
    try:
        while sum(done.values()) < kills:
            for _ in range(rng.randrange(20, 80)):
                record = make_record(len(sent), device=f"0{len(sent) % 3}")
                sent.append(record)
                gateway.send(record)
            time.sleep(rng.uniform(0, 0.25))
            known = set(gateway.acknowledged)
            if rng.random() < brokers:
                broker.kill()
                done["broker"] += 1
                time.sleep(rng.uniform(0, 0.3))
                broker.start()
            else:
                victim = rng.randrange(2)
                workers[victim].kill()
                done["worker"] += 1
                check_on_disk(place, known)
                workers[victim] = workers_for(broker, place, 1)[0]
                if rng.random() < 0.7:  # else the next kill may find it starting
                    workers[victim].wait_ready()
            supervise(workers, broker, place)
        supervise(workers, broker, place)
        gateway.wait(SETTLE)
        assert [worker.end() for worker in workers] == [(0, "")] * 2
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.kill()
    check_all_there_once(place, sent, gateway)
    opened = open_place(str(place))
    merged = compact(opened, Models(None))
    assert (merged.records, merged.after) == (len(sent), 1)
    assert len(opened.parts()) == 1
    check_all_there_once(place, sent, gateway)
    return done


def supervise(workers: list[Worker], broker: Broker, place: Path) -> None:
    """Start those again that found no broker when they started."""
    for index, worker in enumerate(workers):
        if worker.process.poll() is not None:
            workers[index] = workers_for(broker, place, 1)[0]
            workers[index].wait_ready()


def check_on_disk(place: Path, known: set[tuple[str, str, int]]) -> None:
    """At the moment of a kill: what the gateway was told is safe can be read."""
    with Captures(str(place)) as captures:
        found = set(captures.ask("SELECT device, boot, sequence FROM captures").rows)
    assert known <= found


def test_forty_kills(broker: Broker, gateway: Gateway, tmp_path: Path) -> None:
    done = torment(broker, gateway, tmp_path / "captures", 40, seed=1)
    assert sum(done.values()) == 40 and len(done) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_of_each(broker: Broker, gateway: Gateway, tmp_path: Path) -> None:
    done = torment(broker, gateway, tmp_path / "captures", 220, seed=2, brokers=0.5)
    assert min(done["worker"], done["broker"]) >= 100, done
