"""Synthetic defects change what their mask says and nothing else; superpixels vote."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from stream_ad.functional.perturbation import KINDS, MIN_CHANGE, perlin_noise, perturb
from stream_ad.functional.regions import majority_labels, superpixels


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(
    picture=npst.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(KINDS),
)
@settings(max_examples=150, deadline=None)
def test_outside_the_mask_nothing_changes_and_the_mask_is_never_empty(picture, seed, kind):
    before = picture.copy()
    painted, mask = perturb(picture, np.random.default_rng(seed), kinds=(kind,))
    assert mask.any()
    assert np.array_equal(painted[~mask], picture[~mask])
    assert (painted != picture).any()
    assert np.array_equal(picture, before)


@given(level=st.integers(0, 255), seed=st.integers(0, 2**32), kind=st.sampled_from([k for k in KINDS if k != "noise"]))
@settings(max_examples=100, deadline=None)
def test_a_defect_is_seen_even_on_plain_ground(level, seed, kind):
    picture = np.full((64, 64, 3), level, dtype=np.uint8)
    painted, mask = perturb(picture, np.random.default_rng(seed), kinds=(kind,))
    change = np.abs(painted[mask].astype(int) - level)
    assert change.mean() >= MIN_CHANGE - 0.5
    assert (change.max(axis=-1) > 0).mean() > 0.9


@given(height=st.integers(64, 300), width=st.integers(64, 300), seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
@settings(max_examples=150, deadline=None)
def test_defects_cover_between_a_third_of_a_percent_and_eight_percent(height, width, seed, kind):
    _, mask = perturb(texture(height, width), np.random.default_rng(seed), kinds=(kind,))
    assert 0.0029 <= mask.mean() <= 0.0801


@given(
    roi=npst.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))).filter(np.any),
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(KINDS),
)
@settings(max_examples=150, deadline=None)
def test_defects_stay_in_the_region_of_interest(roi, seed, kind):
    rows, columns = roi.shape
    picture = texture(rows * 5, columns * 3)
    _, mask = perturb(picture, np.random.default_rng(seed), kinds=(kind,), roi=roi)
    inspected = np.kron(roi, np.ones((5, 3), dtype=bool))
    assert mask.any()
    assert not (mask & ~inspected).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_paints_the_same_defect(kind):
    picture = texture(96, 80)
    first, first_mask = perturb(picture, np.random.default_rng(3), kinds=(kind,))
    again, again_mask = perturb(picture, np.random.default_rng(3), kinds=(kind,))
    other, _ = perturb(picture, np.random.default_rng(4), kinds=(kind,))
    assert np.array_equal(first, again)
    assert np.array_equal(first_mask, again_mask)
    assert not np.array_equal(first, other)


def test_a_scar_is_thin_and_small():
    for seed in range(30):
        _, mask = perturb(texture(224, 224), np.random.default_rng(seed), kinds=("scar",))
        assert mask.mean() < 0.021


def test_an_unknown_kind_and_an_empty_region_of_interest_are_refused():
    with pytest.raises(ValueError, match=r"noise, cut-paste, scar, perlin; got \['dent'\]"):
        perturb(texture(8, 8), np.random.default_rng(0), kinds=("dent",))
    with pytest.raises(ValueError, match="region of interest holds no pixel"):
        perturb(texture(8, 8), np.random.default_rng(0), roi=np.zeros((4, 4), dtype=bool))


def test_perlin_noise_is_smooth_and_centred():
    noise = perlin_noise((4, 4), 128, np.random.default_rng(0))
    assert np.abs(np.diff(noise, axis=0)).max() < 0.1
    assert np.abs(noise).max() <= 1
    assert abs(noise[0, 0]) < 1e-4


@given(
    labels=npst.arrays(np.int64, st.tuples(st.integers(6, 20), st.integers(6, 20)), elements=st.integers(0, 9)),
    grid=st.integers(1, 6),
)
@settings(max_examples=100, deadline=None)
def test_the_label_of_a_patch_is_the_majority_of_its_cell(labels, grid):
    height, width = labels.shape
    cells: dict[tuple[int, int], Counter] = {}
    for row in range(height):
        for column in range(width):
            cells.setdefault((row * grid // height, column * grid // width), Counter())[int(labels[row, column])] += 1
    majority = majority_labels(labels, grid)
    for (row, column), votes in cells.items():
        assert majority[row, column] == min(votes, key=lambda label: (-votes[label], label))


def test_superpixels_keep_two_halves_apart():
    picture = np.zeros((150, 90, 3), dtype=np.uint8)
    picture[:, 45:] = 220
    labels = superpixels(picture, grid=14, count=20)
    assert labels.shape == (14, 14)
    assert not set(labels[:, :7].ravel()) & set(labels[:, 7:].ravel())
    assert 4 <= len(np.unique(labels)) <= 30
    assert np.array_equal(labels, superpixels(picture, grid=14, count=20))


@pytest.mark.parametrize(("height", "width", "grid"), [(20, 20, 14), (900, 300, 16), (64, 64, 37)])
def test_superpixels_take_pictures_of_any_size(height, width, grid):
    assert superpixels(texture(height, width), grid=grid, count=30).shape == (grid, grid)


def test_superpixels_refuse_an_empty_grid():
    with pytest.raises(ValueError, match="at least 1, got 0 and 5"):
        superpixels(texture(8, 8), grid=0, count=5)
    with pytest.raises(ValueError, match="at least 4 x 4 pixels, got 3 x 9"):
        majority_labels(np.zeros((3, 9), dtype=np.int64), 4)
