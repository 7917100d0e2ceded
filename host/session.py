"""Requests and answers on one line: framing, sequence numbers, repetition, events.

One request is outstanding at a time. A request without answer is sent again, unchanged: the device recognises it
and answers from memory, so that nothing is done twice. Answers to requests given up are told by their sequence
number and dropped.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from intaglio.host import protocol
from intaglio.host.framing import DELIMITER, FrameReader, encode_frame
from intaglio.host.protocol import Command, Header, Op, Reason
from intaglio.host.schema import Message, MessageError, load_schema
from intaglio.host.transport import Transport
from intaglio.quantizer.errors import LinkError

_EVENTS_KEPT = 1024
_LONGEST_WAIT = 16  # time-outs between two repetitions of a request that the device takes long to answer


_HINTS = {
    Reason.UNSUPPORTED: "the firmware has no such command: build it with this version of intaglio",
    Reason.BUSY: "wait for the prediction, or open the device again",
    Reason.TAKEN: "unload that model, or take another slot",
    Reason.FLASH: "reset the device and try again; its flash may be worn out",
    Reason.NO_PACKAGE: "put the package again",
    Reason.UNTRUSTED: "sign with a key that the firmware was built for (`intaglio build --trust KEY`)",
    Reason.OTHER_BOARD: "package the model for this board with this version of intaglio",
    Reason.OTHER_SLOT: "package the model again: its slots are not those of the firmware",
    Reason.DAMAGED: "put the package again",
    Reason.ARENA: "unload another model, or take a smaller one",
    Reason.STACK: "take a model whose functions need less stack",
    Reason.ROLLBACK: "package with a --counter that is not lower",
    Reason.TOO_LARGE: "take a smaller model, or a board with larger slots",
}


class RefusedError(LinkError):
    """The device answered with an error.

    Attributes:
        reason: why.
    """

    def __init__(self, where: str, command: str, code: int) -> None:
        known = code in Reason.__members__.values()
        self.reason = Reason(code) if known else Reason.UNKNOWN
        what = protocol.REASONS[self.reason] if known else f"reason {code}"
        hint = _HINTS.get(self.reason, "compare the arguments with `intaglio models`")
        super().__init__(where, f"refuses {command}: {what}", hint)


class SilentError(LinkError):
    """No answer came, or nothing that can be understood."""


class RestartedError(LinkError):
    """The device restarted in the middle of a request: what it held in RAM is gone."""


@dataclass(frozen=True)
class EventMessage:
    """What the device sent unasked: `name` as in `protocol.EVENTS`, the fields of its map."""

    name: str
    fields: Message


class Session:
    """One end of a conversation with a device.

    Args:
        timeout: seconds after which a request is sent again.
        tries: times that a request is sent before the device counts as silent.
        on_event: called with what the device sends unasked; by default the last ones are kept in `events`.
    """

    def __init__(
        self,
        transport: Transport,
        timeout: float,
        tries: int,
        on_event: Callable[[EventMessage], None] | None = None,
    ) -> None:
        self.events: deque[EventMessage] = deque(maxlen=_EVENTS_KEPT)
        self.tries = tries
        self.timeout = timeout
        self._transport = transport
        self._on_event = on_event or self.events.append
        self._reader = FrameReader()
        self._inbox: deque[tuple[Header, bytes]] = deque()
        self._sequence = random.randrange(256)
        self._received = 0
        self._messages = 0

    def close(self) -> None:
        self._transport.close()

    def request(
        self,
        command: Command,
        values: Message,
        *,
        response: str | None = None,
        tries: int | None = None,
        patience: float = 0.0,
        computing: float = 0.0,
    ) -> Message:
        """Sends one request and waits for its answer.

        Args:
            values: fields of the request, as in `protocol.cddl`.
            response: the map expected, for a command with several.
            tries: times that it is sent, when not those of the session.
            patience: seconds to wait at least. While it lasts the wait doubles with each repetition: a device that
                computes does not read, and has room for hello's `window` only.
            computing: seconds that the device is expected to take.

        Raises:
            RefusedError: the device answered with an error.
            RestartedError: it restarted meanwhile.
            SilentError: no answer.
            LinkError: one that cannot be understood; the line is gone.
        """
        self._sequence = (self._sequence + 1) % 256
        # The delimiter ends whatever noise the line has brought to the device.
        frame = DELIMITER + encode_frame(protocol.pack_request(command, self._sequence, values))
        start = time.monotonic()
        wait = self.timeout + computing
        sent = 0
        while sent < (tries or self.tries) or time.monotonic() < start + patience:
            self._transport.write(frame)
            sent += 1
            body = self._await(command, time.monotonic() + wait)
            if body is not None:
                return self._decode(command, response or command.responses[0], body)
            if patience:
                wait = min(2 * wait, _LONGEST_WAIT * self.timeout + computing)
        raise self.silence()

    def listen(self, seconds: float) -> None:
        """Takes in what the device sends unasked, for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if (message := self._next(left)) is not None:
                self._take_event(*message)

    def _await(self, command: Command, end: float) -> bytes | None:
        key = (command.op + 1, command.group, self._sequence, command.id)
        while (left := end - time.monotonic()) > 0:
            if (message := self._next(left)) is None:
                continue
            header, body = message
            if (header.op, header.group, header.sequence, header.id) == key:
                return body
            event = self._take_event(header, body)
            if event == "boot event" and command is not protocol.HELLO:
                raise self.restarted()
        return None

    def _next(self, timeout: float) -> tuple[Header, bytes] | None:
        """The next message; None when a read brought none."""
        if not self._inbox:
            data = self._transport.read(timeout)
            self._received += len(data)
            for message in self._reader.feed(data):
                with contextlib.suppress(MessageError):
                    self._inbox.append(protocol.unpack(message))
                    self._messages += 1
        return self._inbox.popleft() if self._inbox else None

    def _take_event(self, header: Header, body: bytes) -> str | None:
        if header.op != Op.WRITE:
            return None  # an answer to a request given up
        try:
            event, fields = protocol.unpack_event(header, body)
        except MessageError:
            return None
        self._on_event(EventMessage(event.name, fields))
        return event.name

    def _decode(self, command: Command, expected: str, body: bytes) -> Message:
        try:
            return load_schema().decode(expected, body)
        except MessageError as error:
            try:
                refusal = load_schema().decode("error-response", body)
            except MessageError:
                raise self.error(f"answers {command.name} with garbage: {error}", "update its firmware") from None
        raise RefusedError(self._transport.name, command.name, refusal["err"]["rc"])

    def error(self, what: str, hint: str) -> LinkError:
        """To raise: the device does what it should not."""
        return LinkError(self._transport.name, f"the device {what}", hint)

    def restarted(self) -> RestartedError:
        hint = "open it again; its events tell a fault"
        return RestartedError(self._transport.name, "the device restarted meanwhile", hint)

    def silence(self) -> SilentError:
        name = self._transport.name
        if self._messages:
            return SilentError(name, "the device stopped answering", "reset it and try again")
        if self._received:
            return SilentError(
                name,
                f"{self._received} bytes arrived, but no message in them",
                "check --baud, and that the board runs firmware built by `intaglio build`",
            )
        return SilentError(name, "no answer", "check the port and the cable, and flash the board with `intaglio flash`")
