import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.domain.bank import Calibration


def calibration(scores):
    values = np.sort(np.array(scores, dtype=np.float64))
    return Calibration(
        score_scales={},
        map_scales={},
        scores=values,
        map_peaks=values,
        key_distances=values,
        embedding_distances=values,
        out_of_fold=False,
    )


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60, unique=True), st.floats(0.01, 0.5))
def test_above_the_threshold_is_exactly_a_p_value_of_at_most_alpha(scores, alpha):
    c = calibration(scores)
    if not c.can_promise(alpha):
        assert c.threshold(alpha) == max(scores)
        return
    for score in [*scores, c.threshold(alpha), np.nextafter(c.threshold(alpha), np.inf)]:
        assert (score > c.threshold(alpha)) == (c.p_value(score) <= alpha + 1e-9)


def test_a_rate_needs_one_over_alpha_minus_one_images():
    assert calibration(range(19)).can_promise(0.05)
    assert not calibration(range(18)).can_promise(0.05)


def test_achieved_false_alarms_are_the_promised_ones():
    """Over many draws of 99 calibration images, unseen good images are called NG at the promised rate."""
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        c = calibration(rng.normal(size=99))
        rates.append((rng.normal(size=200) > c.threshold(0.05)).mean())
    assert np.mean(rates) == pytest.approx(0.05, abs=0.004)
