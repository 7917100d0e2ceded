"""Records on their way from the agent's ring to the store."""

from __future__ import annotations

import os
import random
import select
import signal
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from agent_bench import MockBoard

from intaglio.host import protocol
from intaglio.host.client import Client
from intaglio.host.protocol import Reason
from intaglio.host.session import RefusedError, RestartedError
from intaglio.host.store import Store
from intaglio.quantizer.errors import StoreError

COUNT_RECORD = 24 + 4 + 4  # header of the ring, input, output
RING = 2048


def count(client: Client, times: int, capture: bool = True) -> list[int | None]:
    return [client.predict("count", [np.array([1], np.int32)], capture=capture).record for _ in range(times)]


def test_a_record_is_what_went_in_and_came_out(board: MockBoard, tmp_path: Path) -> None:
    a = np.array([1, -2, 127, -128], np.int8)
    b = np.array([[1000, -32768, 32767], [5, -6, 7]], np.int16)
    with Client(board.transport()) as client, Store(tmp_path / "s.db") as store:
        before = client.heartbeat()["wall"]
        done = client.predict("mix", [a, b], capture=True)
        client.predict("mix", [a, b])
        assert done.record == 0
        assert client.ring.drain(store) == 1
        (record,) = store.query()
        assert record.inputs == a.tobytes() + b.tobytes()
        assert record.outputs == done.outputs[0].tobytes() + done.outputs[1].tobytes()
        assert (record.device, record.boot, record.sequence) == (client.hello.device, client.hello.boot, 0)
        assert (record.model, record.digest, record.cycles) == ("mix", "1122" + "00" * 30, done.cycles)
        assert record.time_us is not None
        assert before <= record.time_us <= client.heartbeat()["wall"]
        assert client.ring.status() == {"pending": 0, "used": 0, "dropped": 0, "next": 1}


def test_a_record_beyond_a_frame_and_around_the_end_of_the_ring(board: MockBoard, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    with Client(board.transport()) as client, Store(tmp_path / "s.db") as store:
        count(client, RING // COUNT_RECORD - 9)
        client.ring.drain(store)
        a = rng.integers(-128, 128, 4).astype(np.int8)
        expected = []
        for _ in range(200):
            b = rng.integers(-(2**15), 2**15, (2, 3)).astype(np.int16)
            done = client.predict("mix", [a, b], capture=True)
            expected.append((done.record, a.tobytes() + b.tobytes(), b"".join(o.tobytes() for o in done.outputs)))
            if len(expected) % 30 == 0:
                client.ring.drain(store, batch=7)
        client.ring.drain(store)
        found = [(r.sequence, r.inputs, r.outputs) for r in store.query(digest="1122" + "00" * 30)]
        assert found == expected


def test_a_record_larger_than_the_ring_counts_as_dropped(board: MockBoard) -> None:
    with Client(board.transport()) as client:
        count(client, 2)
        done = client.predict("wide", [np.zeros((30, 40, 1), np.uint8)], capture=True)
        assert done.record is None
        assert client.ring.status() == {"pending": 2, "used": 2 * COUNT_RECORD, "dropped": 1, "next": 3}


@pytest.mark.parametrize("policy", [0, 1])
def test_a_full_ring_drops_by_policy(board: MockBoard, policy: int) -> None:
    room = RING // COUNT_RECORD
    with Client(board.transport()) as client:
        client.configure(policy=policy)
        numbers = count(client, room + 5)
        kept = [record.sequence for record in client.ring.records()]
        assert kept == list(range(5, room + 5) if policy == 0 else range(room))
        assert numbers == (list(range(room + 5)) if policy == 0 else [*range(room), *[None] * 5])
        assert client.heartbeat()["dropped"] == 5
        assert client.ring.status()["next"] == room + 5


def test_one_of_every_n_is_sampled(board: MockBoard) -> None:
    with Client(board.transport()) as client:
        client.configure(every=3)
        assert count(client, 7) == [0, None, None, 1, None, None, 2]
        client.configure(every=0)
        assert count(client, 2) == [None, None]
        client.configure(every=1)
        assert count(client, 2, capture=False) == [None, None]
        assert count(client, 2) == [3, 4]


def test_records_stay_until_acknowledged(board: MockBoard, tmp_path: Path) -> None:
    with Client(board.transport()) as client:
        count(client, 5)
        assert [r.sequence for r in client.ring.records()] == [0, 1, 2, 3, 4]
    with Client(board.transport()) as client:
        assert [r.sequence for r in client.ring.records()] == [0, 1, 2, 3, 4]
        assert client.ring.acknowledge(2) == 2
        assert [r.sequence for r in client.ring.records()] == [3, 4]
        assert client.ring.acknowledge(2) == 2


def test_an_acknowledgement_for_another_boot_frees_nothing(board: MockBoard) -> None:
    with Client(board.transport()) as client:
        count(client, 1)
        stale = client.hello.boot
    board.reboot()
    with Client(board.transport()) as client:
        count(client, 1)
        with pytest.raises(RefusedError) as refusal:
            client.request(protocol.CAPTURE_ACK, {"boot": int(stale, 16), "seq": 0})
        assert refusal.value.reason is Reason.OTHER_BOOT
        assert client.ring.status()["pending"] == 1


def test_records_of_a_boot_that_went_unnoticed_are_not_taken_for_those_of_the_last(
    board: MockBoard, tmp_path: Path
) -> None:
    """The boot event is lost, and the ring of the new boot has records with the numbers of the old one's."""
    with Client(board.transport()) as client, Store(tmp_path / "s.db") as store:
        count(client, 2)
        client.ring.drain(store)
        board.reboot()
        time.sleep(0.1)
        while select.select([board.host], [], [], 0.05)[0]:
            board.host.recv(4096)
        client.request(
            protocol.PREDICT,
            {"model": 2, "off": 0, "data": bytes(4), "capture": True},
            response="predict-response",
        )
        with pytest.raises(RestartedError):
            client.ring.drain(store)
        with pytest.raises(RestartedError):
            client.ring.acknowledge(0)
        with Client(board.transport()) as other:
            assert other.ring.drain(store) == 1
        with pytest.raises(RestartedError):  # another host has said hello meanwhile
            count(client, 1)
            client.ring.drain(store)
        assert store.count() == 3


def test_nothing_is_acknowledged_that_the_store_refused(board: MockBoard, tmp_path: Path) -> None:
    with Client(board.transport()) as client, Store(tmp_path / "s.db") as store:
        count(client, 40)
        store._db.execute("PRAGMA max_page_count=1")  # SQLite's own way of running out of space
        with pytest.raises(StoreError, match=r"s\.db: database or disk is full; free some space"):
            for _ in range(50):
                count(client, 10)
                client.ring.drain(store)
        kept = store.count()
        pending = [r.sequence for r in client.ring.records()]
        assert [r.sequence for r in store.query()] == list(range(kept))
        assert pending[0] <= kept
        assert client.heartbeat()["dropped"] == 0
        store._db.execute("PRAGMA max_page_count=1000000")
        client.ring.drain(store)
        assert [r.sequence for r in store.query()] == list(range(pending[-1] + 1))


def test_boots_are_told_apart(board: MockBoard, tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as store:
        for _ in range(3):
            with Client(board.transport()) as client:
                count(client, 2)
                assert client.ring.drain(store) == 2
            board.reboot()
        assert store.count() == 6
        assert len({record.boot for record in store.query()}) == 3


def test_a_host_killed_at_any_moment_loses_nothing_and_stores_nothing_twice(board: MockBoard, tmp_path: Path) -> None:
    """40 hosts and more drain, predict and capture until SIGKILL; the board stays up. More when the machine is so slow
    that 40 records are not in by then; each is then given longer. Draining comes first, or hosts that are killed
    before they come to it would fill the ring."""
    path = tmp_path / "s.db"
    rng = random.Random(8)
    kills = stored = 0
    while kills < 40 or stored <= 40:
        kills += 1
        started, starts = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                with Client(board.transport()) as client, Store(path) as store:
                    os.write(starts, b"!")
                    while True:
                        client.ring.drain(store, batch=3)
                        count(client, rng.randrange(1, 8))
            finally:
                os._exit(1)
        # However slow the machine is, the moment lies in the work, not before it.
        assert os.read(started, 1) == b"!"
        os.close(started)
        os.close(starts)
        time.sleep(rng.uniform(0.0, 0.06 * max(1.0, kills / 20)))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        with Store(path) as store:
            stored = store.count()
    with Client(board.transport()) as client, Store(path) as store:
        client.ring.drain(store)
        status = client.ring.status()
        assert (status["pending"], status["dropped"]) == (0, 0)
        found = [(record.sequence, *struct.unpack("<i", record.outputs)) for record in store.query()]
        # the model counts: record n holds its n+1st prediction
        assert found == [(n, n + 1) for n in range(status["next"])]
