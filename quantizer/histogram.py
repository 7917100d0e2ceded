"""The distribution of a tensor over calibration samples, and the range to quantise it in.

Sources of the methods: KL: S. Migacz, "8-bit inference with TensorRT", GTC 2017. The others are folklore and
stated here in full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Range = tuple[float, float]

BINS = 8192
PERCENTILE = 99.99
"""Per cent of the values that range method `percentile` keeps at each end."""


class Histogram:
    """A streaming histogram over [-limit, limit): one pass, constant memory, limit a power of two that doubles.

    Doubling merges pairs of bins, so no value is ever looked at twice. At least half of the limit is used, and
    the bins are at most 1/4096 of the largest magnitude wide. Least and greatest value and the sum per element
    are exact.

    Attributes:
        low, high: the least and greatest value so far; 0 when there is none.
        sum: of each element over the samples, float64, of the tensor's shape.
        samples: how many were added.
    """

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self.sum: Reals = np.zeros(())
        self.samples = 0
        self._limit = 0.0
        self._counts = np.zeros(BINS, np.int64)

    def add(self, value: NDArray[Any]) -> None:
        """Add one sample of the tensor."""
        low, high = float(value.min()), float(value.max())
        self.low = low if self.samples == 0 else min(self.low, low)
        self.high = high if self.samples == 0 else max(self.high, high)
        self.sum = self.sum + value
        self.samples += 1
        largest = max(abs(low), abs(high))
        if largest == 0.0:
            self._counts[BINS // 2] += value.size
            return
        if self._limit == 0.0:
            # All values so far were zeros, which stay in the same bin under any limit.
            self._limit = 2.0 ** np.ceil(np.log2(largest))
        while largest >= self._limit:
            self._double()
        index = np.floor(value.ravel() * (BINS / 2 / self._limit)).astype(np.int64) + BINS // 2
        self._counts += np.bincount(index, minlength=BINS)

    def _double(self) -> None:
        quarter = BINS // 4
        pairs = self._counts.reshape(-1, 2).sum(axis=1)
        self._counts = np.concatenate([np.zeros(quarter, np.int64), pairs, np.zeros(quarter, np.int64)])
        self._limit *= 2.0

    @property
    def mean(self) -> Reals:
        """Mean of each element."""
        return self.sum / max(self.samples, 1)

    def bins(self, merged: int = 1, *, zeros: bool = True) -> tuple[Reals, Reals]:
        """Return (centres, counts) of the bins that hold something, the outer centres within [low, high].

        Args:
            merged: how many neighbours count as one; a power of two.
            zeros: whether to count the bin that begins at 0.
        """
        counts = self._counts.reshape(-1, merged).sum(axis=1)
        if not zeros:
            counts[len(counts) // 2] = 0
        used = np.flatnonzero(counts)
        width = 2 * self._limit / len(counts)
        centres = np.clip((used - len(counts) // 2 + 0.5) * width, self.low, self.high)
        return centres, counts[used].astype(np.float64)

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both tensors' values; without means."""
        result = Histogram()
        a, b = (self, other) if self._limit >= other._limit else (other, self)
        result._counts, result._limit = b._counts.copy(), b._limit
        while result._limit < a._limit:
            if result._limit == 0.0:
                result._limit = a._limit
            else:
                result._double()
        result._counts = result._counts + a._counts
        result.low, result.high = min(a.low, b.low), max(a.high, b.high)
        result.samples = a.samples + b.samples
        return result


def choose_range(histogram: Histogram, method: str, levels: int, *, symmetric: bool) -> Range:
    """Return (low, high), low <= 0 <= high, of the values that get integers of their own.

    Args:
        histogram: of the tensor.
        method: min-max, percentile, mse or kl.
        levels: number of integers; with more than the histogram has bins, every method is min-max.
        symmetric: low = -high.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if low < high and levels <= 256:
        low, high = METHODS[method](histogram, low, high, levels, symmetric)
    if symmetric:
        high = max(-low, high)
        low = -high
    return low, high


def min_max(histogram: Histogram, low: float, high: float, levels: int, symmetric: bool) -> Range:
    """Everything that occurred."""
    return low, high


def percentile(histogram: Histogram, low: float, high: float, levels: int, symmetric: bool) -> Range:
    """All but the outermost (100 - PERCENTILE) per cent at each end."""
    centres, counts = histogram.bins()
    share = np.cumsum(counts) / counts.sum()
    tail = 1.0 - PERCENTILE / 100.0
    first = centres[np.searchsorted(share, tail)] if low < 0 else 0.0
    last = centres[min(int(np.searchsorted(share, 1.0 - tail)), len(centres) - 1)] if high > 0 else 0.0
    return _checked(float(min(first, 0.0)), float(max(last, 0.0)), low, high)


def mse(histogram: Histogram, low: float, high: float, levels: int, symmetric: bool) -> Range:
    """The least mean squared error of rounding and clipping, over the histogram.

    Both ends are shrunk in turn, in hundredths of the whole range, until neither moves.
    """
    centres, counts = histogram.bins()

    def error(lo: float, hi: float) -> float:
        if symmetric:
            hi = max(-lo, hi)
            lo = -hi
        step = (hi - lo) / (levels - 1)
        zero = np.rint(lo / step)
        rounded = np.clip(np.rint(centres / step), zero, zero + levels - 1) * step
        return float(np.sum(counts * (centres - rounded) ** 2))

    fractions = np.arange(100, 9, -1) / 100.0
    best = (low, high)
    for _ in range(4):
        before = best
        lows = [low * f for f in fractions] if low < 0 else [0.0]
        best = (min(lows, key=lambda lo: error(lo, best[1]) if lo < best[1] else np.inf), best[1])
        highs = [high * f for f in fractions] if high > 0 else [0.0]
        best = (best[0], min(highs, key=lambda hi: error(best[0], hi) if best[0] < hi else np.inf))
        if best == before:
            break
    return best


def kl(histogram: Histogram, low: float, high: float, levels: int, symmetric: bool) -> Range:
    """The range [max(low, -t), min(high, t)] that loses the least information, t in hundredths of the largest.

    Loss is the divergence Kullback-Leibler(P || Q) of P, the distribution with what lies outside piled onto its
    ends, from Q, the distribution inside in `levels` bars, each spread evenly over the bins it covers. Zeros
    are left out: every scale represents them exactly, and a ReLU's pile of them would drown the rest. What
    chance alone contributes, (bins - bars) / (2 * values) on average, is subtracted, so that few samples do
    not speak for narrow ranges.
    """
    centres, counts = histogram.bins(merged=4, zeros=False)
    largest = max(-low, high)
    best, least = (low, high), np.inf
    for fraction in np.arange(100, 9, -1) / 100.0:
        t = largest * float(fraction)
        lo, hi = max(low, -t), min(high, t)
        inside = (centres >= lo) & (centres <= hi)
        if not inside.any():
            break
        p = counts[inside].copy()
        kept = p.copy()
        p[0] += counts[centres < lo].sum()
        p[-1] += counts[centres > hi].sum()
        bars = np.minimum(((centres[inside] - lo) / (hi - lo) * levels).astype(np.int64), levels - 1)
        total = np.bincount(bars, kept, levels)
        filled = np.bincount(bars, minlength=levels)
        q = (total / np.maximum(filled, 1))[bars]
        chance = (len(p) - np.count_nonzero(filled)) / (2 * p.sum())
        p, q = p / p.sum(), q / q.sum()
        divergence = float(np.sum(p * np.log(p / q))) - chance
        if divergence < least:
            best, least = (lo, hi), divergence
    return best


def _checked(first: float, last: float, low: float, high: float) -> Range:
    """A range that is not empty."""
    return (first, last) if first < last else (low, high)


METHODS: dict[str, Callable[[Histogram, float, float, int, bool], Range]] = {
    "min-max": min_max,
    "percentile": percentile,
    "mse": mse,
    "kl": kl,
}
