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


def pairs(weights: NDArray[Any], width: int) -> Ints:
    """Lay out the weights of two channels for SMLAD so that one register serves both.

    A word holds, of two terms, the weights a of one channel and b of the next: bytes a, b - (a < 0), a', b' - (a' < 0).
    Its halves are 256 * b + a, so that beside sum(a * x), which needs the low bytes extended, the word as it is gives
    256 * sum(b * x) + sum(a * x). Terms fall into fours, the order of SXTB16: (0, 2), then (1, 3).

    Args:
        weights: (out, ...), none of them -128; terms and channels are filled up with zeros.
        width: channels of a block, even.

    Returns:
        int64 (words,), each in the range of uint32: block by block, then four terms by four, then channels two by two.
    """
    rows = flat(weights).astype(np.int64)
    out, terms = len(rows), rows.shape[1]
    rows = np.pad(rows, ((0, out % 2), (0, -terms % 4)))
    a, b = rows[0::2], rows[1::2] - (rows[0::2] < 0)
    halves = (a & 255 | (b & 255) << 8).reshape(len(a), -1, 4)
    words = halves[:, :, :2] | halves[:, :, 2:] << 16
    half = width // 2
    return np.concatenate([words[c : c + half].transpose(1, 0, 2).ravel() for c in range(0, len(words), half)])


def halfwords(weights: NDArray[Any]) -> Ints:
    """Depthwise weights as int16 for SMLABB and SMLATT: per four channels and tap, words (w0, w2), (w1, w3).

    Args:
        weights: (1, kh, kw, channels), channels a multiple of four.

    Returns:
        int64 (channels / 4 * taps * 2,), each in the range of uint32.
    """
    w = np.asarray(weights).astype(np.int64).reshape(-1, weights.shape[-1] // 4, 4).transpose(1, 0, 2) & 0xFFFF
    return (w[..., :2] | w[..., 2:] << 16).ravel()
