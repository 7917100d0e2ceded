"""The library on the host: exact values, state, layer traces, and every fault caught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import expected, samples, write_tiny

from intaglio.host.hostrun import run_on_host
from intaglio.quantizer.errors import OutputError, ToolError, UsageError


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize(("opt", "sanitize"), [("-O0", False), ("-O3", False), ("-O1", True)])
def test_outputs_and_traces_are_those_of_the_definition(
    tmp_path: Path, compiler: str, opt: str, sanitize: bool
) -> None:
    inputs = samples(5)
    result = run_on_host(write_tiny(tmp_path), [[x] for x in inputs], compiler, opt, sanitize)  # type: ignore[arg-type]
    assert len(result.outputs) == 5
    for (hidden, final), outputs, traces in zip(expected(inputs), result.outputs, result.traces, strict=True):
        assert outputs[0].dtype == np.int8 and outputs[0].shape == (1, 3)
        assert outputs[0][0].tolist() == final.tolist()
        assert [(t.layer, t.output, t.data) for t in traces] == [(0, 0, hidden.tobytes()), (1, 0, final.tobytes())]


def test_reset_for_each_sample_forgets_the_state(tmp_path: Path) -> None:
    inputs = samples(4)
    result = run_on_host(write_tiny(tmp_path), [[x] for x in inputs], trace=False, reset_each=True)
    assert [o[0][0].tolist() for o in result.outputs] == [expected([x])[0][1].tolist() for x in inputs]
    assert result.traces == [[], [], [], []]


@pytest.mark.parametrize(
    ("extra", "sanitize", "message"),
    [
        ("bytes[24] = 1;", False, "1 bytes after"),
        ("bytes[-3] = 1;", False, "3 bytes before"),
        ("bytes[24] = 1;", True, "AddressSanitizer"),
        ("*calls = 0x7fffffff; *calls += bytes[4] | 1;", True, "signed integer overflow"),
    ],
)
def test_a_write_outside_the_arena_and_undefined_behaviour_are_caught(
    tmp_path: Path, extra: str, sanitize: bool, message: str
) -> None:
    library = write_tiny(tmp_path, extra=extra)
    with pytest.raises(ToolError, match=message):
        run_on_host(library, [[np.full(8, 1, np.int8)]], sanitize=sanitize)


def test_a_warning_in_the_library_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="unused"):
        run_on_host(write_tiny(tmp_path, extra="int unused;"), [[samples(1)[0]]])


def test_a_negative_status_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="returned -2 on sample 0"):
        run_on_host(write_tiny(tmp_path, status="-2"), [[samples(1)[0]]])


@pytest.mark.parametrize("bad", [np.zeros(7, np.int8), np.zeros(8, np.uint8)])
def test_an_input_of_the_wrong_size_or_dtype_is_named(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"input 0 of sample 0 .* int8 of shape \[1, 8\], 8 bytes"):
        run_on_host(write_tiny(tmp_path), [[bad]])


def test_a_float_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="float32"):
        run_on_host(write_tiny(tmp_path), [[np.zeros(8, np.float32)]])


def test_an_endless_invoke_is_stopped(tmp_path: Path) -> None:
    library = write_tiny(tmp_path, extra="for (volatile int i = 1; i != 0;) { }")
    with pytest.raises(ToolError, match="still running after 1 s"):
        run_on_host(library, [[samples(1)[0]]], timeout=1.0)


def test_a_folder_without_a_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds 0 headers"):
        run_on_host(tmp_path, [])
