"""The bootstrap's weighted metrics are the metrics of the resampled pictures."""

import numpy as np
import pytest

from stream_ad.evaluation.continual.differences import draws, sampled_auroc, sampled_pixel_ap
from stream_ad.evaluation.metrics import image_auroc, pixel_ap


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores, maps with many ties, masks, and which pictures are defective."""
    generator = np.random.default_rng(3)
    defective = np.array([True] * 5 + [False] * 4)
    maps = generator.integers(0, 30, (9, 6, 6)).astype(np.float32)
    masks = np.zeros((9, 6, 6), bool)
    masks[:4, 1:4, 2:5] = True  # the fifth defect vanishes on so coarse a grid
    maps[masks] += 8
    return generator.integers(0, 12, 9).astype(float) + 3 * defective, maps, masks, defective


def test_each_sample_is_scored_as_if_its_pictures_were_copied(scene):
    scores, maps, masks, defective = scene
    counts = draws(defective, 20, place=1)
    auroc, ap = sampled_auroc(scores, defective, counts), sampled_pixel_ap(maps, masks, counts)
    assert auroc.value == pytest.approx(image_auroc(scores, defective))
    assert ap.value == pytest.approx(pixel_ap(maps, masks))
    for row, count in enumerate(counts):
        copied = np.repeat(np.arange(9), count)
        assert auroc.repeats[row] == pytest.approx(image_auroc(scores[copied], defective[copied]))
        assert ap.repeats[row] == pytest.approx(pixel_ap(maps[copied], masks[copied]), nan_ok=True)


def test_good_and_defective_pictures_are_drawn_apart_and_alike_for_all_methods(scene):
    defective = scene[3]
    counts = draws(defective, 50, place=2)
    assert (counts[:, defective].sum(axis=1) == 5).all()
    assert (counts[:, ~defective].sum(axis=1) == 4).all()
    np.testing.assert_array_equal(counts, draws(defective, 50, place=2))
    assert (counts != draws(defective, 50, place=3)).any()


def test_a_metric_that_is_not_defined_is_nan(scene):
    scores, maps, masks, defective = scene
    counts = draws(defective, 3, place=0)
    assert np.isnan(sampled_auroc(scores, np.zeros(9, bool), counts).value)
    nothing = sampled_pixel_ap(maps, np.zeros_like(masks), counts)
    assert np.isnan(nothing.value)
    assert np.isnan(nothing.repeats).all()
