"""A device's ring of captured predictions, seen from the host.

A record stays in the device until it is acknowledged, and whoever acknowledges has made it durable: at least once on
the wire, exactly once in a store that knows its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from intaglio.host import protocol
from intaglio.host.protocol import Reason
from intaglio.host.schema import Message
from intaglio.host.session import RefusedError, Session
from intaglio.host.store import Record

if TYPE_CHECKING:
    from intaglio.host.client import Hello, Model
    from intaglio.host.store import Store


class CaptureRing:
    """The capture ring of the device at the other end of a session.

    Args:
        hello: what the device said of itself; a record of another boot is an error.
        describe: gives a model by its index on the device.
    """

    def __init__(self, session: Session, hello: Hello, describe: Callable[[int], Model]) -> None:
        self._session = session
        self._hello = hello
        self._describe = describe

    def status(self) -> Message:
        """Its state: the fields of capture-status in `protocol.cddl`."""
        return self._session.request(protocol.CAPTURE_STATUS, {})

    def records(self) -> Iterator[Record]:
        """The records, oldest first; they stay in the device until `acknowledge`.

        Raises:
            RestartedError: the device restarted meanwhile.
        """
        clock = self._session.request(protocol.TIME_GET, {})
        epoch = clock["wall"] - clock["up"] if clock["wall"] else None
        sequence = 0
        while (found := self._read(sequence)) is not None:
            head, data = found
            yield self._record(head, data, epoch)
            sequence = head["seq"] + 1

    def acknowledge(self, sequence: int) -> int:
        """Frees the records up to `sequence` in the device. Call it when they are durable, not before.

        Returns: the records left in the ring.

        Raises:
            RestartedError: the device restarted meanwhile: the records are those of another boot.
        """
        try:
            answer = self._session.request(protocol.CAPTURE_ACK, {"boot": int(self._hello.boot, 16), "seq": sequence})
        except RefusedError as refusal:
            if refusal.reason is Reason.OTHER_BOOT:
                raise self._session.restarted() from None
            raise
        pending: int = answer["pending"]
        return pending

    def drain(self, store: Store, batch: int = 16) -> int:
        """Moves the records into a store; acknowledges what the store has made durable.

        Returns: the records that were new to the store.

        Raises:
            StoreError: the store cannot be written; what was not stored stays in the device.
        """
        new = 0
        waiting: list[Record] = []
        for record in self.records():
            waiting.append(record)
            if len(waiting) == batch:
                new += self._keep(store, waiting)
                waiting = []
        return new + self._keep(store, waiting)

    def _keep(self, store: Store, records: list[Record]) -> int:
        if not records:
            return 0
        new = store.add(records)
        self.acknowledge(records[-1].sequence)
        return new

    def _read(self, sequence: int) -> tuple[Message, bytes] | None:
        """The oldest record from `sequence` on; another one when the device drops that while it is read."""
        data = bytearray()
        while True:
            try:
                part = self._session.request(protocol.CAPTURE_DATA, {"least": sequence, "off": len(data)})
            except RefusedError as refusal:
                if refusal.reason is Reason.OTHER_BOOT:
                    raise self._session.restarted() from None
                if refusal.reason is not Reason.NOT_FOUND:
                    raise
                if not data:
                    return None
                data.clear()
                continue
            if f"{part['boot']:016x}" != self._hello.boot:
                raise self._session.restarted()
            sequence = part["seq"]
            if part["off"] != len(data) or (not part["data"] and len(data) < part["total"]):
                raise self._session.error(f"leaves a gap in record {sequence}", "try again")
            data += part["data"]
            if len(data) >= part["total"]:
                return part, bytes(data)

    def _record(self, head: Message, data: bytes, epoch: int | None) -> Record:
        model = self._describe(head["model"])
        size = sum(tensor.nbytes for tensor in model.inputs)
        if len(data) != size + sum(tensor.nbytes for tensor in model.outputs):
            raise self._session.error(f"record {head['seq']} has {len(data)} bytes", "build the firmware again")
        return Record(
            device=self._hello.device,
            boot=self._hello.boot,
            sequence=head["seq"],
            model=model.name,
            digest=model.digest,
            time_us=None if epoch is None else epoch + head["up"],
            up_us=head["up"],
            cycles=head["cycles"],
            input_tensors=model.inputs,
            output_tensors=model.outputs,
            inputs=data[:size],
            outputs=data[size:],
        )
