"""A clone of the project to type the documents' commands in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from frontends.tflite.builder import ModelBuilder, options

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "docs" / "examples" / "digits"


class Clone:
    """A copy of the checkout with a `.venv` that runs the copy, and the files that the documents take for granted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._copy_sources()
        self._make_environment()
        for name, file in (("calibration.npz", "digits_calibration.npz"), ("test.npz", "digits_test.npz")):
            shutil.copy(DIGITS / file, root / name)
        for file in ("digits.onnx", "digits_test.npz"):
            shutil.copy(DIGITS / file, root / file)
        for name in ("kws.tflite", "model.tflite"):
            (root / name).write_bytes(quantised_model())

    def _copy_sources(self) -> None:
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip("not a git checkout: `git clone` the project to run this test")
        for line in done.stdout.splitlines():
            if (ROOT / line).is_file():
                (self.root / line).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / line, self.root / line)

    def _make_environment(self) -> None:
        """What `make setup` would make, from the environment that runs the tests."""
        (self.root / ".venv").mkdir()
        for entry in Path(sys.prefix).iterdir():
            if entry.name != ".ready":
                (self.root / ".venv" / entry.name).symlink_to(entry)
        (self.root / "build" / "import").mkdir(parents=True)
        (self.root / "build" / "import" / "intaglio").symlink_to(self.root)
        (self.root / ".venv" / ".ready").touch()

    @property
    def environment(self) -> Mapping[str, str]:
        path = f"{self.root / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        mine = {f"INTAGLIO_{name.upper()}": str(self.root / name) for name in ("keys", "store", "fleet")}
        return os.environ | mine | {"PATH": path, "PYTHONPATH": str(self.root / "build" / "import"), "COLUMNS": "100"}

    def run(self, command: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the clone."""
        return subprocess.run(
            ["sh", "-ec", command],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def quantised_model() -> bytes:
    """An int8 TFLite model of the digits' input: one fully connected layer."""
    rng = np.random.default_rng(1)
    model = ModelBuilder()
    g = model.main
    x = g.tensor((1, 8, 8, 1), scale=1 / 255, zero=-128, name="image")
    w = g.tensor((10, 64), scale=0.01, data=rng.integers(-127, 128, (10, 64), dtype=np.int8))
    b = g.tensor((10,), "int32", scale=0.01 / 255, data=rng.integers(-999, 999, 10, dtype=np.int32))
    y = g.tensor((1, 10), scale=0.05, name="scores")
    g.op("FULLY_CONNECTED", [x, w, b], [y], options("FullyConnectedOptions"), version=4)
    g.ports([x], [y])
    return model.bytes()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)
