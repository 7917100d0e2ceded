"""The host's side of the conversation with one device.

Exactness: tensors go both ways as the raw integers that the model takes and gives; nothing here quantises. Scale
and zero point come with `Client.models` for whoever wants real values.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intaglio.host import protocol
from intaglio.host.framing import CRC_BYTES, DELIMITER, encoded_bytes
from intaglio.host.ring import CaptureRing
from intaglio.host.schema import Message, MessageError, load_schema
from intaglio.host.session import EventMessage, Session, SilentError
from intaglio.host.slots import ModelSlots
from intaglio.host.tensors import DTYPES, TensorMeta, split, to_array, to_bytes
from intaglio.host.transport import Transport, open_transport
from intaglio.quantizer.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

_PREDICT_OVERHEAD = 40  # most bytes of a predict message beside its data: header, CRC, keys and integers
_FRAME_LEAST = 264  # as the agent asserts
_WINDOW_LEAST = 64  # leaves room for data beside _PREDICT_OVERHEAD


@dataclass(frozen=True)
class Hello:
    """What a device says of itself; the fields of hello-response in `protocol.cddl`."""

    device: str
    boot: str
    board: str
    core: str
    clock_hz: int
    models: int
    frame: int
    window: int
    ring: int
    wire: int
    package: int
    abi: int


@dataclass(frozen=True)
class Model:
    """A model on the device; `digest` is the SHA-256 of its integer graph in hexadecimal."""

    index: int
    name: str
    digest: str
    arena_bytes: int
    state_bytes: int
    layers: int
    inputs: tuple[TensorMeta, ...]
    outputs: tuple[TensorMeta, ...]


@dataclass(frozen=True)
class Prediction:
    """Outputs as integers, and what the prediction took on the device.

    Attributes:
        us: microseconds; cycles: by the core's cycle counter, 0 where it has none.
        record: sequence number of the record in the capture ring, when it was captured.
    """

    outputs: list[npt.NDArray[Any]]
    us: int
    cycles: int
    record: int | None


class Client:
    """A session with the device at the other end of a transport; a context manager.

    Args:
        transport: closed with the client.
        timeout: seconds after which a request is sent again.
        tries: times that a request is sent before the device counts as silent.
        patience: seconds to wait for a prediction.
        on_event: called with what the device sends unasked; by default the last ones are kept in `events`.

    Attributes:
        hello: what the device says of itself.
        ring: its captured predictions.
        slots: models that come and go at run time.
        events, listen, request: those of `session.Session`.

    Raises:
        LinkError: nothing, or nothing that can be understood, comes back; another protocol version.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout: float = 1.0,
        tries: int = 5,
        patience: float = 60.0,
        on_event: Callable[[EventMessage], None] | None = None,
    ) -> None:
        self._session = Session(transport, timeout, tries, on_event)
        self.events = self._session.events
        self.listen = self._session.listen
        self.request = self._session.request
        self._patience = patience
        self._models: tuple[Model, ...] | None = None
        self._seconds: dict[int, float] = {}  # that the last prediction of each model took
        try:
            self.hello = self._greet()
            self.slots = ModelSlots(self._session, self.hello, self._forget_models)
            self.ring = CaptureRing(self._session, self.hello, self.describe)
            self.set_time()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, port: str, baud: int = 115200, **options: Any) -> Client:
        """A client on `open_transport(port, baud)`; options as of the constructor."""
        return cls(open_transport(port, baud), **options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    # -- models

    def models(self) -> tuple[Model, ...]:
        """The models on the device with their tensors: those compiled in, then those in its slots."""
        if self._models is None:
            loaded = [slot.model for slot in self.slots.list() if slot.model is not None]
            self._models = tuple(self._describe(index) for index in [*range(self.hello.models), *sorted(loaded)])
        return self._models

    def _forget_models(self) -> None:
        self._models = None

    def describe(self, model: int | str) -> Model:
        """One model, by index or name.

        Raises:
            UsageError: the device has none such.
        """
        for candidate in self.models():
            if model in (candidate.index, candidate.name):
                return candidate
        names = ", ".join(f"{known.index}: {known.name}" for known in self.models()) or "none"
        raise UsageError(f"model {model}", "not on the device", f"it has {names}")

    def _describe(self, index: int) -> Model:
        facts = self.request(protocol.LIST, {"model": index})
        if facts["abi"] != protocol.ABI_VERSION:
            raise self._session.error(
                f"model {facts['name']} has ABI {facts['abi']}, not {protocol.ABI_VERSION}",
                "build the firmware with this version of intaglio",
            )
        count = facts["inputs"] + facts["outputs"]
        tensors = tuple(
            self._tensor(self.request(protocol.DESCRIBE, {"model": index, "tensor": tensor})) for tensor in range(count)
        )
        return Model(
            index=index,
            name=facts["name"],
            digest=facts["digest"].hex(),
            arena_bytes=facts["arena"],
            state_bytes=facts["state"],
            layers=facts["layers"],
            inputs=tensors[: facts["inputs"]],
            outputs=tensors[facts["inputs"] :],
        )

    def _tensor(self, facts: Message) -> TensorMeta:
        if facts["dtype"] >= len(DTYPES):
            raise self._session.error(f"tensor {facts['name']} has dtype {facts['dtype']}", "update intaglio")
        dtype, shape = DTYPES[facts["dtype"]], tuple(facts["shape"])
        meta = TensorMeta(facts["name"], dtype, shape, facts["scale"], facts["zero"], facts["size"])
        if not meta.consistent:
            raise self._session.error(
                f"tensor {meta.name}: {meta.nbytes} bytes are not {dtype}{list(shape)}", "build the firmware again"
            )
        return meta

    # -- predictions

    def predict(
        self,
        model: int | str,
        inputs: Sequence[npt.NDArray[Any]],
        capture: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Prediction:
        """Runs a model on the device.

        Args:
            inputs: one array per input, exactly of its dtype and shape.
            capture: ask the device to record inputs and outputs (its configuration may pass over some).
            progress: called with the bytes sent and those to send.

        Raises:
            UsageError: inputs of another number, dtype or shape.
            RefusedError: the model returned an error, or the device did not take the inputs.
            RestartedError: the device restarted meanwhile.
        """
        chosen = self.describe(model)
        stream = _to_stream(chosen, inputs)
        step = self._chunk_bytes()
        for offset in range(0, max(len(stream), 1), step):
            chunk = stream[offset : offset + step]
            end = offset + len(chunk)
            last = end == len(stream)
            answer = self.request(
                protocol.PREDICT,
                {"model": chosen.index, "off": offset, "data": chunk, "capture": capture},
                response="predict-response" if last else "predict-more",
                patience=self._patience if last else 0.0,
                computing=2 * self._seconds.get(chosen.index, 0.0) if last else 0.0,
            )
            if not last and answer["off"] != end:
                raise self._session.error(f"has {answer['off']} bytes of the inputs, not {end}", "try again")
            if progress is not None:
                progress(end, len(stream))
        self._seconds[chosen.index] = answer["us"] / 1e6
        data = bytearray(answer["data"])
        total = sum(tensor.nbytes for tensor in chosen.outputs)
        if answer["total"] != total:
            raise self._session.error(
                f"gives {answer['total']} bytes of output, not {total}", "build the firmware again"
            )
        while len(data) < total:
            more = self.request(protocol.OUTPUT, {"model": chosen.index, "off": len(data)})
            if more["off"] != len(data) or not more["data"]:
                raise self._session.error("leaves a gap in the outputs", "try again")
            data += more["data"]
        return Prediction(
            outputs=[to_array(meta, piece) for meta, piece in split(chosen.outputs, bytes(data))],
            us=answer["us"],
            cycles=answer["cycles"],
            record=answer["record"] if answer["captured"] else None,
        )

    def _chunk_bytes(self) -> int:
        """Data bytes of a predict message that the device takes in, even while it computes."""
        message = self.hello.frame
        while encoded_bytes(message - CRC_BYTES) + len(DELIMITER) > self.hello.window:
            message -= 1
        return message - _PREDICT_OVERHEAD

    # -- the device

    def heartbeat(self) -> Message:
        """Counters and clocks: the fields of heartbeat in `protocol.cddl`."""
        return self.request(protocol.HEARTBEAT, {})

    def reset_statistics(self) -> None:
        """Sets the counters of the heartbeat to 0; the peak of the stack stays."""
        self.request(protocol.RESET_STATISTICS, {})

    def config(self) -> Message:
        """The configuration: `every`, `policy`, `beat` (see config in `protocol.cddl`)."""
        return self.request(protocol.CONFIG_GET, {})

    def configure(self, **changes: int) -> Message:
        """Changes some fields of the configuration; returns all of them as the device has them now.

        Raises:
            UsageError: no such field, or a value out of its range.
        """
        try:
            wanted = self.config() | changes
            load_schema().encode("config", wanted)
        except MessageError as error:
            raise UsageError("configuration", str(error), "see config in docs/protocol.md") from None
        return self.request(protocol.CONFIG_SET, wanted)

    def set_time(self, unix_us: int | None = None) -> Message:
        """Sets the device's clock, by default to this machine's; returns time-response."""
        wall = time.time_ns() // 1000 if unix_us is None else unix_us
        return self.request(protocol.TIME_SET, {"wall": wall})

    def _greet(self) -> Hello:
        """Sends hello until it is answered, each time with a new nonce: one sent twice might be taken by two
        boots of the device as their identifier."""
        for _ in range(self._session.tries):
            nonce = int.from_bytes(os.urandom(8), "big")
            try:
                answer = self.request(protocol.HELLO, {"nonce": nonce}, tries=1)
            except SilentError:
                continue
            if answer["nonce"] == nonce:
                return self._check_hello(answer)
        raise self._session.silence()

    def _check_hello(self, answer: Message) -> Hello:
        if answer["wire"] != protocol.WIRE_VERSION:
            raise self._session.error(
                f"speaks wire version {answer['wire']}, not {protocol.WIRE_VERSION}",
                "build the firmware with this version of intaglio",
            )
        if answer["frame"] < _FRAME_LEAST or answer["window"] < _WINDOW_LEAST:
            raise self._session.error("announces a frame or window too small to use", "build the firmware again")
        return Hello(
            device=answer["device"].hex() or answer["board"],
            boot=f"{answer['boot']:016x}",
            clock_hz=answer["clock"],
            **{name: answer[name] for name in ("board", "core", "models", "frame", "window", "ring")},
            **{name: answer[name] for name in ("wire", "package", "abi")},
        )


def _to_stream(model: Model, inputs: Sequence[npt.NDArray[Any]]) -> bytes:
    if len(inputs) != len(model.inputs):
        raise UsageError(
            f"model {model.name}", f"{len(inputs)} inputs given", f"it takes {len(model.inputs)}: one array each"
        )
    stream = bytearray()
    for meta, array in zip(model.inputs, inputs, strict=True):
        if array.dtype != meta.dtype or array.shape != meta.shape:
            raise UsageError(
                f"model {model.name}, input {meta.name}",
                f"{array.dtype}{list(array.shape)} given",
                f"it takes {meta.dtype}{list(meta.shape)}",
            )
        stream += to_bytes(meta, array)
    return bytes(stream)
