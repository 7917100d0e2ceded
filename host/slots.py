"""The model slots of a device, seen from the host: put, load and unload."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intaglio.host import protocol
from intaglio.host.framing import CRC_BYTES, DELIMITER, encoded_bytes
from intaglio.host.protocol import Reason
from intaglio.host.session import RefusedError, Session
from intaglio.quantizer.errors import PackageError

if TYPE_CHECKING:
    from intaglio.host.client import Hello
    from intaglio.host.package import Package

STATES = ("empty", "being filled", "whole", "loaded")
_WORD = 4
_PUT_OVERHEAD = 48  # most bytes of a put message beside its data
_ERASE_SECONDS = 60.0  # to wait for a whole slot at least
_CHECK_SECONDS = 60.0  # to wait for a signature and the digest of a slot


@dataclass(frozen=True)
class SlotState:
    """A slot of a device.

    Attributes:
        index: of the slot.
        address: that its images are linked for.
        size: most bytes of an image.
        state: one of `STATES`.
        model: index of the model on the device, when loaded.
        name, version: of the package that is there; empty when none is.
        digest: of that package, hexadecimal.
    """

    index: int
    address: int
    size: int
    state: str
    model: int | None
    name: str
    version: str
    digest: str


class ModelSlots:
    """The slots of the device at the other end of a session.

    Args:
        hello: what the device said of itself.
        changed: called when a model has come or gone.
    """

    def __init__(self, session: Session, hello: Hello, changed: Callable[[], None]) -> None:
        self._session = session
        self._hello = hello
        self._changed = changed

    def list(self) -> list[SlotState]:
        """What each slot holds; empty where the firmware has no slots."""
        found: list[SlotState] = []
        count = 1
        while len(found) < count:
            try:
                answer = self._session.request(protocol.SLOT, {"slot": len(found)}, patience=_CHECK_SECONDS)
            except RefusedError as refusal:
                if refusal.reason is Reason.UNSUPPORTED:
                    return []
                raise
            if answer["kind"] >= len(STATES):
                raise self._session.error(f"has a slot in state {answer['kind']}", "update intaglio")
            count = answer["slots"]
            found.append(
                SlotState(
                    index=len(found),
                    address=answer["address"],
                    size=answer["size"],
                    state=STATES[answer["kind"]],
                    model=answer["model"] if STATES[answer["kind"]] == "loaded" else None,
                    name=answer["name"],
                    version=answer["version"],
                    digest=answer["digest"].hex(),
                )
            )
        return found

    def install(self, package: Package, progress: Callable[[int, int], None] | None = None) -> SlotState:
        """Put a package into a free slot and load it; a model of the same name leaves when it is there.

        Args:
            progress: called with the bytes that are on the device and those of the whole.

        Raises:
            PackageError: for another board, or no slot is free.
            RefusedError: the device does not take it; what it ran before goes on running.
        """
        made = package.manifest
        where = f"{made.name} {made.version}"
        if made.board != self._hello.board:
            raise PackageError(
                where, f"is for {made.board}, this is a {self._hello.board}", "package it for this board"
            )
        slots = self.list()
        if not slots:
            raise PackageError(where, "this firmware loads no models", "build it with --trust KEY")
        for slot in slots:
            if slot.state == "loaded" and slot.digest == package.digest:
                return slot
        free = [slot for slot in slots if slot.state != "loaded"]
        if not free:
            held = ", ".join(f"{slot.index}: {slot.name} {slot.version}" for slot in slots)
            raise PackageError(where, f"no slot is free ({held})", "unload a model first: intaglio unload NAME")
        # One that holds a part of it already, else an empty one.
        chosen = min(free, key=lambda slot: (slot.digest != package.digest, STATES.index(slot.state), slot.index))
        self.put(package, chosen.index, progress)
        self.load(chosen.index)
        return self.list()[chosen.index]

    def put(self, package: Package, slot: int, progress: Callable[[int, int], None] | None = None) -> int:
        """Fill a slot; goes on where an earlier attempt was cut off, when what is there is the same.

        Args:
            slot: one whose model is not loaded.
            progress: called with the bytes that are on the device and those of the whole.

        Returns:
            The bytes sent.

        Raises:
            PackageError: it has no image for the slot.
            RefusedError: the device does not take it.
        """
        address = self._session.request(protocol.SLOT, {"slot": slot}, patience=_CHECK_SECONDS)["address"]
        stream = package_stream(package, address)
        status = self._session.request(protocol.PUT_STATUS, {"slot": slot}, patience=_CHECK_SECONDS)
        offset = int(status["off"])
        if status["total"] != len(stream) or hashlib.sha256(stream[:offset]).digest() != status["digest"]:
            offset = 0
        start, step = offset, self._chunk_bytes()
        while offset < len(stream):
            answer = self._session.request(
                protocol.PUT,
                {
                    "slot": slot,
                    "size": len(package.signed),
                    "total": len(stream),
                    "off": offset,
                    "data": stream[offset : offset + step],
                },
                patience=0.0 if offset else _ERASE_SECONDS,
            )
            if answer["off"] != min(offset + step, len(stream)):
                raise self._session.error(f"has {answer['off']} bytes of the package", "try again")
            offset = int(answer["off"])
            if progress is not None:
                progress(offset, len(stream))
        return len(stream) - start

    def load(self, slot: int) -> int:
        """Check the package in a slot and bring its model up.

        Returns:
            The model's index.

        Raises:
            RefusedError: the reason says which check failed; what ran before goes on running.
        """
        answer = self._session.request(protocol.LOAD, {"slot": slot}, patience=_CHECK_SECONDS)
        self._changed()
        return int(answer["model"])

    def unload(self, slot: int) -> None:
        """Take the model of a slot away.

        Raises:
            RefusedError: nothing is loaded there, or a prediction is under way.
        """
        self._session.request(protocol.UNLOAD, {"slot": slot}, patience=_ERASE_SECONDS)
        self._changed()

    def _chunk_bytes(self) -> int:
        """Data bytes of a put message, whole words."""
        message = self._hello.frame
        while encoded_bytes(message - CRC_BYTES) + len(DELIMITER) > self._hello.window:
            message -= 1
        return (message - _PUT_OVERHEAD) // _WORD * _WORD


def package_stream(package: Package, address: int) -> bytes:
    """What is put into the slot at an address: signature, manifest, zeros up to a whole word, image.

    Raises:
        PackageError: the package has no image for that address.
    """
    for slot, image in zip(package.manifest.slots, package.images, strict=True):
        if slot.address == address:
            return package.signature + package.signed + bytes(-len(package.signed) % _WORD) + image
    made = package.manifest
    raise PackageError(
        f"{made.name} {made.version}", f"has no image for the slot at {address:#x}", "package it again for this board"
    )
