"""A patch takes the places of marked good parts into a memory: their alarms end, and no score ever rises."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from stream_ad.backbones.views import Views
from stream_ad.change_parts import shrunk as shrunk_entry
from stream_ad.detectors.base import Detector, Patchable
from stream_ad.detectors.calibrated import apply
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.bank import PATCHED_ROWS, BankEntry
from stream_ad.domain.images import Picture
from stream_ad.errors import DataError
from stream_ad.evaluation.continual.budget import rows_of, shrunk
from stream_ad.services.learning import learn
from tests.models import cached
from tests.pictures import NUT, Pictures, checks, disc, quiet

OPTIONS = {
    "cmpmb": {"prompt_steps": 1, "text_weight": 0.0, "coreset_rows": 128},
    "patchcore": {"coreset_rows": 128},
}


DISCS = Pictures([disc(seed) for seed in range(12)])


def stamped(seed: int) -> Picture:
    """A good disc with a harmless mark that no disc had so far."""
    picture = disc(seed).copy()
    picture[60:72, 24:40] = (40, 60, 200)
    return picture


def mosaic() -> Picture:
    """No two places look alike."""
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 256, (16, 16, 3), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    stripes = (np.indices((96, 96)) * rng.integers(1, 4, (2, 1, 1))).sum(axis=0) // rng.integers(2, 7) % 2
    return np.where(stripes[..., None] == 1, colours, colours[::-1, ::-1])


@lru_cache(maxsize=2)
def detector(name: str) -> Detector:
    return make_detector(name, cached(), OPTIONS[name])


@lru_cache(maxsize=2)
def nut(name: str) -> BankEntry:
    return learn(NUT, DISCS, detector(name), cached(), folds=2, progress=quiet)


def patched(entry: BankEntry, *pictures: Picture) -> BankEntry:
    own = detector(entry.detector.partition("/")[0])
    assert isinstance(own, Patchable)
    return replace(entry, arrays=own.patched(entry, pictures))


def scores(entry: BankEntry, *pictures: Picture) -> np.ndarray:
    own = detector(entry.detector.partition("/")[0])
    raw = own.predict(Views(cached(), pictures), [entry] * len(pictures))
    return apply(raw, [entry] * len(pictures)).scores


@pytest.mark.parametrize("name", OPTIONS)
def test_a_marked_picture_is_ok_afterwards_and_so_are_others_with_the_same_mark(name):
    entry = nut(name)
    assert (scores(entry, stamped(50), stamped(51)) > entry.threshold).all()
    after = patched(entry, stamped(50))
    assert (scores(after, stamped(50), stamped(51)) < entry.threshold).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_defect_elsewhere_stays_ng(name):
    after = patched(nut(name), stamped(50))
    assert (scores(after, disc(60, scratched=True)) > after.threshold).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_no_score_rises_so_the_calibration_stays_an_upper_bound(name):
    entry = nut(name)
    after = patched(entry, stamped(50))
    pictures = [disc(70), disc(71), stamped(72), disc(73, scratched=True), checks(74)]
    assert (scores(after, *pictures) <= scores(entry, *pictures) + 1e-6).all()
    assert after.calibration is entry.calibration


@pytest.mark.parametrize("name", OPTIONS)
def test_only_places_farther_than_good_parts_are_added(name):
    entry = nut(name)
    after = patched(entry, stamped(50))
    added = rows_of(after) - rows_of(entry)
    assert 0 < added == int(after.arrays[PATCHED_ROWS]) <= rows_of(entry) // 4
    np.testing.assert_array_equal(after.arrays["coreset"][: rows_of(entry)], entry.arrays["coreset"])
    assert rows_of(patched(after, stamped(50))) == rows_of(after)


@pytest.mark.parametrize("name", OPTIONS)
def test_another_look_of_the_product_is_no_false_alarm(name):
    with pytest.raises(DataError, match="another look of the product; teach it with `stream-ad tasks add-images nut"):
        patched(nut(name), mosaic())


def test_several_blocks_and_tiles_are_patched_at_every_level():
    options = {"coreset_rows": 160, "blocks": (1, 3), "scales": (1, 2), "whitening": 8}
    own = make_detector("patchcore", cached(), options)
    entry = learn(NUT, DISCS, own, cached(), folds=2, progress=quiet)
    assert isinstance(own, Patchable)
    after = replace(entry, arrays=own.patched(entry, [stamped(50)]))

    def score(entry: BankEntry) -> float:
        return float(apply(own.predict(Views(cached(), [stamped(50)]), [entry]), [entry]).scores[0])

    assert score(entry) > entry.threshold > score(after)


def test_what_lies_outside_the_region_of_interest_is_not_added():
    roi = np.ones((96, 96), bool)
    roi[54:, :] = False  # the stamp is below
    entry = learn(NUT, DISCS, detector("patchcore"), cached(), folds=2, roi=roi, progress=quiet)
    assert rows_of(patched(entry, stamped(50))) == rows_of(entry)


def test_a_squeezed_entry_keeps_its_patch():
    entry = nut("patchcore")
    after = patched(entry, stamped(50))
    count = int(after.arrays[PATCHED_ROWS])
    small = shrunk(after, rows_of(entry) // 2)
    assert rows_of(small) == rows_of(entry) // 2
    np.testing.assert_array_equal(small.arrays["coreset"][-count:], after.arrays["coreset"][-count:])
    np.testing.assert_array_equal(small.arrays["coreset"][:-count], entry.arrays["coreset"][: rows_of(small) - count])


def test_a_squeezed_entry_says_of_unseen_parts_nearly_what_it_said_before():
    entry = nut("patchcore")
    small = shrunk_entry({"patchcore": detector("patchcore")}, cached(), entry, 32, DISCS)
    assert (rows_of(small), small.sha256) == (32, "")
    good = [disc(seed) for seed in range(70, 86)]
    before, after = scores(entry, *good), scores(small, *good)
    assert abs(np.median(after) - np.median(before)) < 1.0  # of scales that a threshold is 1.5 of
    assert (after > small.threshold).sum() <= (before > entry.threshold).sum() + 2
    assert (scores(small, disc(90, scratched=True)) > small.threshold).all()
