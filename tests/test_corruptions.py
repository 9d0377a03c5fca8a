"""Corruptions: exactly what their table says, the same each time, worse with each severity."""

import numpy as np
import pytest

from stream_ad.functional.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from tests.pictures import disc

SMOOTH = np.repeat(np.repeat(np.linspace(60, 180, 120)[None, :, None], 90, 0), 3, 2).astype(np.uint8)


def distance(first, second):
    return float(np.abs(first.astype(np.float64) - second).mean())


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_curve_starts_at_the_picture_and_gets_worse_in_one_way(kind):
    picture = np.kron(disc(0), np.ones((3, 3, 1), np.uint8))
    changes = [distance(corrupt(picture, kind, severity, seed=3).picture, picture) for severity in (0, *SEVERITIES)]
    assert changes[0] == 0
    assert all(np.diff(changes) > 0)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_seed_decides_everything(kind):
    first, again, other = (corrupt(disc(0), kind, 3, seed=seed).picture for seed in (1, 1, 4))
    np.testing.assert_array_equal(first, again)
    assert first.shape == disc(0).shape
    if kind not in ("blur", "jpeg"):  # nothing is drawn there
        assert not np.array_equal(first, other)


def test_noise_has_the_deviation_of_the_table():
    grey = np.full((200, 200, 3), 128, np.uint8)
    for severity, deviation in zip(SEVERITIES, (3, 6, 12, 20, 30), strict=True):
        noisy = corrupt(grey, "noise", severity, seed=0).picture
        assert noisy.astype(float).std() == pytest.approx(deviation, rel=0.03)


def test_light_is_a_gain_of_so_many_stops():
    grey = np.full((8, 8, 3), 100, np.uint8)
    levels = {int(corrupt(grey, "light", 5, seed=seed).picture[0, 0, 0]) for seed in range(20)}
    assert levels == {round(100 * 2 ** (0.9 / 2.2)), round(100 * 2 ** (-0.9 / 2.2))}


def test_blur_is_the_same_share_of_small_and_large_pictures():
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 32:] = 200
    large = np.kron(edge, np.ones((4, 4, 1), np.uint8))
    blurred = [corrupt(picture, "blur", 5, seed=0).picture for picture in (edge, large)]
    widths = [((b[10] > 20) & (b[10] < 180)).mean() for b in blurred]
    assert widths[0] == pytest.approx(widths[1], abs=0.02)


def test_a_shift_moves_the_mask_along_and_mirrors_the_edge():
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[40:60, 40:60] = 255
    mask = picture[..., 0] > 0
    moved = corrupt(picture, "shift", 4, seed=7, mask=mask)
    assert moved.mask is not None
    assert (moved.mask == (moved.picture[..., 0] > 127)).mean() > 0.99
    centre = np.argwhere(moved.mask).mean(axis=0) - 49.5
    assert np.hypot(*centre) == pytest.approx(0.06 * np.hypot(100, 100), abs=1)
    border = corrupt(SMOOTH, "shift", 5, seed=7).picture
    assert border.min() >= 60  # no black margin


def test_other_corruptions_leave_the_mask():
    mask = np.zeros((96, 96), bool)
    mask[3, 4] = True
    assert corrupt(disc(0), "jpeg", 5, seed=0, mask=mask).mask is mask


def test_what_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="kinds of corruption are noise, blur"):
        corrupt(disc(0), "rain", 1, seed=0)
    with pytest.raises(ValueError, match=r"0 \(none\) to 5; got 6"):
        corrupt(disc(0), "blur", 6, seed=0)
