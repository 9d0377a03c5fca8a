"""Promises that every detector keeps. One function, one promise."""

import numpy as np
import pytest
import torch

from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector, uncalibrated
from stream_ad.detectors.registry import detector_of
from stream_ad.domain.bank import BankEntry
from stream_ad.errors import TooFewImages
from tests.models import cached, tiny, uncached_detectors
from tests.pictures import NUT, TILE, Pictures, checks, disc, quiet

GOOD = Pictures([disc(seed) for seed in range(8)])
NEW = [disc(100), disc(101), disc(102, scratched=True)]


def adapted(detector: Detector, task=NUT, normals=GOOD, roi=None) -> BankEntry:
    arrays = dict(detector.adapt(task, normals, roi=roi, seed=3, progress=quiet))
    if roi is not None:
        arrays["roi"] = roi
    return uncalibrated(detector, task, arrays, cached().spec)


def uncached(detector: Detector) -> Detector:
    """The same on a backbone that remembers nothing: each pass is computed, so that two can differ."""
    return detector_of(detector.name, uncached_detectors())


def check_adapt_is_reproducible_bit_for_bit(detector):
    detector = uncached(detector)
    one, two = adapted(detector).arrays, adapted(detector).arrays
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def check_result_does_not_depend_on_the_batch(detector):
    detector = uncached(detector)
    nut, tile = adapted(detector), adapted(detector, TILE, Pictures([checks(seed) for seed in range(8)]))
    pictures, entries = [*NEW, checks(100)], [nut, nut, nut, tile]
    together = detector.predict(Views(tiny(), pictures), entries)
    for row, (picture, entry) in enumerate(zip(pictures, entries, strict=True)):
        alone = detector.predict(Views(tiny(), [picture]), [entry])
        for branch in together.scores:
            assert torch.equal(alone.scores[branch][0], together.scores[branch][row])
            assert torch.equal(alone.maps[branch][0], together.maps[branch][row])


def check_learning_another_task_changes_nothing(detector):
    entry = adapted(detector)
    before = detector.predict(Views(cached(), NEW), [entry] * 3)
    adapted(detector, TILE, Pictures([checks(seed) for seed in range(8)]))
    after = detector.predict(Views(cached(), NEW), [entry] * 3)
    assert all(torch.equal(before.scores[branch], after.scores[branch]) for branch in before.scores)


def check_maps_have_the_input_size_and_scores_are_finite(detector):
    raw = detector.predict(Views(cached(), NEW), [adapted(detector)] * 3)
    assert set(raw.scores) == set(raw.maps) == set(detector.branches)
    assert sum(detector.branches.values()) == pytest.approx(1)
    for branch in raw.maps:
        assert raw.maps[branch].shape == (3, 96, 96)
        assert torch.isfinite(raw.scores[branch]).all()


def check_nothing_outside_the_region_of_interest_counts(detector):
    roi = np.zeros((96, 96), bool)
    roi[64:, :] = True  # below the scratch
    entry, without_roi = adapted(detector, roi=roi), adapted(detector)
    clean, blotched = disc(50), disc(50)
    blotched[:20, :20] = 255
    raw = detector.predict(Views(cached(), [clean, blotched]), [entry] * 2)
    for branch in raw.maps:
        assert torch.isinf(raw.maps[branch][:, :64]).all()
        assert torch.isfinite(raw.maps[branch][:, 64:]).all()
    if detector.name.startswith("patchcore"):
        # attention carries a little of the blotch into the region, so the scores are not equal to the clean picture's
        everywhere = detector.predict(Views(cached(), [clean, blotched]), [without_roi] * 2).scores["visual"]
        inside = raw.scores["visual"]
        assert inside[1] < everywhere[1]
        assert inside[1] - inside[0] < 0.5 * (everywhere[1] - everywhere[0])


def check_a_scratch_scores_above_its_clean_image(detector):
    if detector.min_images == 0:
        return  # zero-shot: an untrained text tower knows no word
    entry = adapted(detector)
    raw = detector.predict(Views(cached(), [disc(60), disc(60, scratched=True)]), [entry] * 2)
    branch = next(iter(detector.branches))
    assert raw.scores[branch][1] > raw.scores[branch][0]


def check_too_few_images_is_said(detector):
    if detector.min_images == 0:
        detector.adapt(NUT, Pictures([]), roi=None, seed=0, progress=quiet)  # none are needed
        return
    with pytest.raises(TooFewImages, match=f"needs at least {detector.min_images}"):
        detector.adapt(NUT, Pictures([disc(0)] * (detector.min_images - 1)), roi=None, seed=0, progress=quiet)


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
