"""Power cuts at every flash operation of load, unload, upgrade, configuration and put on a simulated micro:bit.

Afterwards the device boots, has the model and the configuration of before or those of after, whole, and goes on.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from intaglio.boards.board import load_board
from intaglio.host.build import FirmwareImage
from intaglio.host.client import Client
from intaglio.host.package import Package
from intaglio.host.session import RestartedError
from intaglio.host.slots import package_stream

from .conftest import Device, Models, Packager, running
from .power import Power

BOARD = "microbit"
OLD, NEW = "1.0.0", "2.0.0"
MOST_OPERATIONS = 400  # of one write to the journal, a new page and all that is copied there included


class Bench:
    """A micro:bit whose slots 0 and 1 hold two versions of a model, and what is known of it."""

    def __init__(self, device: Device, power: Power, digits: Models) -> None:
        self.device, self.power, self._digits = device, power, digits
        self.cuts = 0
        self._boots: list[int] = []
        x = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 1)).astype(np.int8)
        self._sample, self._wanted = x, digits.reference(BOARD, x)

    def cut(self, number: int, seed: int | None, act: Callable[[Client], object]) -> bool:
        """Do something with the power cut at an operation; False when it had fewer and is done."""
        with self.device.client() as client:
            self.power.arm((number, seed))
            with contextlib.suppress(RestartedError):
                act(client)
            made = self.power.disarm()
        self.cuts += made
        return made == 1

    def state(self) -> tuple[tuple[str, ...], int]:
        """Versions that are loaded, each computing what the reference does, and `every` of the configuration."""
        with self.device.client() as client:
            boot = int(client.hello.boot, 16)
            assert not self._boots or boot >= self._boots[-1]
            assert len({*self._boots, boot}) == len({*self._boots}) + (boot not in self._boots)
            self._boots.append(boot)
            assert client.heartbeat()["faults"] == 0
            config = client.config()
            assert (config["policy"], config["beat"]) == (config["every"] % 2, 1_000_000 + config["every"]), config
            slots = client.slots.list()
            for model in client.models():
                assert np.array_equal(client.predict(model.index, [self._sample]).outputs[0], self._wanted)
            return tuple(slot.version for slot in slots if slot.state == "loaded"), config["every"]

    def configure(self, every: int) -> Callable[[Client], object]:
        return lambda client: client.configure(every=every, policy=every % 2, beat=1_000_000 + every)

    def set(self, *versions: str) -> None:
        """Load what should be, unload what should not."""
        with self.device.client() as client:
            for slot, version in enumerate((OLD, NEW)):
                held = client.slots.list()[slot]
                if held.state == "loaded" and version not in versions:
                    client.slots.unload(slot)
            for slot, version in enumerate((OLD, NEW)):
                if version in versions:
                    client.slots.load(slot)


@pytest.fixture(scope="module")
def bench(firmware: Callable[[str], FirmwareImage], digits: Models) -> Iterator[Bench]:
    board = load_board(BOARD)
    assert board.slots is not None
    with running(BOARD, firmware(BOARD)) as device:
        with device.client() as client:
            client.slots.put(digits.package(BOARD, OLD), 0)
            client.slots.put(digits.package(BOARD, NEW), 1)
        power = Power(device.simulation, board.slots.origin, board.memory.flash.end, board.slots.page)
        with contextlib.closing(power):
            made = Bench(device, power, digits)
            with device.client() as client:
                made.configure(1)(client)
            yield made


def actions(bench: Bench) -> dict[str, tuple[tuple[str, ...], Callable[[Client], object], tuple[str, ...]]]:
    """By name: what is loaded before, what is done, what is loaded then."""
    return {
        "load": ((), lambda client: client.slots.load(0), (OLD,)),
        "unload": ((OLD,), lambda client: client.slots.unload(0), ()),
        "upgrade": ((OLD,), lambda client: client.slots.load(1), (NEW,)),
    }


@pytest.mark.parametrize("name", ["load", "unload", "upgrade"])
@pytest.mark.parametrize("torn", [False, True])
def test_the_old_model_or_the_new_one_wherever_the_power_fails(bench: Bench, name: str, torn: bool) -> None:
    before, act, after = actions(bench)[name]
    seen = set()
    for number in range(1, MOST_OPERATIONS):
        bench.set(*before)
        _, every = bench.state()
        more = bench.cut(number, 1000 + number if torn else None, act)
        loaded, kept = bench.state()
        assert loaded in (before, after), f"cut at operation {number}"
        assert kept == every
        seen.add(loaded)
        if not more:
            break
    assert loaded == after
    assert seen == {before, after}
    assert number > 20


@pytest.mark.parametrize("torn", [False, True])
def test_the_old_configuration_or_the_new_one_wherever_the_power_fails(bench: Bench, torn: bool) -> None:
    bench.set(OLD)
    for number in range(1, MOST_OPERATIONS):
        _, every = bench.state()
        wanted = every + 1
        more = bench.cut(number, number if torn else None, bench.configure(wanted))
        loaded, kept = bench.state()
        assert kept in (every, wanted), f"cut at operation {number}"
        assert loaded == (OLD,)
        if not more:
            break
    assert kept == wanted


@pytest.mark.parametrize("torn", [False, True])
def test_a_boot_that_is_cut_off_while_the_journal_turns_its_page(bench: Bench, torn: bool) -> None:
    """After a torn record the next boot starts a page: it erases, copies what counts, and counts itself."""
    bench.set(OLD)
    erased = len(bench.power.erased)
    for number in range(1, MOST_OPERATIONS):
        _, every = bench.state()
        with bench.device.client() as client:
            bench.power.arm((3, number), (number, number if torn else None))
            with contextlib.suppress(RestartedError):
                bench.configure(every + 1)(client)
        loaded, kept = bench.state()
        made = bench.power.disarm()
        bench.cuts += made
        more = made == 2
        assert (loaded, kept) == ((OLD,), every), f"cut at operation {number}"
        if not more:
            break
    assert number > 20
    assert len(bench.power.erased) > erased


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True])
def test_an_upgrade_that_is_cut_off_while_the_journal_turns_its_page(bench: Bench, torn: bool) -> None:
    def fill(room: int) -> int:
        """Write to the journal until it starts a page, then all but `room` records of one; returns how many fit."""
        with bench.device.client() as client:
            count = 0
            while True:
                erased = len(bench.power.erased)
                bench.power.arm()
                bench.configure(2 + count % 2)(client)
                bench.power.disarm()
                count += 1
                if len(bench.power.erased) > erased:
                    break
            for i in range(room):
                bench.configure(4 + i % 2)(client)
            return count

    bench.set(OLD)
    fill(0)
    room = fill(0) - 1  # records of the configuration that a page takes behind those that are copied to it
    seen = set()
    for number in range(1, MOST_OPERATIONS):
        bench.set(OLD)
        fill(room)
        _, every = bench.state()
        more = bench.cut(number, number if torn else None, lambda client: client.slots.load(1))
        loaded, kept = bench.state()
        assert loaded in ((OLD,), (NEW,)), f"cut at operation {number}"
        assert kept == every
        seen.add(loaded)
        if not more:
            break
    assert seen == {(OLD,), (NEW,)}
    assert number > 30  # an erased page, the copies, the record and the head of the page


@pytest.mark.parametrize("stride", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_a_put_is_taken_up_again_wherever_the_power_fails(bench: Bench, tiny: Packager, stride: int) -> None:
    """The other models stay, and what is whole in the end runs."""

    def put(package: Package, client: Client) -> None:
        client.slots.put(package, 2)

    bench.set(OLD)
    packages = [tiny(BOARD, "1.0.0"), tiny(BOARD, "1.0.1")]
    with bench.device.client() as client:
        address = client.slots.list()[2].address
    for number in range(1, 10_000, stride):
        package = packages[number // stride % 2]
        more = bench.cut(number, number if number % 3 else None, partial(put, packages[number // stride % 2]))
        assert bench.state()[0] == (OLD,)
        with bench.device.client() as client:
            sent = client.slots.put(package, 2)
            assert sent <= len(package_stream(package, address))
            client.slots.load(2)
            x = np.zeros((1, 8), np.int8)
            assert client.predict("tiny", [x]).outputs[0].shape == (1, 3)
            client.slots.unload(2)
        if not more:
            break
    assert number > 150


def test_flash_that_has_lost_a_bit_runs_nothing_and_a_put_alone_loads_nothing(bench: Bench, digits: Models) -> None:
    bench.set(OLD)
    package = digits.package(BOARD, OLD)
    address, image = package.manifest.slots[0].address, package.images[0]
    bench.power.poke(address + 5000, bytes([image[5000] ^ 4]))
    bench.device.reset()
    assert bench.state()[0] == ()
    for load in (False, True):
        with bench.device.client() as client:
            client.slots.put(package, 0)
            if load:
                client.slots.load(0)
        bench.device.reset()
        assert bench.state()[0] == ((OLD,) if load else ())


@pytest.mark.slow
def test_two_hundred_random_cuts(bench: Bench) -> None:
    chance, start = random.Random(7), bench.cuts
    while bench.cuts < start + 200:
        name = chance.choice(["load", "unload", "upgrade", "configuration"])
        _, every = bench.state()
        wanted = every
        if name == "configuration":
            wanted = chance.randrange(2, 1000)
            before = after = (OLD,)
            act = bench.configure(wanted)
        else:
            before, act, after = actions(bench)[name]
        bench.set(*before)
        bench.cut(chance.randrange(1, 30), chance.choice([None, chance.randrange(1 << 30)]), act)
        loaded, kept = bench.state()
        assert loaded in (before, after)
        assert kept in (every, wanted)
