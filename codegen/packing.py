"""Weights re-ordered for the inner loop of a kernel, at compile time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def flat(weights: NDArray[Any]) -> NDArray[Any]:
    """(out, ...) -> (out, terms)."""
    return np.asarray(weights).reshape(len(weights), -1)
