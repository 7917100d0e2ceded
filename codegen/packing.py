"""Weights re-ordered for the inner loop of a kernel, at compile time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.fixedpoint import Ints

OFFSET = 128
"""What makes int8 unsigned: Armv6-M loads unsigned bytes at a constant offset, signed ones only at a register's."""


def flat(weights: NDArray[Any]) -> NDArray[Any]:
    """(out, ...) -> (out, terms)."""
    return np.asarray(weights).reshape(len(weights), -1)


def interleave(weights: NDArray[Any], channels: int) -> Ints:
    """Lay the channels of a block side by side, term by term; the last block may be narrower.

    Args:
        weights: (out, ...).
        channels: of a block.

    Returns:
        int64 (out * terms,): block by block, (terms, channels) each.
    """
    rows = flat(weights).astype(np.int64)
    blocks = [rows[c : c + channels].T.ravel() for c in range(0, len(rows), channels)]
    return np.concatenate(blocks)


def unroll(terms: int, most: int = 8) -> int:
    """How many terms of a dot product one turn of its loop takes: a divisor where there is a large one."""
    if terms <= most + 1:
        return terms
    return next((n for n in (*range(most, most // 2, -1), most + 1) if terms % n == 0), most)


def offset_bias(weights: NDArray[Any], bias: Ints, *, inputs: bool) -> Ints:
    """The bias of a kernel whose weights, and inputs too if said, are stored with OFFSET added.

    sum(w * x) = sum((w + OFFSET) * u) - OFFSET * sum(u) - inputs * OFFSET * sum(w), u being x as stored; the
    kernel subtracts the middle term itself, once per window.
    """
    return bias - OFFSET * flat(weights).astype(np.int64).sum(axis=1) if inputs else bias


def by_channel(weights: NDArray[Any]) -> NDArray[Any]:
    """Depthwise (1, kh, kw, channels) -> (channels, kh * kw)."""
    return np.asarray(weights).reshape(-1, weights.shape[-1]).T
