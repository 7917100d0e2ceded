"""What the device computes of an int16 function of one element: lines between nodes, steps, LiteRT's logistic
table, two scales.

docs/numerics.md, "Functions of one element", has every formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer import fixedpoint as fp
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import DType
from intaglio.quantizer.realmath import round_away
from intaglio.quantizer.requant import Requant

STEP = 128
"""Distance of the nodes of an interpolated table."""


@dataclass(frozen=True, eq=False)
class Interpolated:
    """int16: outputs at every 128th input from -32768 to 32768 (int64 (513,)), straight lines between."""

    values: Ints

    def apply(self, x: Ints) -> Ints:
        """Evaluate."""
        index = (x - DType.INT16.low) // STEP
        base = self.values[index]
        return np.asarray(base + (((self.values[index + 1] - base) * (x % STEP) + STEP // 2) // STEP), np.int64)


@dataclass(frozen=True, eq=False)
class Octaves:
    """int16, a function of positive reals with a pole or a root at 0: 32 nodes per octave of x - zero_point.

    Attributes:
        zero_point: of x.
        values: outputs at (1 + i / 32) * 2**e for e = 0 .. 15 and at 2**16: int64 (513,), straight lines between.
        below: the output for x at and below its zero point.
        mirror: of an odd function, which is turned about the zero points: twice that of the output, and `below` counts
            for x at its zero point alone; None: of no odd one.
    """

    zero_point: int
    values: Ints
    below: int
    mirror: int | None = None

    @staticmethod
    def points() -> NDArray[np.float64]:
        """The nodes, and the middle between two: (1025,)."""
        nodes = np.append(np.outer(2.0 ** np.arange(16), 1 + np.arange(32) / 32), 2.0**16)
        both = np.empty(1025)
        both[::2], both[1::2] = nodes, (nodes[:-1] + nodes[1:]) / 2
        return both

    def apply(self, x: Ints) -> Ints:
        """Evaluate."""
        value = x - self.zero_point
        size = value if self.mirror is None else np.abs(value)
        octave = np.frexp(np.maximum(size, 1).astype(np.float64))[1].astype(np.int64) - 1
        mantissa = np.maximum(size, 1) << (15 - octave)
        node = 32 * octave + (mantissa >> 10) - 32
        base, rest = self.values[node], mantissa & 1023
        line = base + (((self.values[node + 1] - base) * rest + 512) >> 10)
        if self.mirror is not None:
            turned = fp.saturate(self.mirror - line, DType.INT16.low, DType.INT16.high)
            line = np.where(value < 0, turned, line)
        return np.asarray(np.where(size > 0, line, self.below), np.int64)


@dataclass(frozen=True, eq=False)
class Steps:
    """int16, a function that is constant between a few steps.

    Attributes:
        thresholds: the inputs from which on the output is another: int64 (n,), ascending.
        values: the outputs, before the first and from each on: int64 (n + 1,).
    """

    thresholds: Ints
    values: Ints

    @classmethod
    def of(cls, outputs: Ints) -> Steps:
        """The steps of a function that is given by its 65,536 outputs, in the order of the inputs."""
        # A constant one has a step that changes nothing.
        at = np.flatnonzero(outputs[1:] != outputs[:-1]) + 1 if (outputs != outputs[0]).any() else np.array([1])
        return cls(at + DType.INT16.low, np.append(outputs[:1], outputs[at]))

    def apply(self, x: Ints) -> Ints:
        """Evaluate."""
        return np.asarray(self.values[np.searchsorted(self.thresholds, x, side="right")], np.int64)


@dataclass(frozen=True)
class Logistic16:
    """int16, contract tflite: LiteRT's interpolated table of sigmoid(i / 24), for Sigmoid and Tanh.

    Attributes:
        multiplier, shift: (x * multiplier + half) >> shift has the unit 1 / (3 * 4096).
        tanh: whether 2 * sigmoid(2 * x) - 1 is meant.
    """

    multiplier: int
    shift: int
    tanh: bool

    @classmethod
    def of(cls, scale: float, *, tanh: bool) -> Logistic16:
        """TFLite's parameters for an input scale (`SigmoidPrepare`, `TanhPrepare`)."""
        mantissa, exponent = np.frexp(scale)
        left = 12 + int(exponent) - 1
        if mantissa == 0.5 and left in ((0, 1) if tanh else (0,)):
            return cls(3 << left, 0, tanh)
        multiplier, shift = scale * 4096.0 * 3.0, 0
        while multiplier <= 32767.0 / 2.0 and shift <= 30:
            multiplier, shift = multiplier * 2.0, shift + 1
        return cls(int(multiplier), shift, tanh)

    @property
    def table(self) -> Ints:
        """65536 * sigmoid(i / 24) for i = 0 .. 255, plus half of what a line from i to i + 1 lacks in its middle."""
        at = 65536 / (1 + np.exp(-np.arange(513) / 48))
        lack = at[1::2] - (at[:-1:2] + at[2::2]) / 2
        values = np.floor(at[:-1:2] + lack / 2 + 0.5).astype(np.int64)
        values[255] = 65535
        return values

    @property
    def bits(self) -> int:
        """Fractional bits between entries of the table."""
        return 8 if self.tanh else 9

    def apply(self, x: Ints) -> Ints:
        """Evaluate."""
        scaled = (x * self.multiplier + (1 << self.shift >> 1)) >> self.shift
        size, bits, table = np.abs(scaled), self.bits, self.table
        index = np.minimum(size >> bits, 254)
        line = (table[index] << bits) + (size & ((1 << bits) - 1)) * (table[index + 1] - table[index])
        if self.tanh:
            line = np.where(size >> bits >= 255, 0xFFFF << 8, line) - (1 << 23)
            return (np.where(scaled >= 0, line, -line - 1) + (1 << 7)) >> 8
        line = np.where(size >> bits >= 255, 0x7FFF << 10, line)
        return (np.where(scaled >= 0, line, (1 << 25) - line - 1) + (1 << 9)) >> 10


@dataclass(frozen=True, eq=False)
class Halves:
    """int16: one requantisation of x - zero_point for values >= 0, one for values below.

    Attributes:
        zero_point: of x.
        positive, negative: the requantisations.
        signs: of the slopes, 1 or -1: what each half is multiplied by before.
    """

    zero_point: int
    positive: Requant
    negative: Requant
    signs: tuple[int, int]

    def apply(self, x: Ints) -> Ints:
        """Evaluate."""
        value = x - self.zero_point
        above, below = self.positive.apply(value * self.signs[0]), self.negative.apply(value * self.signs[1])
        return np.asarray(np.where(value >= 0, above, below), np.int64)


def litert_nodes(
    function: Any, x: tuple[float, int], out: tuple[float, int], real: type[np.floating[Any]] = np.float32
) -> Ints:
    """TFLite's `LUTPopulate` for int16: 513 outputs, each shifted by half the error in the middle of its interval.

    Args:
        function: over arrays of type `real`.
        x, out: scale and zero point.
        real: the type in which every step is rounded.
    """
    low, high = DType.INT16.low, DType.INT16.high
    first, last = (real(x[0]) * real(v - x[1]) for v in (low, high))
    bottom, top = (real(out[0]) * real(v - out[1]) for v in (low, high))
    step = (last - first) / real(512)
    inverse = real(65536) / (top - bottom)
    i = np.arange(512).astype(real)
    starts, ends = first + i * step, first + (i + real(1)) * step
    at, middle, following = (np.asarray(function(v), real) for v in (starts, starts + step / real(2), ends))
    sample = round_away(at * inverse).astype(real)
    between = round_away((following * inverse + sample) / real(2)).astype(real)
    bias = round_away((between - round_away(middle * inverse).astype(real)) / real(2)).astype(real)
    end = round_away(np.asarray(function(np.array([last], real)), real) * inverse)
    values = np.clip(np.concatenate([(sample - bias).astype(np.float64), end]), low, high)
    return np.asarray(values, np.int64)
