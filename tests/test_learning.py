from dataclasses import replace

import numpy as np
import pytest

from stream_ad.backbones.views import Views
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import ConfigError, TooFewImages
from stream_ad.inspection import BankModel
from stream_ad.services.learning import learn
from tests.models import cached, detectors, learned
from tests.pictures import NUT, Pictures, disc, quiet

GOOD = [disc(seed) for seed in range(12)]


def test_a_small_set_is_calibrated_out_of_fold_on_every_image():
    entry = learned(NUT, Pictures(GOOD), "patchcore")
    assert entry.calibration.out_of_fold
    assert len(entry.calibration.scores) == len(entry.calibration.map_peaks) == 12
    assert entry.splits["fit"] == entry.splits["calibration"]


def test_a_large_set_keeps_calibration_images_that_are_never_learned():
    entry = learned(NUT, Pictures(GOOD), "patchcore", split_from=10)
    assert not entry.calibration.out_of_fold
    assert len(entry.calibration.scores) == 6
    assert entry.splits["fit"] != entry.splits["calibration"]


@pytest.mark.parametrize("detector", ["cmpmb", "patchcore"])
def test_the_entry_does_not_depend_on_when_or_how_often_it_is_learned(detector):
    one, two = (learned(NUT, Pictures(GOOD), detector) for _ in range(2))
    for name in one.arrays:
        np.testing.assert_array_equal(one.arrays[name], two.arrays[name])
    np.testing.assert_array_equal(one.calibration.scores, two.calibration.scores)


def test_another_seed_is_another_run_and_none_given_is_seed_zero():
    plain, zero, one, again = (
        learned(NUT, Pictures(GOOD), "patchcore", **seeded) for seeded in ({}, {"seed": 0}, {"seed": 1}, {"seed": 1})
    )
    np.testing.assert_array_equal(plain.arrays["coreset"], zero.arrays["coreset"])
    np.testing.assert_array_equal(one.arrays["coreset"], again.arrays["coreset"])
    assert not np.array_equal(zero.arrays["coreset"], one.arrays["coreset"])
    assert not np.array_equal(zero.calibration.scores, one.calibration.scores)


def test_unseen_scores_lie_above_those_of_remembered_images():
    """Why calibration images are never learned: a memory covers its own images."""
    whole = make_detector("patchcore", cached(), {"coreset_rows": 10_000})  # every patch is kept
    entry = learn(NUT, Pictures(GOOD), whole, cached(), folds=2, progress=quiet)
    ready = BankModel(cached(), {"patchcore": whole}, MemoryBank(0).with_entry(entry, 1))
    seen = [found.score for found in ready.find(ready.views(GOOD), [entry] * 12)]
    assert max(seen) < entry.calibration.scores.min()


def test_folds_are_measured_in_the_unit_of_the_memory_that_is_kept():
    pictures, detector = Pictures(GOOD), detectors()["patchcore"]
    entry = learned(NUT, pictures, "patchcore")
    order = sorted(range(12), key=lambda index: pictures.ids[index])
    scores = []
    for held in (order[0::2], order[1::2]):
        rest = Pictures([GOOD[index] for index in sorted(set(order) - set(held))])
        arrays = {**detector.adapt(NUT, rest, roi=None, seed=NUT.seed, progress=quiet), "units": entry.arrays["units"]}
        one = replace(entry, arrays=arrays)
        views = Views(cached(), [GOOD[index] for index in held])
        scores += detector.predict(views, [one] * len(held)).scores["visual"].tolist()
    assert entry.calibration.score_scales["visual"].center == pytest.approx(np.quantile(scores, 0.99), rel=1e-6)


def test_a_region_of_interest_is_kept_with_the_entry():
    roi = np.zeros((50, 50), bool)
    roi[10:40, 10:40] = True
    entry = learned(NUT, Pictures(GOOD), "patchcore", roi=roi)
    np.testing.assert_array_equal(entry.arrays["roi"], roi)


def test_too_few_images_and_odd_names_are_said():
    with pytest.raises(TooFewImages, match="needs at least 4 normal images, got 3"):
        learned(NUT, Pictures(GOOD[:3]), "patchcore")
    with pytest.raises(ConfigError, match="a task name needs"):
        Task(id=TaskId("two words"), class_name="x")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Task(id=TaskId("nut"), class_name="x", false_alarm_rate=5.0)


@pytest.mark.parametrize(("side", "rows"), [(96, slice(40, 41)), (96, slice(41, 44)), (700, slice(301, 303))])
def test_a_thin_region_of_interest_is_learned(side, rows):
    roi = np.zeros((side, side), bool)
    roi[rows] = True
    entry = learned(NUT, Pictures(GOOD[:6]), "patchcore", roi=roi)
    assert np.isfinite(entry.calibration.scores).all()
    assert np.isfinite(entry.calibration.map_peaks).all()
