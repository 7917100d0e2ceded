"""Requantisation: thresholds and the arithmetic found equal the rational definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.quantizer.errors import ProofError
from intaglio.quantizer.fixedpoint import AffineMap, BinaryMap, Rounding
from intaglio.quantizer.requant import Method, exact_requant


@st.composite
def maps(draw: st.DrawFn) -> AffineMap:
    low, high = draw(st.sampled_from([(-128, 127), (0, 255), (-17, 90), (-32768, 32767)]))
    if draw(st.booleans()):
        # Halves and quarters meet the rounding's ties.
        scale = Fraction(draw(st.integers(1, 300)), 2 ** draw(st.integers(0, 12)))
    else:
        parts = [float(np.float32(10 ** draw(st.floats(-4, 0)))) for _ in range(3)]
        scale = Fraction(parts[0]) * Fraction(parts[1]) / Fraction(parts[2])
    return AffineMap(scale, draw(st.integers(low, high)), low, high, draw(st.sampled_from(list(Rounding))))


@settings(max_examples=60, deadline=None)
@given(maps(), st.data())
def test_each_threshold_is_the_first_accumulator_of_its_output(definition: AffineMap, data: st.DataObject) -> None:
    found = definition.thresholds()
    assert len(found) == definition.high - definition.low
    chosen = {0, len(found) - 1, *data.draw(st.lists(st.integers(0, len(found) - 1), max_size=40))}
    for index in chosen:
        value, at = definition.low + 1 + index, int(found[index])
        if abs(at) < 2**62:
            assert definition.at(at) >= value > definition.at(at - 1)


@pytest.mark.parametrize("scale", [1e-120, 2.0**-60, 2.0**-54, 1e-14, 0.3, 1e30])
def test_thresholds_of_any_binary64_scale_end(scale: float) -> None:
    """Scales of weights may be anything in a damaged file; no accumulator reaches 2**53."""
    definition, most = BinaryMap(Fraction(scale), 3, -128, 127), 2**53
    for value, at in enumerate(definition.thresholds().tolist(), definition.low + 1):
        assert at == most or definition.at(at) >= value
        assert at == -most or definition.at(at - 1) < value


@st.composite
def layers(draw: st.DrawFn) -> list[AffineMap]:
    """The channels of a layer: any scales, as far apart as weights may be; or ratios of whole numbers, with halves."""
    first = draw(maps())
    if draw(st.booleans()):
        base = 10 ** draw(st.floats(-9, -2.3))
        scales = [Fraction(float(np.float32(base * 10 ** draw(st.floats(-2, 1))))) for _ in range(3)]
    else:
        scales = [Fraction(draw(st.integers(1, 99)), draw(st.integers(1, 9)) * 2 ** draw(st.integers(3, 9)))]
    return [AffineMap(s, first.zero_point, first.low, first.high, first.rounding) for s in scales]


@settings(max_examples=100, deadline=None)
@given(layers(), st.integers(4, 48), st.integers(4, 48), st.integers(0, 2**32 - 1))
def test_every_layer_has_an_arithmetic_that_equals_its_definition(
    maps: list[AffineMap], down: int, up: int, seed: int
) -> None:
    interval = (-(2**down), 2**up)
    requant = exact_requant(maps, [interval] * len(maps), "test")
    assert requant.method is not Method.TABLE
    rng = np.random.default_rng(seed)
    points = [*interval, *rng.integers(*interval, 300)]
    for m in maps:
        steps = m.thresholds()[rng.integers(0, m.high - m.low, 200)]
        points += [v + d for v in steps.tolist() for d in (-1, 0) if interval[0] <= v + d <= interval[1]]
    acc = np.array(points, np.int64)
    got = requant.apply(np.repeat(acc[:, None], len(maps), axis=1))
    for c, m in enumerate(maps):
        assert got[:, c].tolist() == [m.at(int(v)) for v in acc]


def test_a_power_of_two_needs_only_a_shift() -> None:
    definition = AffineMap(Fraction(1, 64), 3, -128, 127)
    requant = exact_requant([definition], [(-10000, 10000)], "test")
    assert (requant.method, requant.multiplier.tolist(), requant.shift.tolist()) == (Method.MUL32, [1], [6])


def test_one_channel_that_needs_more_takes_the_others_along() -> None:
    easy, hard = AffineMap(Fraction(1, 64), 0, -128, 127), AffineMap(Fraction(0.0012345), 0, -128, 127)
    alone = exact_requant([easy], [(-(2**20), 2**20)], "test")
    both = exact_requant([easy, hard], [(-(2**20), 2**20)] * 2, "test")
    assert alone.method is Method.MUL32
    assert both.method is Method.MUL64


@pytest.mark.parametrize("rounding", Rounding)
def test_no_table_of_many_steps(rounding: Rounding) -> None:
    hard = AffineMap(Fraction(8191, 7 * 2**24), 0, -32768, 32767, rounding)
    with pytest.raises(ProofError, match="a table of every step would take 262140 bytes"):
        exact_requant([hard], [(-(2**31), 2**31 - 1)], "node")


def test_an_accumulator_beyond_62_bits_is_refused() -> None:
    with pytest.raises(ProofError, match="may exceed 62 bits"):
        exact_requant([AffineMap(Fraction(1, 64), 0, -128, 127)], [(0, 2**63)], "node")
