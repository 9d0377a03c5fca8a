"""How entries shrink, merge and are changed by ablations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stream_ad.backbones.views import Views
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import Joined
from stream_ad.errors import ConfigError
from stream_ad.evaluation.continual.budget import rows_of, shrunk, with_arrays
from stream_ad.evaluation.continual.ladder import Ladder, climbed_down, measure_scales, rungs
from stream_ad.evaluation.continual.measure import to_size
from stream_ad.evaluation.continual.shared import merge
from stream_ad.evaluation.continual.test_set import Limited, Prompted
from stream_ad.evaluation.continual.variants import (
    ABLATIONS,
    BUDGET,
    DEFAULT,
    chosen,
    steepness,
    visual_weight,
    without_normalisation,
)
from stream_ad.functional.sampling import farthest_point_sampling
from stream_ad.inspection import BankModel
from tests.continual_kit import ROWS, SMALL, product
from tests.models import cached, learned, model, tiny
from tests.pictures import NUT, TILE, Pictures, checks, disc


@pytest.fixture(scope="module")
def entry() -> BankEntry:
    return replace(learned(NUT, Pictures([disc(seed) for seed in range(6)]), "patchcore"), sha256="nut")


@pytest.fixture(scope="module")
def other() -> BankEntry:
    return replace(learned(TILE, Pictures([checks(seed) for seed in range(6)]), "patchcore"), sha256="tile")


@pytest.fixture(scope="module")
def both_branches() -> BankEntry:
    return replace(learned(NUT, Pictures([disc(seed) for seed in range(6)]), "cmpmb"), sha256="both")


def test_an_entry_shrinks_to_its_first_rows(entry: BankEntry):
    few = shrunk(entry, 10)
    np.testing.assert_array_equal(few.arrays["coreset"], np.asarray(entry.arrays["coreset"])[:10])
    assert (rows_of(few), rows_of(entry)) == (10, 64)
    assert few.sha256 != entry.sha256
    assert shrunk(shrunk(entry, 20), 10).arrays["coreset"].tobytes() == few.arrays["coreset"].tobytes()
    assert shrunk(entry, 64) is entry
    with pytest.raises(ValueError, match="at least one row, got 0"):
        shrunk(entry, 0)


def test_the_first_rows_are_what_fewer_rows_would_have_been():
    points = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    many, few = (
        farthest_point_sampling(points, count, generator=torch.Generator().manual_seed(2)) for count in (30, 9)
    )
    assert torch.equal(many[:9], few)


def test_a_name_tells_entries_apart_by_what_they_are_made_of(entry: BankEntry):
    rows = np.asarray(entry.arrays["coreset"])
    one, same = (with_arrays(entry, {"coreset": rows[:5]}) for _ in range(2))
    assert one.sha256 == same.sha256 != with_arrays(entry, {"coreset": rows[1:6]}).sha256


def test_rungs_fall_to_the_smallest():
    assert rungs(196)[0] == 196
    assert rungs(196)[-1] == rungs(9)[-1] == 8
    assert all(high > low for high, low in zip(rungs(196), rungs(196)[1:], strict=False))
    assert rungs(5) == [5]


def test_a_ladder_keeps_good_pictures_where_they_were(both_branches: BankEntry):
    """Half of the rows push every raw score up; on its own scale the entry says about the same."""
    detector = make_detector("cmpmb", cached(), {"coreset_rows": 64})
    sizes = rungs(64)
    views = [Views(cached(), [disc(seed) for seed in range(6)])]
    ladder = Ladder(sizes, measure_scales([shrunk(both_branches, size) for size in sizes], detector, views))
    new = Views(cached(), [disc(seed) for seed in range(50, 56)])

    def says(entry: BankEntry) -> np.ndarray:
        found = BankModel(cached(), {"cmpmb": detector}, model().bank).find(new, [entry] * 6)
        return np.array([one.score for one in found])

    whole, blind, laddered = (
        says(each) for each in (both_branches, shrunk(both_branches, 12), climbed_down(both_branches, 12, ladder))
    )
    assert abs(laddered.mean() - whole.mean()) < 0.5 * abs(blind.mean() - whole.mean())


def test_one_memory_of_two_tasks_knows_both(entry: BankEntry, other: BankEntry):
    first = merge(None, entry, 128, seed=0)
    second = merge(first.raw, other, 128, seed=0)
    assert rows_of(second.entry) == 128
    detector = make_detector("patchcore", cached(), {"coreset_rows": 64})
    views = Views(cached(), [disc(60), checks(60)])
    alone = detector.predict(views, [other, other]).scores["visual"]
    together = detector.predict(views, [second.entry, second.entry]).scores["visual"]
    assert together[0] < 0.6 * alone[0]
    assert together[1] < 1.5 * alone[1]


def test_one_memory_keeps_its_bound(entry: BankEntry, other: BankEntry):
    merged = merge(None, entry, 40, seed=0)
    assert rows_of(merged.entry) == len(merged.raw) == 40
    merged = merge(merged.raw, other, 40, seed=0)
    assert rows_of(merged.entry) == len(merged.raw) == 40


def test_rows_come_back_as_they_were_before_whitening(entry: BankEntry):
    whitened = replace(
        entry,
        arrays={
            **entry.arrays,
            "directions": np.eye(2, entry.arrays["coreset"].shape[-1], dtype=np.float32)[None],
            "gains": np.array([[-0.5, -0.9]], np.float32),
        },
    )
    raw = merge(None, whitened, 64, seed=0).raw[:, 0].numpy()
    rows = np.asarray(entry.arrays["coreset"], np.float32)[:, 0]
    np.testing.assert_allclose(raw[:, 0], rows[:, 0] / 0.5, rtol=1e-5)
    np.testing.assert_allclose(raw[:, 1], rows[:, 1] / 0.1, rtol=1e-5)
    np.testing.assert_allclose(raw[:, 2:], rows[:, 2:], rtol=1e-5, atol=1e-6)


def test_ablations_of_the_fusion_change_scales_alone(both_branches: BankEntry):
    scale = both_branches.calibration.score_scales["visual"]
    lighter = visual_weight(0.3)(both_branches).calibration.score_scales
    assert (lighter["visual"].weight, lighter["text"].weight) == (0.3, 0.7)
    steeper = steepness(3.0)(both_branches).calibration
    half = both_branches.calibration.map_scales["visual"].scale / 2
    assert steeper.map_scales["visual"].scale == pytest.approx(half)
    assert steepness(1.5)(both_branches).calibration.score_scales["visual"] == scale


def test_without_normalisation_the_ranking_is_that_of_the_sum_of_raw_scores(both_branches: BankEntry):
    views = Views(cached(), [disc(seed, scratched=seed % 2 == 0) for seed in range(70, 78)])
    detector = make_detector("cmpmb", cached(), {"coreset_rows": 64})
    raw = detector.predict(views, [both_branches] * 8).scores
    found = BankModel(cached(), {"cmpmb": detector}, model().bank).find(
        views, [without_normalisation(both_branches)] * 8
    )
    total = 0.9 * raw["visual"].double() + 0.1 * raw["text"].double()
    scores = np.array([one.score for one in found])
    np.testing.assert_allclose(np.diff(scores) / np.diff(total.numpy()), np.full(7, 1.5e-5), rtol=1e-3)


def test_every_method_has_a_name_and_a_budget():
    found = chosen(None, "fast", depth=12)
    assert [variant.name for variant in found] == list(DEFAULT)
    assert found[0].name == "cmpmb"
    assert [variant.name for variant in found if variant.budgeted] == [name for name in DEFAULT if BUDGET in name]
    assert [variant.name for variant in chosen(["cmpmb"], "fast", depth=12, ablations=True)] == ["cmpmb", *ABLATIONS]
    for preset in ("fast", "accurate"):
        baseline = chosen(["patchcore"], preset, depth=12)[0]
        assert (baseline.rows, baseline.options["blocks"], baseline.image_size) == (196, (5,), 224)
        assert baseline.options["whitening"] == 0
    for variant in chosen(None, "paper", depth=12):
        make_detector(variant.detector, cached(), variant.options)
    assert any(variant.name.startswith("paper_") for variant in chosen(None, "paper", depth=12))


@pytest.mark.parametrize(
    ("names", "preset", "message"),
    [
        (["cmpmb", "patchcor"], "fast", "no method 'patchcor'; choose among cmpmb, "),
        (["cmpmb@rows"], "fast", "no method 'cmpmb@rows'"),
        (["zero-shot@budget"], "fast", "'zero-shot' keeps no rows"),
        (["cmpmb", "cmpmb"], "fast", "names 'cmpmb' twice"),
        (["cmpmb"], "slow", "no preset 'slow'"),
    ],
)
def test_a_name_that_is_none_is_said(names: list[str], preset: str, message: str):
    with pytest.raises(ConfigError, match=message):
        chosen(names, preset, depth=12)


def test_joined_sets_are_one_after_the_other():
    first, second = Pictures([disc(0), disc(1)]), Pictures([checks(0)])
    joined = Joined([first, second])
    assert len(joined) == 3
    assert joined.ids == [*first.ids, *second.ids]
    np.testing.assert_array_equal(joined[2], checks(0))
    with pytest.raises(IndexError):
        joined[3]


def test_kept_passes_with_prompts_are_the_same():
    one, two = tiny(), Prompted(tiny())
    pixels = one.preprocess([disc(0), disc(1), disc(2)])
    prompts = torch.randn(6, 2, 1, one.width, generator=torch.Generator().manual_seed(0)) * 0.02
    expected = one.encode(pixels, [3, 5], prompts=prompts).blocks
    for _ in range(2):
        again = two.encode(pixels, [3, 5], prompts=prompts).blocks
        assert all(torch.equal(expected[block], again[block]) for block in expected)
    forgetful = Prompted(tiny(), max_bytes=1)
    assert torch.equal(forgetful.encode(pixels, [5], prompts=prompts).blocks[5], expected[5])


def test_maps_come_to_one_size_by_area():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_allclose(to_size(values, 2), [[2.5, 4.5], [10.5, 12.5]])
    assert to_size(values, 4) is values
    assert to_size(values, 8).shape == (8, 8)


def test_a_quick_look_has_good_and_defective_pictures():
    few = Limited(product("disc", good=5, bad=5).test, 4)
    assert (len(few), sum(few.defective)) == (4, 2)
    assert [few[row].id for row in range(4)] == list(few.ids)


def test_small_settings_fit_the_detectors():
    for variant in chosen(["cmpmb", "patchcore_same"], "fast", depth=12):
        assert SMALL["coreset_rows"] == ROWS < variant.rows
