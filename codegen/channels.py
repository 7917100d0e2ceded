"""Per-channel integers of a layer as the kernels read them: one row of int32 words per channel."""

from __future__ import annotations

import numpy as np

from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ops.accumulate import MacParams
from intaglio.quantizer.requant import Method, Requant


def requant_words(rq: Requant) -> Ints:
    """The words of each channel that `requant.c.j2` reads: (channels, words); no words when shared or a table.

    MUL96 has three (high, low, shift), TABLE none (its thresholds are an array of their own), others two.
    """
    if rq.channels == 1 or rq.method is Method.TABLE:
        return np.zeros((rq.channels, 0), np.int64)
    if rq.method is Method.MUL96:
        return np.stack([rq.multiplier >> 30, rq.multiplier & (2**30 - 1), rq.shift], axis=1)
    return np.stack([rq.multiplier, rq.shift], axis=1)


def rows(params: MacParams) -> Ints:
    """One row per output channel: bias (unless 64-bit), then the requantisation's words."""
    words = requant_words(params.requant)
    if len(words) != len(params.bias):
        words = np.zeros((len(params.bias), 0), np.int64)
    return words if params.wide else np.concatenate([params.bias[:, None], words], axis=1)


def row_words(params: MacParams) -> int:
    """Words per row."""
    return int(rows(params).shape[1])
