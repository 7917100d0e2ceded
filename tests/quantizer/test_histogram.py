"""Streaming histograms and the methods that choose a range from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.quantizer.histogram import BINS, METHODS, Histogram, choose_range


def histogram(*samples: np.ndarray) -> Histogram:
    result = Histogram()
    for sample in samples:
        result.add(sample)
    return result


def error(values: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of int8 over [low, high]."""
    step = (high - low) / 255
    zero = np.rint(low / step)
    return float(np.mean((values - np.clip(np.rint(values / step), zero, zero + 255) * step) ** 2))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_streaming_equals_looking_at_everything(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    samples = [rng.normal(rng.normal(), 10.0 ** rng.uniform(-3, 3), 50) for _ in range(count)]
    everything = np.concatenate(samples)
    h = histogram(*samples)
    assert (h.low, h.high) == (everything.min(), everything.max())
    np.testing.assert_allclose(h.mean, np.mean(samples, axis=0))
    centres, counts = h.bins()
    assert counts.sum() == everything.size
    # Each value lies within one bin's width of its centre: sorted values and centres agree.
    width = 2 * np.abs(everything).max() / (BINS / 2)
    np.testing.assert_allclose(np.sort(everything), np.repeat(centres, counts.astype(int)), rtol=0, atol=width)


def test_merging_is_the_histogram_of_both() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 0.01, 200), rng.normal(5, 40, 200)
    for first, second in ((small, large), (large, small), (np.zeros(200), large), (large, np.zeros(200))):
        merged, together = histogram(first).merge(histogram(second)), histogram(first, second)
        assert (merged.low, merged.high) == (together.low, together.high)
        for a, b in zip(merged.bins(), together.bins(), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        np.zeros(10),
        np.full(10, 3.0),
        np.full(10, -3.0),
        np.array([0.0, 1e-30]),
        np.array([-1e30, 1e30]),
        np.arange(5.0),
    ],
)
def test_every_method_gives_a_range_around_zero(method: str, symmetric: bool, values: np.ndarray) -> None:
    low, high = choose_range(histogram(values), method, 256, symmetric=symmetric)
    assert low <= 0 <= high
    assert np.isfinite([low, high]).all()
    assert symmetric is False or low == -high
    assert (low < high) == bool(np.any(values))


def test_min_max_is_exact_and_wide_types_use_it() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    assert choose_range(histogram(values), "min-max", 256, symmetric=False) == (values.min(), values.max())
    for method in METHODS:
        assert choose_range(histogram(values), method, 65536, symmetric=False) == (values.min(), values.max())


@pytest.mark.parametrize("method", ["percentile", "kl"])
def test_outliers_are_clipped(method: str) -> None:
    values = np.random.default_rng(0).normal(size=50_000)
    low, high = choose_range(histogram(np.append(values, 60.0)), method, 256, symmetric=False)
    assert 2.0 < high < 24.0
    assert -6.0 < low < -2.0


def test_mse_beats_the_others_at_mean_squared_error() -> None:
    rng = np.random.default_rng(1)
    for values in (rng.normal(size=20_000), rng.laplace(size=20_000), np.maximum(rng.standard_t(4, 20_000), 0)):
        errors = {m: error(values, *choose_range(histogram(values), m, 256, symmetric=False)) for m in METHODS}
        assert errors["mse"] <= 1.001 * min(errors.values())


def test_mse_leaves_integers_alone() -> None:
    values = np.arange(256.0)
    assert choose_range(histogram(values), "mse", 256, symmetric=False) == (0.0, 255.0)


def test_percentile_cuts_the_stated_share() -> None:
    values = np.linspace(-1, 1, 100_001)
    low, high = choose_range(histogram(values), "percentile", 256, symmetric=False)
    assert np.mean(values < low) == pytest.approx(1e-4, abs=2e-4)
    assert np.mean(values > high) == pytest.approx(1e-4, abs=2e-4)
    assert high < 1
