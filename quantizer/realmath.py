"""Functions of reals in three arithmetics, so that an operator writes its formula once.

    DOUBLE   float64 arrays: the meaning of a real-valued graph
    SINGLE   float32 arrays, every step rounded to binary32: what LiteRT computes its tables in
    PRECISE  object arrays of decimals of 60 significant digits: what tables of contracts `exact` and `onnx` hold

Formulas use +, -, *, /, comparisons, numpy's where, maximum and minimum, integers, `number` and the methods below.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SMALLEST = 2.0**-126
"""The smallest positive normal binary32: what stands for 0 where 0 has no image (Log, Rsqrt, Reciprocal)."""

_CONTEXT = Context(prec=60, traps=[], Emax=10**9, Emin=-(10**9))
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534")
_NEAR_TIE = Decimal("1e-40")


class Arithmetic(ABC):
    """One way to compute."""

    @abstractmethod
    def number(self, value: float) -> Any:
        """A constant, exactly."""

    @abstractmethod
    def exp(self, x: Array) -> Array:
        """e to the power of x."""

    @abstractmethod
    def expm1(self, x: Array) -> Array:
        """exp(x) - 1."""

    @abstractmethod
    def log(self, x: Array) -> Array:
        """The natural logarithm of positive numbers."""

    @abstractmethod
    def sqrt(self, x: Array) -> Array:
        """The square root of numbers from 0 on."""

    @abstractmethod
    def tanh(self, x: Array) -> Array:
        """The hyperbolic tangent."""

    @abstractmethod
    def erfc(self, x: Array) -> Array:
        """The complementary error function."""

    @abstractmethod
    def sin(self, x: Array) -> Array:
        """The sine."""

    @abstractmethod
    def cos(self, x: Array) -> Array:
        """The cosine."""

    @abstractmethod
    def floor(self, x: Array) -> Array:
        """The largest integer not above x."""

    @abstractmethod
    def rint(self, x: Array) -> Array:
        """The nearest integer, ties to even."""


class _Binary(Arithmetic):
    """Binary floating point: functions in binary64, rounded to the type."""

    def __init__(self, dtype: type[np.floating[Any]]) -> None:
        self.dtype = dtype

    def number(self, value: float) -> Any:
        return self.dtype(value)

    def _apply(self, function: Callable[[Array], Array], x: Array) -> Array:
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(function(np.asarray(x, np.float64))).astype(self.dtype)

    def exp(self, x: Array) -> Array:
        return self._apply(np.exp, x)

    def expm1(self, x: Array) -> Array:
        return self._apply(np.expm1, x)

    def log(self, x: Array) -> Array:
        return self._apply(np.log, x)

    def sqrt(self, x: Array) -> Array:
        return self._apply(np.sqrt, x)

    def tanh(self, x: Array) -> Array:
        return self._apply(np.tanh, x)

    def erfc(self, x: Array) -> Array:
        return self._apply(np.vectorize(math.erfc, otypes=[np.float64]), x)

    def sin(self, x: Array) -> Array:
        return self._apply(np.sin, x)

    def cos(self, x: Array) -> Array:
        return self._apply(np.cos, x)

    def floor(self, x: Array) -> Array:
        return self._apply(np.floor, x)

    def rint(self, x: Array) -> Array:
        return self._apply(np.rint, x)


class _Precise(Arithmetic):
    """Decimals; only within `precise()`, which sets their context."""

    def number(self, value: float) -> Any:
        return Decimal(value)

    @staticmethod
    def _apply(function: Callable[[Decimal], Decimal], x: Array) -> Array:
        return np.asarray(np.frompyfunc(function, 1, 1)(x), object)

    def exp(self, x: Array) -> Array:
        return self._apply(Decimal.exp, x)

    def expm1(self, x: Array) -> Array:
        # 60 digits of exp leave 60 - d of the difference for |x| near 10**-d.
        return np.asarray(self.exp(x) - 1)

    def log(self, x: Array) -> Array:
        return self._apply(Decimal.ln, x)

    def sqrt(self, x: Array) -> Array:
        return self._apply(Decimal.sqrt, x)

    def tanh(self, x: Array) -> Array:
        return np.asarray(1 - 2 / (self.exp(2 * x) + 1))

    def erfc(self, x: Array) -> Array:
        return np.asarray(1 - self._apply(_erf, x))

    def sin(self, x: Array) -> Array:
        return self._apply(_sin, x)

    def cos(self, x: Array) -> Array:
        return self._apply(lambda v: _sin(v + _PI / 2), x)

    def floor(self, x: Array) -> Array:
        return self._apply(lambda v: v.to_integral_value(ROUND_FLOOR), x)

    def rint(self, x: Array) -> Array:
        return self._apply(lambda v: v.to_integral_value(ROUND_HALF_EVEN), x)


def _erf(x: Decimal) -> Decimal:
    """erf(x) = 2 / sqrt(pi) * exp(-x**2) * sum over n of 2**n * x**(2n+1) / (1 * 3 * ... * (2n+1)): no cancellation."""
    if abs(x) > 12:
        return Decimal(1).copy_sign(x)
    term = total = x
    n = 1
    while abs(term) > abs(total) * Decimal("1e-60"):
        term = term * 2 * x * x / (2 * n + 1)
        total += term
        n += 1
    return 2 / _PI.sqrt() * (-x * x).exp() * total


def _sin(x: Decimal) -> Decimal:
    """The Taylor series within half a turn; a multiple of a turn keeps 60 - d digits for |x| near 10**d."""
    x = x - (x / (2 * _PI)).to_integral_value(ROUND_HALF_EVEN) * 2 * _PI
    term = total = x
    n = 1
    while abs(term) > Decimal("1e-60"):
        term = -term * x * x / ((2 * n) * (2 * n + 1))
        total += term
        n += 1
    return total


DOUBLE: Arithmetic = _Binary(np.float64)
SINGLE: Arithmetic = _Binary(np.float32)
PRECISE: Arithmetic = _Precise()


def precise(
    function: Callable[[Array, Arithmetic], Any], points: Array, scale: float, divisor: float
) -> NDArray[np.object_]:
    """Evaluate function(points * scale) / divisor to 60 digits.

    Args:
        points: integers or exact decimals.
        scale, divisor: binary floating-point numbers, taken exactly.

    Returns:
        Decimals of the points' shape; a value within 1e-40 of a tie (an odd multiple of 1/2) is that tie.
    """
    with localcontext(_CONTEXT):
        x = np.asarray(np.frompyfunc(Decimal, 1, 1)(points), object) * Decimal(scale)
        value = np.asarray(function(x, PRECISE), object) / Decimal(divisor)
        return np.asarray(np.frompyfunc(_settle, 1, 1)(np.broadcast_to(value, x.shape)), object)


def _settle(value: Decimal) -> Decimal:
    if not abs(value) < 2**40:
        return value
    twice = (2 * value).to_integral_value(ROUND_HALF_EVEN)
    return twice / 2 if abs(2 * value - twice) < _NEAR_TIE else value


def round_precise(value: NDArray[np.object_], half_even: bool, limit: int = 2**31) -> NDArray[np.int64]:
    """Round decimals to integers, ties to even or up, saturated at +-limit."""

    def one(v: Decimal) -> int:
        bounded = max(min(v, Decimal(limit)), Decimal(-limit))
        if half_even:
            return int(bounded.to_integral_value(ROUND_HALF_EVEN))
        return int((bounded + Decimal("0.5")).to_integral_value(ROUND_FLOOR))

    with localcontext(_CONTEXT):
        return np.asarray(np.frompyfunc(one, 1, 1)(value), object).astype(np.int64)


def interpolation_nodes(values: NDArray[np.object_], low: int, high: int, half_even: bool) -> NDArray[np.int64]:
    """Nodes of a table that is interpolated linearly.

    Each node but the last is shifted by half the line's error in the middle of the interval that it starts.

    Args:
        values: decimals at the nodes and in the middle between two: (2 * n + 1,).
        low, high: the values are clipped to.

    Returns:
        int64 (n + 1,).
    """
    with localcontext(_CONTEXT):
        clipped = np.asarray(np.frompyfunc(lambda v: max(min(v, Decimal(high)), Decimal(low)), 1, 1)(values), object)
        nodes, middles = clipped[::2], clipped[1::2]
        error = (nodes[:-1] + nodes[1:]) / 2 - middles
        shifted = np.concatenate([nodes[:-1] - error / 2, nodes[-1:]])
    return np.asarray(np.clip(round_precise(shifted, half_even), low, high), np.int64)


def round_away(value: NDArray[Any]) -> NDArray[np.float64]:
    """To the nearest integer, halves away from zero, as C does."""
    exact = value.astype(np.float64)
    return np.copysign(np.floor(np.abs(exact) + 0.5), exact)
