"""Models that come and go on simulated boards: they compute what the reference does, and what may not run does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import expected, samples

from intaglio.boards.board import load_board
from intaglio.host import protocol
from intaglio.host.build import FirmwareImage, build_firmware
from intaglio.host.client import Client
from intaglio.host.keys import SigningKey, load_signing_key, new_key
from intaglio.host.package import Package
from intaglio.host.protocol import Reason
from intaglio.host.session import RefusedError
from intaglio.host.slots import package_stream
from intaglio.quantizer.errors import BoardError, PackageError

from .conftest import BOARDS, Models, Packager, running, signed_again

Firmware = Callable[[str], FirmwareImage]


def refused(reason: Reason, call: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    assert caught.value.reason is reason, caught.value
    assert "\n" not in str(caught.value)


def states(client: Client) -> list[str]:
    return [slot.state for slot in client.slots.list()]


def put_and_load(client: Client, package: Package, slot: int) -> int:
    client.slots.put(package, slot)
    return client.slots.load(slot)


def images(client: Client, model: int | str, count: int = 5) -> list[np.ndarray[Any, Any]]:
    shape = client.describe(model).inputs[0].shape
    return [np.random.default_rng(i).integers(-128, 128, shape).astype(np.int8) for i in range(count)]


def check_digits(client: Client, digits: Models, board: str) -> None:
    for x in images(client, "digits"):
        assert np.array_equal(client.predict("digits", [x]).outputs[0], digits.reference(board, x))


@pytest.mark.parametrize("board", BOARDS)
def test_load_predict_upgrade_unload(board: str, firmware: Firmware, digits: Models, tiny: Packager) -> None:
    with running(board, firmware(board)) as device:
        with device.client() as client:
            assert client.models() == ()
            first = client.slots.install(digits.package(board))
            assert (first.state, first.name, first.version) == ("loaded", "digits", "1.0.0")
            check_digits(client, digits, board)

            # A second one beside it, which keeps state; its calls count on while the first one runs.
            client.slots.install(tiny(board))
            assert [model.name for model in client.models()] == ["digits", "tiny"]
            inputs = samples(6)
            for x, (_, y) in zip(inputs, expected(inputs), strict=True):
                assert np.array_equal(client.predict("tiny", [x.reshape(1, 8)]).outputs[0].ravel(), y)
                check_digits(client, digits, board)

            # An upgrade takes another slot, another index, and the old one away.
            before = client.describe("digits").index
            second = client.slots.install(digits.package(board, "1.1.0"))
            assert second.index != first.index
            assert second.model not in (None, before)
            assert [model.name for model in client.models()] == ["tiny", "digits"]
            assert client.slots.list()[first.index].state == "whole"
            check_digits(client, digits, board)
            refused(Reason.NOT_FOUND, client.request, protocol.LIST, {"model": before})

        # All of it outlives a reset; state does not.
        device.reset()
        with device.client() as client:
            assert {m.name for m in client.models()} == {"tiny", "digits"}
            assert [s.version for s in client.slots.list() if s.name == "digits" and s.state == "loaded"] == ["1.1.0"]
            check_digits(client, digits, board)
            assert np.array_equal(
                client.predict("tiny", [inputs[0].reshape(1, 8)]).outputs[0].ravel(), expected(inputs)[0][1]
            )
            client.slots.unload(second.index)
            assert [model.name for model in client.models()] == ["tiny"]
            refused(Reason.NOT_FOUND, client.slots.unload, second.index)
        device.reset()
        with device.client() as client:
            assert [model.name for model in client.models()] == ["tiny"]


def test_a_put_goes_on_where_it_was_cut_off(firmware: Firmware, digits: Models) -> None:
    package = digits.package("microbit")
    with running("microbit", firmware("microbit")) as device:
        with device.client() as client:
            stream = package_stream(package, client.slots.list()[1].address)

            def cut(sent: int, total: int) -> None:
                if sent > 4000:
                    raise InterruptedError

            with pytest.raises(InterruptedError):
                client.slots.put(package, 1, cut)
            assert states(client)[1] == "being filled"
            refused(Reason.DAMAGED, client.slots.load, 1)
            # The line was cut: not a byte is sent twice.
            assert client.request(protocol.PUT_STATUS, {"slot": 1})["off"] > 4000
        device.reset()
        with device.client() as client:
            # The device was reset: whole pages are kept.
            there = client.request(protocol.PUT_STATUS, {"slot": 1})["off"]
            assert 2048 < there <= 4500
            assert client.slots.put(package, 1) == len(stream) - there
            assert client.slots.put(package, 1) == 0
            client.slots.load(1)
            check_digits(client, digits, "microbit")
        # Another package in a slot that holds a part of the first one is put anew.
        with device.client() as client:
            with pytest.raises(InterruptedError):
                client.slots.put(package, 0, cut)
            other = digits.package("microbit", "2.0.0")
            assert client.slots.put(other, 0) == len(stream)
            client.slots.load(0)
            check_digits(client, digits, "microbit")


def test_what_may_not_run_is_refused_by_name(
    firmware: Firmware, digits: Models, key: SigningKey, tmp_path: Path
) -> None:
    board = "microbit"
    good = digits.package(board, counter=5)
    new_key("other", tmp_path)
    stranger = digits.package(board, signer=load_signing_key("other", tmp_path))
    slots = [{"address": s.address, "size": s.size, "digest": s.digest} for s in good.manifest.slots]
    with running(board, firmware(board)) as device, device.client() as client:
        put, load = client.slots.put, client.slots.load
        refused(Reason.NO_PACKAGE, load, 0)
        refused(Reason.NOT_FOUND, load, 3)
        refused(Reason.NOT_FOUND, client.slots.unload, 0)

        def load_of(package: Package) -> None:
            put(package, 0)
            load(0)

        refused(Reason.UNTRUSTED, load_of, stranger)
        refused(Reason.UNTRUSTED, load_of, dataclasses.replace(good, signature=bytes(64)))
        for field, value, reason in (
            ("board", "nrf52840dk", Reason.OTHER_BOARD),
            ("core", "cortex-m4", Reason.OTHER_BOARD),
            ("abi", 2, Reason.OTHER_BOARD),
            ("format", 2, Reason.OTHER_BOARD),
            ("stack", 4096, Reason.STACK),
            ("arena", 4, Reason.DAMAGED),
            ("name", "sums", Reason.DAMAGED),
            ("graph", bytes(32), Reason.DAMAGED),
            ("slots", [s | {"address": s["address"] + 4} for s in slots], Reason.OTHER_SLOT),
        ):
            refused(reason, load_of, signed_again(good, key, **{field: value}))
        # What was signed for slot 1 does not run in slot 0, though its digest is right.
        swapped = [slots[0] | {"digest": slots[1]["digest"]}, *slots[1:]]
        moved = signed_again(good, key, slots=swapped)
        refused(Reason.DAMAGED, load_of, dataclasses.replace(moved, images=(good.images[1], *good.images[1:])))
        # Every part of the image counts.
        for at in range(0, len(good.images[0]), 977):
            image = bytearray(good.images[0])
            image[at] ^= 1
            refused(Reason.DAMAGED, load_of, dataclasses.replace(good, images=(bytes(image), *good.images[1:])))
        assert client.models() == ()

        load_of(good)
        assert load(0) == client.describe("digits").index
        refused(Reason.TAKEN, client.request, protocol.PUT, {"slot": 0, "size": 4, "total": 80, "off": 0, "data": b""})
        refused(Reason.TAKEN, client.request, protocol.PUT_STATUS, {"slot": 0})
        put(digits.package(board, "0.9.0", counter=4), 1)
        refused(Reason.ROLLBACK, load, 1)
        client.slots.unload(0)
        refused(Reason.ROLLBACK, load, 1)  # the counter outlives the model
        load(0)
        check_digits(client, digits, board)
        assert client.heartbeat()["faults"] == 0


def test_a_put_that_cannot_be_is_refused(firmware: Firmware) -> None:
    with running("microbit", firmware("microbit")) as device, device.client() as client:
        good = {"slot": 0, "size": 100, "total": 264, "off": 0, "data": bytes(4)}
        size = client.slots.list()[0].size
        for changes, reason in (
            ({"slot": 3}, Reason.NOT_FOUND),
            ({"slot": 1 << 31}, Reason.NOT_FOUND),
            ({"size": 0}, Reason.MALFORMED),
            ({"size": 1025, "total": 4000}, Reason.TOO_LARGE),
            ({"size": (1 << 32) - 1}, Reason.TOO_LARGE),
            ({"total": 164}, Reason.MALFORMED),
            ({"total": 265}, Reason.MALFORMED),
            ({"total": 164 + size + 4}, Reason.TOO_LARGE),
            ({"total": (1 << 32) - 4}, Reason.TOO_LARGE),
            ({"data": bytes(3)}, Reason.MALFORMED),
            ({"data": bytes(268)}, Reason.OFFSET),
            ({"off": 4}, Reason.OFFSET),
        ):
            refused(reason, client.request, protocol.PUT, good | changes)
        assert client.request(protocol.PUT, good)["off"] == 4
        refused(Reason.OFFSET, client.request, protocol.PUT, good | {"off": 8})
        refused(Reason.OFFSET, client.request, protocol.PUT, good | {"off": 4, "total": 268})
        assert client.request(protocol.PUT, good | {"off": 4})["off"] == 8


def test_nothing_comes_or_goes_while_inputs_are_under_way(firmware: Firmware, digits: Models) -> None:
    with running("microbit", firmware("microbit")) as device:
        with device.client() as client:
            index = put_and_load(client, digits.package("microbit"), 0)
            client.slots.put(digits.package("microbit", "1.1.0"), 1)
            chunk = {"model": index, "off": 0, "data": bytes(10), "capture": False}
            client.request(protocol.PREDICT, chunk, response="predict-more")
            refused(Reason.BUSY, client.slots.unload, 0)
            refused(Reason.BUSY, client.slots.load, 1)
            check_digits(client, digits, "microbit")
        with device.client() as client:
            client.request(protocol.PREDICT, chunk, response="predict-more")
        with device.client() as client:  # a new session ends what the one before has begun
            client.slots.unload(0)
            refused(Reason.NOT_FOUND, client.request, protocol.PREDICT, chunk)


def test_an_arena_that_does_not_fit_and_slots_that_are_all_taken(
    key: SigningKey, digits: Models, tiny: Packager, tmp_path: Path
) -> None:
    board = load_board("microbit")
    ram = board.memory.ram.model_copy(update={"length": 0x2200})
    small = board.model_copy(update={"memory": board.memory.model_copy(update={"ram": ram})})
    image = build_firmware([], small, tmp_path / "small", trust=[key.public])
    with running(small, image) as device, device.client() as client:
        client.slots.put(digits.package("microbit"), 0)
        left = ram.length - image.ram_bytes
        if left >= 2304:
            pytest.fail(f"the board has {left} bytes left: make it smaller")
        refused(Reason.ARENA, client.slots.load, 0)
    image = build_firmware([], board, tmp_path / "whole", trust=[key.public])
    with running(board, image) as device, device.client() as client:
        client.slots.install(digits.package("microbit"))
        client.slots.install(tiny("microbit"))
        other = signed_again(digits.package("microbit"), key, arena=1 << 30)
        refused(Reason.DAMAGED, client.slots.install, other)
        client.slots.put(digits.package("microbit", "3.0.0"), 2)
        client.slots.load(2)
        assert states(client) == ["whole", "loaded", "loaded"]
        client.slots.install(digits.package("microbit", "4.0.0"))
        assert [slot.version for slot in client.slots.list()] == ["4.0.0", "1.0.0", "3.0.0"]
        with pytest.raises(PackageError, match="is for mps2_an385, this is a microbit"):
            client.slots.install(digits.package("mps2_an385"))


def test_firmware_that_trusts_nobody_loads_nothing(digits: Models, key: SigningKey, tmp_path: Path) -> None:
    image = build_firmware([], load_board("microbit"), tmp_path)
    with running("microbit", image) as device, device.client() as client:
        assert client.slots.list() == []
        with pytest.raises(PackageError, match="loads no models; build it with --trust KEY"):
            client.slots.install(digits.package("microbit"))
        refused(Reason.UNSUPPORTED, client.slots.load, 0)
    with pytest.raises(BoardError, match="has no model slots"):
        build_firmware([], load_board("lm3s6965evb"), tmp_path / "no", trust=[key.public])


@pytest.mark.parametrize("board", BOARDS)
def test_boot_identifiers_count_up_and_the_configuration_stays(board: str, firmware: Firmware) -> None:
    with running(board, firmware(board)) as device:
        seen = []
        for i in range(30):
            with device.client() as client:
                boot = int(client.hello.boot, 16)
                if i:
                    assert client.config() == {"every": i, "policy": i % 2, "beat": 100_000 + i}
                client.configure(every=i + 1, policy=(i + 1) % 2, beat=100_001 + i)
            device.reset()
            seen.append(boot)
        assert len({boot >> 32 for boot in seen}) == 1
        assert [boot & 0xFFFF_FFFF for boot in seen] == list(range(1, 31))
    with running(board, firmware(board)) as device, device.client() as client:
        assert int(client.hello.boot, 16) >> 32 != seen[0] >> 32  # new flash, and the count begins again
