"""The client against the real agent, built for the host under the sanitizers."""

from __future__ import annotations

import numpy as np
import pytest
from agent_bench import MockBoard

from intaglio.host.client import Client
from intaglio.host.protocol import Reason
from intaglio.host.session import RefusedError
from intaglio.quantizer.errors import UsageError


def mix_inputs() -> list[np.ndarray]:
    return [
        np.array([1, -2, 127, -128], np.int8),
        np.array([[1000, -32768, 32767], [5, -6, 7]], np.int16),
    ]


def test_hello_describes_the_board(board: MockBoard) -> None:
    with Client(board.transport()) as client:
        hello = client.hello
        assert (hello.device, hello.board, hello.core) == (b"mock-1".hex(), "mock", "host")
        assert (hello.models, hello.frame, hello.window, hello.ring) == (4, 512, 600, 2048)
        assert len(hello.boot) == 16


def test_models_are_described_bit_for_bit(board: MockBoard) -> None:
    with Client(board.transport()) as client:
        mix = client.describe("mix")
        assert mix.digest == "1122" + "00" * 30
        assert [(t.name, t.dtype, t.shape, t.scale_bits, t.zero_point) for t in mix.inputs] == [
            ("a", "int8", (4,), 0x3F000000, -3),
            ("b", "int16", (2, 3), 0x3E800001, 0),
        ]
        assert mix.inputs[0].scale == 0.5
        assert mix.outputs[0].scale is None
        wide = client.describe(1)
        assert wide.inputs[0].name == "picture".ljust(64, "_")
        assert wide.outputs[0].name == "reversed".ljust(63, "_")  # not half a character
        with pytest.raises(UsageError, match="not on the device; it has 0: mix, 1: wide"):
            client.describe("nix")


def test_predicts_exactly(board: MockBoard) -> None:
    a, b = mix_inputs()
    with Client(board.transport()) as client:
        done = client.predict("mix", [a, b])
        assert done.outputs[0].tolist() == [int(a.sum()), int(b.sum())]
        assert done.outputs[1].tolist() == [-1, 2, -127, 127]
        assert done.record is None


def test_tensors_beyond_a_frame_go_in_chunks(board: MockBoard) -> None:
    image = np.random.default_rng(1).integers(0, 256, (30, 40, 1), np.uint8)
    seen: list[int] = []
    with Client(board.transport()) as client:
        done = client.predict("wide", [image], progress=lambda sent, _: seen.append(sent))
        assert done.outputs[0].tolist() == image.reshape(-1)[::-1].tolist()
    assert len(seen) > 2
    assert seen[-1] == 1200


def test_inputs_of_another_kind_are_refused_here(board: MockBoard) -> None:
    a, b = mix_inputs()
    with Client(board.transport()) as client:
        for wrong in ([a], [a, b.astype(np.int32)], [a, b.reshape(3, 2)], [a, b, b]):
            with pytest.raises(UsageError, match="model mix"):
                client.predict("mix", wrong)


def test_model_failure_is_reported_and_counted(board: MockBoard) -> None:
    with Client(board.transport()) as client:
        with pytest.raises(RefusedError, match="invoke returned a negative status") as refusal:
            client.predict("fail", [np.array([1], np.int32)], capture=True)
        assert refusal.value.reason is Reason.MODEL_FAILED
        beat = client.heartbeat()
        assert (beat["invocations"], beat["errors"], beat["pending"]) == (1, 1, 0)
