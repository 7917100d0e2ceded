"""Who may read and write what, at a real mosquitto with the files that `intaglio fleet broker` writes.

That something was not delivered is shown by what comes behind it: the broker handles one message after the other.
"""

from __future__ import annotations

import pytest

from .conftest import CHIPS, LONGEST_WAIT, Client, Field, topic, wait_for


def subscription(ground: Field) -> str:
    group = (ground.folder / "ingest-1" / "group").read_text().strip()
    return f"$share/{group}/intaglio/+/+/up/#"


def test_what_a_gateway_sends_reaches_a_worker_and_the_acknowledgement_comes_back(ground: Field) -> None:
    with ground.client("barn") as barn, ground.client("ingest-1") as worker:
        assert barn.connected
        assert worker.connected
        worker.subscribe(subscription(ground))
        barn.subscribe(topic("leaf-1", "down", "#"))
        assert barn.publish(topic("leaf-1", "up", "record"), b"record")
        assert worker.next() == (topic("leaf-1", "up", "record"), b"record")
        assert worker.publish(topic("leaf-1", "down", "ack"), b"ack")
        assert barn.next() == (topic("leaf-1", "down", "ack"), b"ack")


def test_a_device_with_its_own_certificate_has_its_own_topics(ground: Field) -> None:
    with ground.client("leaf-3") as leaf, ground.client("ingest-1") as worker:
        worker.subscribe("$share/ingest/intaglio/+/+/up/#")
        leaf.subscribe(topic("leaf-3", "down", "#"))
        for kind in ("hello", "record", "event", "response"):
            assert leaf.publish(topic("leaf-3", "up", kind), kind.encode())
            assert worker.next() == (topic("leaf-3", "up", kind), kind.encode())
        assert worker.publish(topic("leaf-3", "down", "ack"), b"ack")
        assert leaf.next() == (topic("leaf-3", "down", "ack"), b"ack")


OTHERS = {
    "barn": ("leaf-2", "leaf-3"),
    "mill": ("leaf-1", "leaf-3"),
    "leaf-3": ("leaf-1", "leaf-2"),
}


@pytest.mark.parametrize("who", OTHERS)
def test_nobody_writes_the_topics_of_another(ground: Field, who: str) -> None:
    own = {"barn": "leaf-1", "mill": "leaf-2", "leaf-3": "leaf-3"}[who]
    with ground.client(who) as stranger, ground.client("ingest-1") as worker:
        worker.subscribe("intaglio/#")
        for other in OTHERS[who]:
            for direction in ("up", "down"):
                assert not stranger.publish(topic(other, direction, "record"), b"forged")
            assert not stranger.publish(topic(other, "down", "ack"), b"forged")
        assert not stranger.publish(topic(own, "down", "ack"), b"forged")
        assert not stranger.publish(topic(own, "down", "request"), b"forged")
        assert not stranger.publish(topic(own, "up", "record", fleet="other"), b"forged")
        assert not stranger.publish(f"intaglio/meadow/{CHIPS[own]}/record", b"forged")
        assert not stranger.publish("elsewhere", b"forged")
        assert stranger.publish(topic(own, "up", "record"), b"real")
        assert worker.next() == (topic(own, "up", "record"), b"real")
        assert worker.nothing_left()


@pytest.mark.parametrize("who", OTHERS)
def test_nobody_reads_the_topics_of_another(ground: Field, who: str) -> None:
    own = {"barn": "leaf-1", "mill": "leaf-2", "leaf-3": "leaf-3"}[who]
    senders = {"leaf-1": "barn", "leaf-2": "mill", "leaf-3": "leaf-3"}
    with ground.client(who) as stranger, ground.client("ingest-1") as worker:
        for wanted in ("#", "intaglio/#", "intaglio/+/+/up/#", "intaglio/+/+/down/#"):
            stranger.subscribe(wanted)
        for other in OTHERS[who]:
            stranger.subscribe(topic(other, "down", "#"))
            with ground.client(senders[other]) as sender:
                assert sender.publish(topic(other, "up", "record"), b"secret")
            assert worker.publish(topic(other, "down", "ack"), b"secret")
        assert worker.publish(topic(own, "down", "ack"), b"mine")
        assert stranger.next() == (topic(own, "down", "ack"), b"mine")
        # The same message once more for each of its subscriptions, and nothing of the others'.
        wait_for(lambda: ground.broker.log().count("Sending PUBLISH to") >= 1)
        rest = {stranger.received.get_nowait() for _ in range(stranger.received.qsize())}
        assert rest <= {(topic(own, "down", "ack"), b"mine")}


def test_a_retained_hello_is_not_for_a_stranger(ground: Field) -> None:
    with ground.client("barn") as barn:
        barn._mqtt.publish(topic("leaf-1", "up", "hello"), b"hello", qos=1, retain=True)
        assert not barn._answer().is_failure
    with ground.client("mill") as mill, ground.client("ingest-1") as worker:
        mill.subscribe(topic("leaf-1", "up", "#"))
        mill.subscribe(topic("leaf-2", "down", "#"))
        worker.subscribe("intaglio/+/+/up/#")
        assert worker.next() == (topic("leaf-1", "up", "hello"), b"hello")
        assert worker.publish(topic("leaf-2", "down", "ack"), b"ack")
        assert mill.next() == (topic("leaf-2", "down", "ack"), b"ack")
        assert mill.nothing_left()


def test_a_worker_acknowledges_and_sends_nothing_else(ground: Field) -> None:
    with ground.client("ingest-1") as worker, ground.client("barn") as barn:
        barn.subscribe("intaglio/#")
        assert not worker.publish(topic("leaf-1", "down", "request"), b"load")
        assert not worker.publish(topic("leaf-1", "up", "record"), b"forged")
        assert worker.publish(topic("leaf-1", "down", "ack"), b"ack")
        assert barn.next() == (topic("leaf-1", "down", "ack"), b"ack")
        assert barn.nothing_left()


def test_a_last_will_on_the_topic_of_another_is_not_sent(ground: Field) -> None:
    with ground.client("ingest-1") as worker, ground.client("barn") as barn:
        worker.subscribe("intaglio/+/+/up/#")
        with ground.client("mill", will=topic("leaf-1", "up", "hello")) as mill:
            if mill.connected:
                mill.drop()
        with ground.client("leaf-3", will=topic("leaf-3", "up", "hello")) as leaf:
            leaf.drop()
        assert worker.next() == (topic("leaf-3", "up", "hello"), b"will")
        assert barn.publish(topic("leaf-1", "up", "record"), b"real")
        assert worker.next() == (topic("leaf-1", "up", "record"), b"real")


def test_the_client_identifier_of_another_pushes_nobody_out(ground: Field) -> None:
    with ground.client("barn", identifier="gateway:barn") as barn:
        with ground.client("mill", identifier="gateway:barn") as mill:
            assert mill.connected
            assert not mill.publish(topic("leaf-1", "up", "record"), b"forged")
        assert not barn.gone.is_set()
        assert barn.publish(topic("leaf-1", "up", "record"), b"real")


def test_an_identity_has_one_connection(ground: Field) -> None:
    with ground.client("barn") as first, ground.client("barn") as second:
        assert first.gone.wait(LONGEST_WAIT)
        assert second.publish(topic("leaf-1", "up", "record"), b"real")


def test_the_group_of_the_workers_cannot_be_joined_by_guessing(ground: Field) -> None:
    """Mosquitto lets anybody share a subscription, and drops what falls to one who may not read it."""
    with (
        ground.client("mill") as mill,
        ground.client("barn") as barn,
        ground.client("ingest-1") as worker,
    ):
        worker.subscribe(subscription(ground))
        mill.subscribe("$share/ingest/intaglio/+/+/up/#")
        sent = [str(i).encode() for i in range(8)]
        for payload in sent:
            assert barn.publish(topic("leaf-1", "up", "record"), payload)
        assert [worker.next()[1] for _ in sent] == sent
        assert mill.nothing_left()


def test_two_workers_share_what_comes(ground: Field) -> None:
    ground.issue("worker", "ingest-2")
    ground.write()
    ground.broker.reload()
    assert (ground.folder / "ingest-2" / "group").read_bytes() == (ground.folder / "ingest-1" / "group").read_bytes()
    with (
        ground.client("barn") as barn,
        ground.client("ingest-1") as one,
        ground.client("ingest-2") as two,
    ):
        workers: list[Client] = [one, two]
        for worker in workers:
            worker.subscribe(subscription(ground))
        sent = {str(i).encode() for i in range(8)}
        for payload in sorted(sent):
            assert barn.publish(topic("leaf-1", "up", "record"), payload)
        wait_for(lambda: sum(worker.received.qsize() for worker in workers) == len(sent))
        got = [{worker.next()[1] for _ in range(worker.received.qsize())} for worker in workers]
        assert got[0] | got[1] == sent
        assert all(got)
