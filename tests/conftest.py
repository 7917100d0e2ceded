"""What several test folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# As in the command line: small matrices, and several test processes. Read when numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of third-party models and data, which is not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "models"
    folder = Path(os.environ.get("INTAGLIO_MODELS", beside))
    if not (folder / "MANIFEST.csv").exists():
        pytest.skip("set INTAGLIO_MODELS to the folder of test models (it holds MANIFEST.csv)")
    return folder
