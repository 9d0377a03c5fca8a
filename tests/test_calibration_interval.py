"""The pooled interval of false alarms: laws, and a simulation."""

import doctest
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from stream_ad.domain.bank import conformal_rank
from stream_ad.evaluation.calibration import (
    TaskAlarms,
    false_alarm_interval,
    pooled_alarms,
    promisable,
)

SIZES = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 60)), min_size=1, max_size=5)
RATES = st.sampled_from([0.01, 0.05, 0.1, 0.3])


def interval_of(sizes, alpha, confidence=0.95):
    return false_alarm_interval([n for n, _ in sizes], [m for _, m in sizes], alpha, confidence)


@given(st.integers(0, 400), RATES)
def test_a_rate_is_promisable_from_one_over_alpha_minus_one_images(n, alpha):
    assert promisable(n, alpha) == (n + 1 >= 1 / alpha - 1e-9)


@given(SIZES, RATES)
@settings(deadline=None)
def test_order_and_tasks_that_cannot_promise_change_nothing(sizes, alpha):
    interval = interval_of(sizes, alpha)
    assert 0 <= interval.low <= interval.high <= sum(m for _, m in sizes)
    assert interval_of(sizes[::-1], alpha) == interval
    kept = [(n, m) for n, m in sizes if promisable(n, alpha)] or [(0, 0)]
    assert interval_of(kept, alpha) == interval


@given(SIZES, RATES)
@settings(deadline=None)
def test_more_confidence_is_never_a_narrower_interval(sizes, alpha):
    narrow, wide = (interval_of(sizes, alpha, confidence) for confidence in (0.8, 0.99))
    assert wide.low <= narrow.low <= narrow.high <= wide.high


def test_one_task_is_the_beta_binomials_own_interval():
    n, m, alpha = 99, 200, 0.05
    chance = betabinom(m, n + 1 - conformal_rank(n, alpha), conformal_rank(n, alpha))
    interval = false_alarm_interval([n], [m], alpha)
    assert chance.cdf(interval.low - 1) <= 0.025 < chance.cdf(interval.low)
    assert chance.sf(interval.high) <= 0.025 < chance.sf(interval.high - 1)


def test_two_tasks_are_the_sum_over_all_pairs():
    sizes, tests, alpha = [19, 40], [5, 7], 0.05
    ranks = [conformal_rank(n, alpha) for n in sizes]
    each = [
        betabinom.pmf(np.arange(m + 1), m, n + 1 - rank, rank) for n, m, rank in zip(sizes, tests, ranks, strict=True)
    ]
    chances = np.zeros(sum(tests) + 1)
    for first, second in product(range(tests[0] + 1), range(tests[1] + 1)):
        chances[first + second] += each[0][first] * each[1][second]
    for confidence in (0.5, 0.8, 0.95):
        low, high = false_alarm_interval(sizes, tests, alpha, confidence)
        tail = (1 - confidence) / 2
        assert chances[:low].sum() <= tail < chances[: low + 1].sum()
        assert chances[high + 1 :].sum() <= tail < chances[high:].sum()


def test_simulated_counts_lie_inside_as_often_as_said():
    """Whatever the distribution of scores: thresholds are ranks."""
    rng = np.random.default_rng(0)
    sizes, tests, alpha, repeats = [60, 100, 250], [30, 40, 80], 0.05, 4000
    low, high = false_alarm_interval(sizes, tests, alpha, 0.9)
    alarms = np.zeros(repeats)
    for n, m in zip(sizes, tests, strict=True):
        good = np.sort(rng.exponential(size=(repeats, n)), axis=1)
        threshold = good[:, conformal_rank(n, alpha) - 1 : conformal_rank(n, alpha)]
        alarms += (rng.exponential(size=(repeats, m)) > threshold).sum(axis=1)
    inside = np.mean((alarms >= low) & (alarms <= high))
    assert 0.9 - 0.015 <= inside <= 0.96  # counts are whole numbers, so a little more than asked
    expected = sum(pooled_alarms([TaskAlarms("", n, m, 0)], alpha).expected for n, m in zip(sizes, tests, strict=True))
    assert alarms.mean() == pytest.approx(expected, rel=0.03)


def test_tasks_that_cannot_promise_are_named_and_not_counted():
    tasks = [TaskAlarms("nut", 100, 40, 2), TaskAlarms("tile", 98, 40, 40)]
    judged = pooled_alarms(tasks, 0.01)
    assert judged.left_out == ("tile",)
    assert (judged.alarms, judged.images) == (2, 40)
    assert judged.as_promised is True
    nothing = pooled_alarms(tasks[1:], 0.01)
    assert nothing.as_promised is None
    assert str(nothing) == "Cannot be promised for tile"
    assert pooled_alarms([TaskAlarms("nut", 100, 40, 30)], 0.05).as_promised is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([10], [10], 0.0), "alpha must be in"),
        (([10], [10], 0.1, 1.0), "confidence must be in"),
        (([10], [], 0.1), "as many test sizes"),
        (([10], [-1], 0.1), "must not be negative"),
    ],
)
def test_senseless_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        false_alarm_interval(*arguments)


def test_the_examples_of_the_page_run():
    page = Path(__file__).parents[1] / "docs/calibration.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert (failed, tried) == (0, 3)
