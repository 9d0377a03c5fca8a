"""The evaluation's numbers, held against slow and obvious versions."""

import itertools
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from stream_ad.evaluation.metrics import (
    image_ap,
    image_auroc,
    mask_to_map_size,
    paired_bootstrap,
    pixel_ap,
    pixel_auroc,
    pixel_pro,
    rate_interval,
)

few_values = st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0, 40.0])  # few, so that ties abound
any_values = st.floats(-100, 100, width=32)


@st.composite
def scored_images(draw: st.DrawFn):
    n = draw(st.integers(1, 25))
    values = draw(st.sampled_from([few_values, any_values]))
    scores = draw(arrays(np.float64, n, elements=values))
    return scores, draw(arrays(np.bool_, n))


@st.composite
def mapped_images(draw: st.DrawFn):
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    values = draw(st.sampled_from([few_values, any_values]))
    return draw(arrays(np.float32, shape, elements=values)), draw(arrays(np.bool_, shape))


def components(mask) -> Any:
    return ndimage.label(mask, structure=np.ones((3, 3)))


def slow_auroc(scores, defective):
    pairs = [(good, bad) for good in scores[~defective] for bad in scores[defective]]
    return np.mean([1.0 if bad > good else 0.5 if bad == good else 0.0 for good, bad in pairs])


def slow_pro(maps, masks, max_fpr):
    """Every distinct value as a threshold, each region looked at by itself, then trapezoids up to max_fpr."""
    inside = maps > -np.inf
    regions = []
    for index, mask in enumerate(masks):
        labels, count = components(mask)
        for label in range(1, count + 1):
            region = np.zeros_like(masks)
            region[index] = (labels == label) & inside[index]
            if region.any():
                regions.append(region)
    if not regions or not (inside & ~masks).any():
        return np.nan
    curve = [(0.0, 0.0)]
    for threshold in sorted(set(maps[inside]), reverse=True):
        found = maps >= threshold
        fpr = found[inside & ~masks].mean()
        curve.append((float(fpr), float(np.mean([found[region].mean() for region in regions]))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 >= max_fpr:
            break
        if x1 > max_fpr:
            y1 = y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
            x1 = max_fpr
        area += (x1 - x0) * (y0 + y1) / 2
    return area / max_fpr


def slow_mask_at(mask, size):
    """Each mask pixel cut into size x size pieces, each map pixel made of height x width pieces."""
    fine = np.kron(mask, np.ones((size, size), dtype=int))
    pieces = fine.reshape(size, mask.shape[0], size, mask.shape[1])
    return pieces.mean(axis=(1, 3))


@given(scored_images())
def test_image_auroc_is_the_share_of_pairs_in_order(images):
    scores, defective = images
    if defective.all() or not defective.any():
        assert np.isnan(image_auroc(scores, defective))
    else:
        assert image_auroc(scores, defective) == pytest.approx(slow_auroc(scores, defective), abs=1e-12)
        assert image_auroc(scores, defective) == pytest.approx(roc_auc_score(defective, scores), abs=1e-12)


@given(scored_images())
def test_image_ap_is_that_of_scikit_learn(images):
    scores, defective = images
    if defective.all() or not defective.any():
        assert np.isnan(image_ap(scores, defective))
    else:
        assert image_ap(scores, defective) == pytest.approx(average_precision_score(defective, scores), abs=1e-12)


@given(scored_images())
def test_any_increasing_change_of_the_scores_changes_nothing(images):
    scores, defective = images
    for metric in (image_auroc, image_ap):
        for changed in (scores * 1024 - 7 * 1024, np.searchsorted(np.unique(scores), scores).astype(float) ** 3):
            if len(np.unique(changed)) == len(np.unique(scores)):
                assert metric(changed, defective) == pytest.approx(metric(scores, defective), abs=0, nan_ok=True)


@given(scored_images())
def test_auroc_is_never_folded(images):
    scores, defective = images
    assert image_auroc(-scores, defective) == pytest.approx(1 - image_auroc(scores, defective), abs=1e-12, nan_ok=True)


def test_separable_distances_far_above_one_give_exactly_one():
    scores = np.array([20.0, 35.0, 60.0, 99.0])
    defective = np.array([False, False, True, True])
    assert image_auroc(scores, defective) == 1.0
    assert image_ap(scores, defective) == 1.0


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="NaN in 1 of 2"):
        image_auroc(np.array([1.0, np.nan]), np.array([True, False]))


@given(mapped_images())
def test_pixel_auroc_and_ap_pool_all_pixels(images):
    maps, masks = images
    assert pixel_auroc(maps, masks) == pytest.approx(image_auroc(maps.ravel(), masks.ravel()), nan_ok=True)
    assert pixel_ap(maps, masks) == pytest.approx(image_ap(maps.ravel(), masks.ravel()), nan_ok=True)


@settings(max_examples=200)
@given(mapped_images(), st.sampled_from([0.05, 0.3, 1.0]), st.booleans())
def test_pro_is_the_area_under_the_curve_over_all_thresholds(images, max_fpr, with_region_of_interest):
    maps, masks = images
    if with_region_of_interest:
        maps = maps.copy()
        maps[:, :, :2] = -np.inf
    assert pixel_pro(maps, masks, max_fpr) == pytest.approx(slow_pro(maps, masks, max_fpr), abs=1e-9, nan_ok=True)


@given(mapped_images())
def test_pro_does_not_care_for_the_scale_of_the_maps(images):
    maps, masks = images
    ranks = np.searchsorted(np.unique(maps), maps).astype(np.float32)
    assert pixel_pro(ranks, masks) == pytest.approx(pixel_pro(maps, masks), abs=0, nan_ok=True)


def test_pro_weighs_a_small_defect_like_a_large_one():
    masks = np.zeros((1, 20, 20), dtype=bool)
    masks[0, :10, :10] = True  # found
    masks[0, 15, 15] = True  # missed: lower than anything
    maps = np.where(masks, 1.0, 0.0)
    maps[0, 15, 15] = -1.0
    assert pixel_pro(maps, masks) == pytest.approx(0.5 / 1.0 * 1.0, abs=1e-12)
    assert pixel_auroc(maps, masks) > 0.98


def test_diagonal_neighbours_are_one_region():
    masks = np.zeros((1, 6, 6), dtype=bool)
    masks[0, [0, 1, 5], [0, 1, 5]] = True
    maps = np.zeros((1, 6, 6))
    maps[0, 5, 5] = 1.0  # one of two regions found
    maps[0, [0, 1], [0, 1]] = -1.0
    assert pixel_pro(maps, masks) == pytest.approx(0.5)


def test_perfect_maps_have_a_pro_of_one_and_useless_ones_that_of_chance():
    masks = np.zeros((2, 8, 8), dtype=bool)
    masks[0, 2:5, 2:5] = True
    assert pixel_pro(masks.astype(float), masks) == 1.0
    assert pixel_pro(np.zeros((2, 8, 8)), masks) == pytest.approx(0.15)  # the diagonal's mean height up to 0.3


def test_pixels_outside_of_the_region_of_interest_do_not_count():
    masks = np.zeros((1, 4, 4), dtype=bool)
    masks[0, 0, 0] = masks[0, 3, 3] = True
    maps = np.zeros((1, 4, 4))
    maps[0, 3, 3] = 5.0
    assert pixel_auroc(maps, masks) < 1
    maps[0, 0, :] = -np.inf  # now one defect is wholly outside: it cannot be found
    assert pixel_auroc(maps, masks) == pixel_ap(maps, masks) == pixel_pro(maps, masks) == 1.0
    maps[0, 3, :] = -np.inf  # now both are
    assert np.isnan([pixel_auroc(maps, masks), pixel_ap(maps, masks), pixel_pro(maps, masks)]).all()


def test_numbers_of_one_class_only_are_nan_and_not_zero():
    maps, nothing = np.ones((1, 3, 3)), np.zeros((1, 3, 3), dtype=bool)
    for metric in (pixel_auroc, pixel_ap, pixel_pro):
        assert np.isnan(metric(maps, nothing))
        assert np.isnan(metric(maps, ~nothing))
        assert np.isnan(metric(maps[:0], nothing[:0]))


def test_pro_of_sixty_maps_is_quick():
    random = np.random.default_rng(0)
    maps = random.normal(size=(60, 224, 224)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for mask in masks[:40]:
        y, x = random.integers(0, 180, 2)
        mask[y : y + 30, x : x + 20] = True
    start = time.process_time()
    pixel_pro(maps, masks)
    assert time.process_time() - start < 1.5


@settings(max_examples=200)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(1, 9))
def test_a_map_pixel_is_defect_from_one_half_of_its_area_on_and_no_defect_vanishes(mask, size):
    share = slow_mask_at(mask, size)
    result = mask_to_map_size(mask, size)
    assert result[share >= 0.5 + 1e-9].all()
    assert not result[share == 0].any()
    labels, count = components(mask)
    for label in range(1, count + 1):
        touched = slow_mask_at(labels == label, size) > 0
        assert (result & touched).any()
    if not result[share < 0.5 - 1e-9].any():
        assert (result == (share >= 0.5 - 1e-9)).all()


def test_a_scratch_of_ten_pixels_keeps_its_length():
    mask = np.zeros((1024, 1024), dtype=bool)
    mask[500:510, 100:900] = True
    result = mask_to_map_size(mask, 224)
    assert result.sum(axis=1).max() == pytest.approx(800 * 224 / 1024, abs=2)
    assert result.any(axis=1).sum() == 3  # it covers 62 % of one row, all of the next and 56 % of a third


def test_a_hair_marks_every_map_pixel_that_it_touches():
    mask = np.zeros((1000, 1000), dtype=bool)
    mask[503, 200:400] = True
    result = mask_to_map_size(mask, 100)
    assert result.sum() == 20
    assert result[50, 20:40].all()


def test_a_mask_of_the_map_s_size_stays_as_it_is():
    mask = np.random.default_rng(0).random((14, 14)) > 0.5
    assert (mask_to_map_size(mask, 14) == mask).all()
    assert (mask_to_map_size(mask, 28) == np.kron(mask, np.ones((2, 2), dtype=bool))).all()


def test_intervals_of_rates_are_exact():
    assert rate_interval(0, 0) == (0.0, 1.0)
    assert rate_interval(0, 30) == pytest.approx((0.0, 0.1157), abs=1e-4)
    assert rate_interval(3, 60) == pytest.approx((0.0104, 0.1392), abs=1e-4)
    assert rate_interval(30, 30) == pytest.approx((0.8843, 1.0), abs=1e-4)
    with pytest.raises(ValueError, match="between 0 and trials"):
        rate_interval(4, 3)


def test_a_difference_is_sure_only_when_there_is_one():
    random = np.random.default_rng(0)
    defective = np.arange(120) % 2 == 0
    poor = defective + random.normal(0, 2.0, 120)
    good = defective + random.normal(0, 0.3, 120)
    gain = paired_bootstrap(poor, good, defective, seed=0, repeats=300)
    assert gain.low > 0
    assert gain.low <= gain.value <= gain.high
    assert paired_bootstrap(poor, poor, defective, seed=0, repeats=50) == (0.0, 0.0, 0.0)
    assert np.isnan(paired_bootstrap(poor, good, np.zeros(120, dtype=bool), seed=0)).all()
