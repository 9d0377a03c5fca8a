"""A few defective parts among the "good" training pictures."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.domain.images import Subset
from stream_ad.functional.outliers import outlying, robust_z
from stream_ad.services.adaptation import suspects_remark
from tests import storage_kit
from tests.models import learned
from tests.pictures import NUT, Pictures, disc

GOOD = [disc(seed) for seed in range(18)]


def mixed(count=18):
    """Two defective discs, each in its own way: two equal ones would know each other."""
    pictures = [disc(seed, scratched=seed == 3) for seed in range(count)]
    pictures[11][30:42, 50:62] = (20, 60, 230)
    return Pictures(pictures)


def normal_scores(n, seed=0):
    return np.random.default_rng(seed).normal(10, 1, n)


@given(st.floats(0.01, 100), st.floats(-50, 50))
def test_units_do_not_matter(gain, offset):
    values = normal_scores(40)
    np.testing.assert_allclose(robust_z(gain * values + offset), robust_z(values), rtol=1e-6, atol=1e-6)


def test_a_tenth_of_bad_pictures_does_not_hide_itself():
    scores = normal_scores(100)
    scores[:10] = 30
    assert set(outlying(scores, np.full(100, 5.0), 0.1)) == set(range(10))


def test_never_more_than_the_share_and_the_clearest_first():
    scores = normal_scores(100)
    scores[:15] = 30 + np.arange(15)
    assert outlying(scores, np.full(100, 5.0), 0.04).tolist() == [14, 13, 12, 11]
    assert len(outlying(scores, np.full(100, 5.0), 0.0)) == 0


def test_a_picture_that_is_another_shade_all_over_is_a_rare_good_one():
    scores, backgrounds = normal_scores(50), normal_scores(50, seed=1) / 10
    scores[7] += 30
    backgrounds[7] += 30
    assert len(outlying(scores, backgrounds, 0.1)) == 0
    backgrounds[7] -= 30
    assert outlying(scores, backgrounds, 0.1).tolist() == [7]


def test_one_clear_picture_lowers_the_bar_for_others():
    scores = np.tile(np.linspace(9, 11, 25), 4)
    backgrounds = np.full(100, 5.0)
    deviation = 1.0 / robust_z(scores)[24]  # of the highest good one
    scores[50] = 10 + 4.5 * deviation
    assert len(outlying(scores, backgrounds, 0.1)) == 0
    scores[60] = 10 + 6 * deviation
    assert outlying(scores, backgrounds, 0.1).tolist() == [60, 50]


def test_few_or_equal_pictures_are_never_suspected():
    assert len(outlying(np.array([1.0] * 14 + [99.0]), np.zeros(15), 0.5)) == 0
    assert len(outlying(np.full(40, 3.0), np.zeros(40), 0.5)) == 0


def test_normal_scores_are_left_alone():
    counts = [len(outlying(normal_scores(100, seed), normal_scores(100, seed + 999) / 5, 0.1)) for seed in range(300)]
    assert np.sum(counts) <= 1


def test_defective_pictures_among_the_good_are_left_out_and_named():
    pictures = mixed()
    entry = learned(NUT, pictures, "patchcore", max_suspects=0.12)
    assert set(entry.suspects) == {pictures.ids[3], pictures.ids[11]}
    clean = learned(NUT, Pictures([p for i, p in enumerate(pictures.pictures) if i not in (3, 11)]), "patchcore")
    assert entry.splits["fit"] == clean.splits["fit"]
    np.testing.assert_array_equal(entry.arrays["coreset"], clean.arrays["coreset"])
    assert len(entry.calibration.scores) == len(entry.calibration.embedding_distances) == 16


def test_of_a_large_set_each_part_is_judged_by_the_other():
    pictures = mixed(36)
    entry = learned(NUT, pictures, "patchcore", max_suspects=0.12, split_from=30)
    assert set(entry.suspects) == {pictures.ids[3], pictures.ids[11]}
    assert not entry.calibration.out_of_fold


def test_a_clean_set_is_learned_as_if_nobody_looked():
    pictures = Pictures(GOOD)
    entry, without = (learned(NUT, pictures, "patchcore", max_suspects=share) for share in (0.1, 0.0))
    assert entry.suspects == ()
    assert entry.splits == without.splits
    np.testing.assert_array_equal(entry.calibration.scores, without.calibration.scores)
    for name, array in entry.arrays.items():
        np.testing.assert_array_equal(array, without.arrays[name])


class Folder(Pictures):
    """Pictures that know their files."""

    @property
    def named_ids(self):
        return {f"/somewhere/good/{place:03d}.png": id for place, id in enumerate(self.ids)}


def test_a_person_is_told_the_files():
    pictures = Folder([disc(seed) for seed in range(30)])
    entry = storage_kit.entry("nut")
    assert suspects_remark(entry, pictures) == ""
    entry = replace(entry, splits={**entry.splits, "suspects": f"{pictures.ids[7]} {pictures.ids[2]}"})
    inner = Subset(pictures, range(10))
    assert (
        suspects_remark(entry, inner) == "2 training pictures looked defective and were not learned: 007.png, 002.png"
    )
    nameless = suspects_remark(entry, Pictures(pictures.pictures))
    assert nameless.endswith(f"{pictures.ids[7][:12]}, {pictures.ids[2][:12]}")
    many = replace(entry, splits={"suspects": " ".join(pictures.ids[:13])})
    assert suspects_remark(many, pictures).endswith("009.png and 3 more")
