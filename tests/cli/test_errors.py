"""Bad input: one clear line on standard error, the right exit status, nothing left behind."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from asking import CALIBRATION, MODEL, fails
from onnx import TensorProto, helper, numpy_helper

from intaglio.host.cli import run
from intaglio.host.doctor import checks


def compile_arguments(model: Path | str, out: Path, *more: str) -> list[str]:
    return ["compile", str(model), "-o", str(out), *(more or ("--core", "cortex-m4"))]


def single_node(
    path: Path, node: onnx.NodeProto, weights: dict[str, np.ndarray], shape: list[int | str], rank: int = 2
) -> Path:
    """Write an ONNX model of one node from input `x` to output `y`."""
    graph = helper.make_graph(
        [node],
        "single",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["?"] * rank)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("keep", [0, 1, 7, 100, 2000])
def test_truncated_model(keep: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(Path(MODEL).read_bytes()[:keep])
    fails(capsys, compile_arguments(broken, tmp_path / "out"), "broken.onnx")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\x00\x00\x00TFL3" + bytes(20), bytes(1000)])
def test_malformed_tflite(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(content)
    fails(capsys, compile_arguments(broken, tmp_path / "out"), "broken.tflite")
    assert not (tmp_path / "out").exists()


def test_missing_and_unknown_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, compile_arguments(tmp_path / "none.onnx", tmp_path / "out"), "No such file")
    (tmp_path / "model.xyz").write_text("?")
    fails(capsys, compile_arguments(tmp_path / "model.xyz", tmp_path / "out"), r"unknown model format '\.xyz'")


def test_unsupported_operator_names_node_and_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("Det", ["x"], ["y"], "volume")
    model = single_node(tmp_path / "det.onnx", node, {}, [1, 3, 3], 1)
    line = fails(capsys, compile_arguments(model, tmp_path / "out"), "Det")
    assert "volume" in line
    assert "x" in line
    assert not (tmp_path / "out").exists()


def test_dynamic_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = single_node(tmp_path / "d.onnx", helper.make_node("Relu", ["x"], ["y"]), {}, [1, "width"])
    fails(capsys, compile_arguments(model, tmp_path / "out"), r"axis 1 is dynamic \(width\)")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = np.ones((4, 3), np.float32)
    weights[1, 2] = value
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    model = single_node(tmp_path / "nan.onnx", node, {"w": weights}, [1, 3])
    fails(capsys, compile_arguments(model, tmp_path / "out"), "Gemm.* holds NaN")
    assert not (tmp_path / "out").exists()


def calibration(path: Path, values: np.ndarray) -> str:
    np.savez(path, x=values)
    return str(path)


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        (np.zeros((4, 1, 7, 8), np.float32), "shape"),
        (np.zeros((0, 1, 8, 8), np.float32), "no samples"),
        (np.full((2, 1, 8, 8), np.nan, np.float32), "NaN or infinity"),
        (np.full((2, 1, 8, 8), -np.inf, np.float32), "NaN or infinity"),
        (np.full((2, 1, 8, 8), "a"), "holds"),
    ],
)
def test_bad_calibration(values: np.ndarray, pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = calibration(tmp_path / "data.npz", values)
    arguments = compile_arguments(MODEL, tmp_path / "out", "--core", "cortex-m0", "--data", data)
    fails(capsys, arguments, pattern)
    assert not (tmp_path / "out").exists()


def test_float_model_without_calibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, compile_arguments(MODEL, tmp_path / "out"), "--data")


def test_too_large_for_the_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tensor of 64 KB on the micro:bit's 16 KB: by how much, which layer, what would help."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], "wide", pads=[1, 1, 1, 1])
    model = single_node(tmp_path / "wide.onnx", node, {"w": np.ones((16, 1, 3, 3), np.float32)}, [1, 1, 64, 64], 4)
    data = calibration(tmp_path / "data.npz", np.random.default_rng(0).normal(size=(3, 1, 64, 64)).astype(np.float32))
    arguments = compile_arguments(model, tmp_path / "out", "--board", "microbit", "--data", data)
    line = fails(capsys, arguments, r"bytes of RAM.*more than the board has; the largest tensors are those of .*wide")
    assert "doctor --boards" in line
    assert not (tmp_path / "out").exists()


def test_too_large_for_the_boards_flash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """300 KB of weights on the micro:bit's 256 KB: by how much, which layer, what would help."""
    weights = np.random.default_rng(0).normal(size=(300, 1024)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "a_layer_whose_name_is_longer_than_anybody_would_read", transB=1)
    model = single_node(tmp_path / "dense.onnx", node, {"w": weights}, [1, 1024])
    data = calibration(tmp_path / "data.npz", np.random.default_rng(1).normal(size=(3, 1024)).astype(np.float32))
    arguments = compile_arguments(model, tmp_path / "out", "--board", "microbit", "--data", data)
    line = fails(
        capsys, arguments, r"needs 3\d\d,\d+ bytes of flash, [\d,]+ more than the board has; the largest layers"
    )
    assert re.search(r"#0 FullyConnected .{1,40} \(31\d,\d+ bytes\)", line)
    assert "doctor --boards" in line
    assert not (tmp_path / "out").exists()


def test_unknown_board_and_core(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, compile_arguments(MODEL, tmp_path / "out", "--board", "micro-bit"), "microbit")
    fails(capsys, compile_arguments(MODEL, tmp_path / "out", "--core", "cortex-m44"), "cortex-m4", status=2)


def test_output_folder_with_somebodys_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    arguments = compile_arguments(MODEL, tmp_path, "--core", "cortex-m0", "--data", CALIBRATION)
    fails(capsys, arguments, r"main\.c: was not generated by Intaglio")
    assert (tmp_path / "main.c").read_text() == "int main(void) { return 0; }\n"


def test_output_folder_not_writable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    arguments = compile_arguments(MODEL, tmp_path / "file" / "out", "--core", "cortex-m0", "--data", CALIBRATION)
    fails(capsys, arguments, "cannot be written")


def test_disk_full(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Writing fails half way: the earlier result stays whole, no temporary folder is left."""
    out = tmp_path / "out"
    arguments = compile_arguments(MODEL, out, "--core", "cortex-m0", "--data", CALIBRATION)
    assert run(arguments) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    write, written = Path.write_text, []

    def full(self: Path, text: str, *rest: object, **more: object) -> int:
        if self.parent.name.startswith(".out-"):
            written.append(self)
            if len(written) > 1:
                raise OSError(28, "No space left on device")
        return write(self, text, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    capsys.readouterr()
    fails(capsys, arguments, "No space left on device")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_no_compiler_leaves_sizes_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = compile_arguments(MODEL, tmp_path / "out", "--core", "cortex-m0", "--data", CALIBRATION, "--json")
    assert run(arguments) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["flash_bytes"] is None
    assert manifest["stack_bytes"] is None
    fails(capsys, ["run", MODEL, "--core", "cortex-m0", "--data", CALIBRATION], "apt-get install|pip install")


def test_no_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The compiler is there, QEMU is not; the hint is the command that `intaglio doctor` prints."""
    for name in ("arm-none-eabi-gcc", "arm-none-eabi-objdump"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    (fix,) = (check.fix for check in checks() if check.name.startswith("qemu-system-arm"))
    fails(capsys, ["run", MODEL, "--core", "cortex-m3", "--data", CALIBRATION], f"qemu-system-arm: not found.*{fix}")
    fails(capsys, ["simulate", "--board", "microbit"], f"qemu-system-arm: not found.*{fix}")


def test_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["captures", "list", str(tmp_path / "none.db")], "no such file")
    fails(capsys, ["captures", "export", str(tmp_path / "none.db"), str(tmp_path / "out.jsonl")], "no such file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["compile"], "Missing argument .*see `intaglio compile --help`"),
        (["nonsense"], "No such command 'nonsense'"),
        (["devices", "--bad"], "No such option: --bad; see `intaglio devices --help`"),
        (["captures", "nonsense"], "No such command 'nonsense'"),
        (["compile", MODEL, "-o", "x", "--core", "cortex-m0", "--board", "microbit"], "one of the two"),
        (["compile", MODEL, "-o", "x", "--core", "cortex-m0", "--name", "9-lives"], "not a C identifier"),
        (["compile", MODEL, "-o", "x", "--core", "cortex-m0", "--activations", "int4"], "give int8 or int16"),
        (["compile", MODEL, "-o", "x", "--core", "cortex-m0", "--ranges", "best"], "min-max, percentile, mse or kl"),
        (["build", MODEL, "--board", "microbit", "-o", "x", "--pixels", "1"], "not two numbers"),
    ],
)
def test_wrong_use(
    arguments: list[str],
    pattern: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "internal" not in fails(capsys, arguments, pattern, status=2)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = compile_arguments(tmp_path / "none.onnx", tmp_path / "out")
    for given in (["--debug", *arguments], [*arguments, "--debug"]):
        assert run(given) == 1
        assert "Traceback" in capsys.readouterr().err
    assert run(arguments) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_failed_compilation_is_no_missing_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compiler that says "not found" of something else has failed: it must not pass for one that is absent."""
    fake = tmp_path / "bin" / "arm-none-eabi-gcc"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'error: stdint.h not found' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    arguments = compile_arguments(MODEL, tmp_path / "out", "--core", "cortex-m0", "--data", CALIBRATION)
    fails(capsys, arguments, r"stdint\.h not found")
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_the_earlier_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is replaced only when all is done, the measuring of sizes included."""
    out = tmp_path / "out"
    arguments = compile_arguments(MODEL, out, "--core", "cortex-m0", "--data", CALIBRATION)
    assert run(arguments) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    fake = tmp_path / "bin" / "arm-none-eabi-gcc"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'internal compiler error: Killed' >&2\nexit 4\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    capsys.readouterr()
    fails(capsys, arguments, "internal compiler error")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
