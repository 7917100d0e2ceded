"""Per-channel integers of a layer as the kernels read them: one row of int32 words per channel."""

from __future__ import annotations

import numpy as np

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ops.accumulate import MacParams
from intaglio.quantizer.requant import Method, Requant


def is_high(params: MacParams) -> bool:
    """Whether the layer's requantisation can work on the high word of a 32x32 product alone.

    With total = 32 + s, s >= 1, floor((acc * m + 2**(total - 1)) / 2**total) + zero point equals
    (((acc * m >> 32) >> (s - 1)) + 2 * zero point + 1) >> 1, since floors of floors are floors. The two roundings
    of TFLite fit the same form (`requant.c.j2`) when every shift is to the right and 2 * acc fits int32.
    """
    rq = params.requant
    if rq.wide or rq.bounds is not None:
        return False
    if rq.method is Method.DOUBLE:
        return bool(rq.shift.max() <= -1 and all(lo >= -(2**30) and hi < 2**30 for lo, hi in params.intervals))
    return bool(rq.method is Method.MUL64 and rq.shift.min() >= 33 and rq.multiplier.max() < 2**31)


def is_small(params: MacParams) -> bool:
    """Whether twice a positive accumulator stays below 2**30."""
    return all(hi < 2**29 for _, hi in params.intervals)


def high_shift(rq: Requant) -> Ints:
    """The s - 1 of `is_high`, per channel."""
    return -rq.shift - 1 if rq.method is Method.DOUBLE else rq.shift - 33


def requant_words(rq: Requant) -> Ints:
    """The words of each channel that `requant.c.j2` reads: (channels, words); no words when shared or a table."""
    return np.zeros((1, 0), np.int64) if rq.channels == 1 else rq.words


def rows(params: MacParams, bias: Ints | None = None) -> Ints:
    """One row per output channel: bias (unless 64-bit), then the requantisation's words.

    Args:
        bias: stands in for that of the layer, for kernels that offset their operands.
    """
    words = requant_words(params.requant)
    if is_high(params) and words.shape[1]:
        words = np.stack([params.requant.multiplier, high_shift(params.requant)], axis=1)
    if len(words) != len(params.bias):
        words = np.zeros((len(params.bias), 0), np.int64)
    if params.wide:
        return words
    return np.concatenate([(params.bias if bias is None else bias)[:, None], words], axis=1)


def row_words(params: MacParams) -> int:
    """Words per row."""
    return int(rows(params).shape[1])
