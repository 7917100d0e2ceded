"""Keyword spotting of MLPerf Tiny as a package: loaded beside another model, it computes what the reference does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from intaglio.host.build import FirmwareImage
from intaglio.host.keys import SigningKey
from intaglio.quantizer.pipeline import Options

from .conftest import BOARDS, Models, running

MODELS = Path(os.environ.get("INTAGLIO_MODELS") or Path(__file__).parents[3] / "shared" / "models")


@pytest.fixture(scope="module")
def kws(key: SigningKey) -> Iterator[Models]:
    model = MODELS / "tflite" / "kws_ref_model.tflite"
    if not model.is_file():
        pytest.skip(f"{model} is missing: set INTAGLIO_MODELS")
    with contextlib.ExitStack() as stack:
        yield Models(model, Options(), key, stack)


@pytest.mark.parametrize("board", BOARDS)
def test_keyword_spotting_and_digits_are_resident_at_once(
    board: str, firmware: Callable[[str], FirmwareImage], kws: Models, digits: Models
) -> None:
    with running(board, firmware(board)) as device, device.client() as client:
        client.slots.install(kws.package(board))
        client.slots.install(digits.package(board))
        chance = np.random.default_rng(1)
        models = {"digits": digits, "kws_ref_model": kws}
        assert {model.name for model in client.models()} == set(models)
        for _ in range(2):
            for name, reference in models.items():
                x = chance.integers(-128, 128, client.describe(name).inputs[0].shape).astype(np.int8)
                assert np.array_equal(client.predict(name, [x]).outputs[0], reference.reference(board, x))
        assert client.heartbeat()["faults"] == 0
