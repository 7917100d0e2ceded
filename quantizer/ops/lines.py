"""Step functions of one integer found as lines: out = clip((x * a + c) >> shift), proven at every step.

The map that a contract defines over a few thousand integers is known as a table. Where a line with integer
coefficients computes the same table, the device multiplies once, or twice where the coefficient needs more bits than
32-bit products leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.requant import Interval

SPLIT = 10
"""Low bits of a coefficient that are multiplied apart."""

_NONE = 1 << 62


@dataclass(frozen=True, eq=False)
class Lines:
    """One line per channel, with a common shift.

    With `split`, x * a + c is summed as x * (a >> 10) + ((x * (a & 1023) + (c & 1023)) >> 10) + (c >> 10), its floor
    over 2**10; both fit 32 bits where the whole does not.

    Attributes:
        a, c: int64 (channels,).
        shift: to the right.
        low, high: the clip.
        split: whether the coefficients are multiplied in two parts.
        operand: which input of the node is x, where others are constant and part of the lines.
    """

    a: Ints
    c: Ints
    shift: int
    low: int
    high: int
    split: bool = False
    operand: int = 0

    def apply(self, x: Ints) -> Ints:
        """Evaluate; the last axis of x runs over the channels when there are several."""
        return fp.saturate((x * self.a + self.c) >> self.shift, self.low, self.high)

    @property
    def words(self) -> Ints:
        """What the kernels read of each channel: (channels, 2), split: (channels, 4) high and low parts of a and c."""
        if not self.split:
            return np.stack([self.a, self.c], axis=1)
        low = (1 << SPLIT) - 1
        return np.stack([self.a >> SPLIT, self.a & low, self.c & low, self.c >> SPLIT], axis=1)

    @property
    def rest(self) -> int:
        """The shift after the parts are joined."""
        return self.shift - SPLIT if self.split else self.shift


def fit(
    tables: Ints,
    first: int,
    low: int,
    high: int,
    slopes: Sequence[float],
    operand: int = 0,
    splits: tuple[bool, ...] = (False, True),
) -> Lines | None:
    """Find lines that equal tables.

    Args:
        tables: int64 (channels, n): outputs for x = first .. first + n - 1, each within [low, high] and monotone.
        slopes: the real slopes in output steps per x, one per channel.
        operand: passed on.
        splits: whether to try whole coefficients and such in two parts.

    Returns:
        None when there are none within 32-bit arithmetic.
    """
    last = first + tables.shape[1] - 1
    steps = [_steps(table, first) for table in tables]
    for split in splits:
        for shift in range(30, SPLIT, -1):
            found: list[tuple[int, int]] = []
            for (x, t), slope in zip(steps, slopes, strict=True):
                line = _fit_one(x, t, (first, last), (low, high), slope * 2.0**shift, shift, split)
                if line is None:
                    break
                found.append(line)
            if len(found) == len(steps):
                pairs = np.array(found, np.int64)
                return Lines(pairs[:, 0], pairs[:, 1], shift, low, high, split, operand)
    return None


def _steps(table: Ints, first: int) -> tuple[Ints, Ints]:
    """The ends of each run of equal outputs: (x, output)."""
    edges = np.flatnonzero(np.diff(table))
    at = np.unique(np.concatenate([[0, len(table) - 1], edges, edges + 1]))
    return at + first, table[at]


def _fit_one(
    x: Ints, t: Ints, interval: Interval, clip: Interval, slope: float, shift: int, split: bool
) -> tuple[int, int] | None:
    """The (a, c) with a nearest to the slope, or None.

    a * x + c must be at least t << shift, except where the clip raises it, and below (t + 1) << shift, except where
    the clip lowers it. Both bind only at the ends of runs.
    """
    low, high = clip
    floor, ceiling = t[t > low] << shift, ((t[t < high] + 1) << shift) - 1
    for nudge in (0, -1, 1, -2, 2, -3, 3):
        a = round(slope) + nudge
        least = int((floor - a * x[t > low]).max(initial=-_NONE))
        most = int((ceiling - a * x[t < high]).min(initial=_NONE))
        if least > most:
            continue
        c = (max(least, most - (1 << shift)) + min(most, least + (1 << shift))) // 2 if low < high else low << shift
        if _fits(np.array(interval, np.int64), a, c, split):
            return a, c
    return None


def _fits(ends: Ints, a: int, c: int, split: bool) -> bool:
    """Whether no intermediate leaves int32 for x between the ends."""
    if abs(a) >= 2 ** (31 + SPLIT * split) or abs(c) >= 2 ** (31 + SPLIT * split):
        return False
    if not split:
        parts = [ends * a + c, ends * a]
    else:
        mask = (1 << SPLIT) - 1
        small, large = ends * (a & mask) + (c & mask), ends * (a >> SPLIT)
        parts = [small, large, large + (c >> SPLIT), large + (small >> SPLIT) + (c >> SPLIT)]
    # One to spare: `small` is not monotone in the same direction as `large`.
    return all(int(p.min()) > -(2**31) and int(p.max()) < 2**31 - 1 for p in parts)
