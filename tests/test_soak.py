"""The soak's verdict on growth: a leak is found under noise, and noise is not called a leak."""

import numpy as np
import pytest

from benchmarks.soak import growth

DONE = np.linspace(0, 200_000, 1200)
NOISE = np.random.default_rng(3).normal(0, 4, len(DONE))


def test_a_leak_of_a_hundred_bytes_a_message_is_found_under_noise():
    found = growth(DONE.tolist(), (600 + 100e-6 * DONE + NOISE).tolist())
    assert found.grows(10.0)
    assert found.growth == pytest.approx(18, abs=3)  # MB over the nine tenths that are fitted


def test_noise_alone_does_not_grow():
    assert not growth(DONE.tolist(), (600 + NOISE).tolist()).grows(10.0)


def test_caches_that_fill_in_the_first_tenth_are_no_leak():
    assert not growth(DONE.tolist(), (600 + 80 * np.minimum(DONE / 20_000, 1) + NOISE).tolist()).grows(10.0)


def test_a_certain_growth_that_is_too_small_to_matter_is_none():
    found = growth(DONE.tolist(), (600 + 1e-5 * DONE).tolist())
    assert found.low > 0
    assert not found.grows(10.0)


def test_a_handle_lost_every_ten_thousand_messages_is_found():
    assert growth(DONE.tolist(), (40 + DONE // 10_000).tolist()).grows(2.0)


def test_a_run_that_is_too_short_to_tell_is_refused():
    with pytest.raises(ValueError, match="needed at least"):
        growth([0.0, 1.0, 2.0], [1.0, 1.0, 1.0])
