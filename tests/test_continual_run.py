"""The laws of the continual benchmark, on painted products."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

from stream_ad.domain.evaluation import METRICS
from stream_ad.errors import DataError
from stream_ad.evaluation.continual.differences import differences
from stream_ad.evaluation.continual.results import data, figures, gallery
from stream_ad.evaluation.continual.results import test_reads as reads_of
from stream_ad.evaluation.forgetting import average, backward_transfer, forgetting_measure
from tests.continual_kit import ROWS, Counted, Interrupted, bench, product
from tests.pictures import Pictures

NAMES = ("patchcore_same", "cmpmb_no_prompts", "sequence", "patchcore_replay", "shared_coreset", "patchcore@budget")


@cache
def ran():
    """One run that many tests look at."""
    made = bench(Path(mkdtemp()), NAMES, draw=lambda picture, inspection, truth: b"jpeg", budget=24)
    made.run()
    return made, figures(made)


def test_r_is_null_above_the_diagonal_and_nowhere_else():
    _, report = ran()
    for found in report["detectors"].values():
        for mode in (found, found["oracle"]):
            for metric in METRICS:
                scores = mode["R"][metric]
                assert [len(row) for row in scores] == [3, 3, 3]
                assert [[value is None for value in row] for row in scores] == [
                    [column > row for column in range(3)] for row in range(3)
                ]


def test_summaries_are_those_of_the_matrix():
    _, report = ran()
    for found in report["detectors"].values():
        for metric in METRICS:
            scores = np.array(found["R"][metric], float)
            assert found["average"][metric] == pytest.approx(average(scores))
            assert found["fm"][metric] == pytest.approx(forgetting_measure(scores))
            assert found["bwt"][metric] == pytest.approx(backward_transfer(scores))
            told = np.array(found["oracle"]["R"][metric], float)
            assert found["regret"][metric] == pytest.approx(np.mean(told[-1] - scores[-1]))


@pytest.mark.parametrize("name", ["patchcore_same", "cmpmb_no_prompts"])
def test_an_untouched_entry_scores_the_same_after_every_step(name: str):
    _, report = ran()
    for metric in METRICS:
        for column in zip(*report["detectors"][name]["oracle"]["R"][metric], strict=True):
            assert len({value for value in column if value is not None}) == 1


def test_a_method_without_a_router_has_no_routing_figures_and_no_regret():
    _, report = ran()
    for name in ("sequence", "patchcore_replay", "shared_coreset"):
        found = report["detectors"][name]
        assert found["R"] == found["oracle"]["R"]
        assert found["routing_accuracy"] is found["unknown_rate_known"] is found["unknown_rate_unseen"] is None
        assert found["regret"]["image_auroc"] == 0
    for name in ("patchcore_same", "patchcore@budget"):
        assert report["detectors"][name]["routing_accuracy"] == 1


def test_only_a_sequence_without_memory_forgets_what_it_learned_first():
    _, report = ran()
    assert report["detectors"]["sequence"]["fm"]["pixel_ap"] > 0.2
    assert report["detectors"]["patchcore_same"]["fm"]["pixel_ap"] == 0


def test_no_step_holds_more_rows_than_its_budget():
    made, report = ran()
    held = made.sequences[0].held["patchcore@budget"]
    assert [step.rows for step in held] == [24, 24, 24]  # 24, 2 x 12, 3 x 8
    assert report["detectors"]["patchcore@budget"]["budget_rows"] == 24
    assert all(step.rows <= 3 * ROWS for step in made.sequences[0].held["shared_coreset"])
    assert [step.rows for step in made.sequences[0].held["sequence"]] == [ROWS] * 3


def test_the_file_has_no_nan_and_every_key():
    made, report = ran()
    text = json.dumps({**report, "differences": differences(made), "data": data(made)}, allow_nan=False)
    assert json.loads(text)["tasks"] == ["disc", "checks", "stripes"]
    keys = {"R", "average", "fm", "bwt", "regret", "routing_accuracy", "unknown_rate_known", "unknown_rate_unseen"}
    for found in report["detectors"].values():
        assert keys | {"oracle", "flips", "seconds"} <= found.keys()
        assert keys | {"flips"} <= found["oracle"].keys()


def test_the_first_look_at_a_test_picture_comes_after_everything_is_learned(tmp_path: Path):
    looked: list[str] = []

    def learn(*arguments, **options):
        assert not looked
        return Counted()(*arguments, **options)

    made = bench(tmp_path, ["patchcore_same", "sequence"], learn=learn)
    made.kit = replace(made.kit, progress=lambda stage, done, total: looked.append(stage) if " on " in stage else None)
    made.run()
    assert len(looked) == 6


def test_every_look_is_logged():
    made, _ = ran()
    reads = reads_of(made)
    sequence = [(read["task"], read["step"], read["images"]) for read in reads if read["method"] == "sequence"]
    assert sorted(sequence) == sorted(
        [("disc", step, 6) for step in range(3)] + [("checks", step, 6) for step in (1, 2)] + [("stripes", 2, 6)]
    )
    routed = [read for read in reads if read["method"] == "patchcore_same"]
    assert sum(read["step"] == "left out of the final bank" for read in routed) == 3
    assert {read["at"] for read in reads} == {"2026-01-02T03:04:00+00:00"}


def test_a_finished_run_is_not_done_again_and_gives_an_equal_file(tmp_path: Path):
    names = ["patchcore_same", "shared_coreset@budget"]
    first, again = Counted(), Counted()
    one, two = bench(tmp_path, names, learn=first), bench(tmp_path, names, learn=again)
    one.run()
    two.run()
    assert (first.count, again.count) == (6, 0)
    assert json.dumps(figures(one)) == json.dumps(figures(two))


@pytest.mark.parametrize("stop_at", [2, 7])  # while it learns, and while it measures
def test_a_run_that_was_cut_off_goes_on_and_comes_to_the_same(tmp_path: Path, stop_at: int):
    names = ["patchcore_same", "sequence"]
    whole = bench(tmp_path / "whole", names)
    whole.run()
    with pytest.raises(Interrupted):
        bench(tmp_path / "cut", names, stop_at=stop_at).run()
    counted = Counted()
    rest = bench(tmp_path / "cut", names, learn=counted)
    rest.run()
    assert counted.count == (2 if stop_at == 2 else 0)  # the two methods share their entries
    without_times = [figures(made) for made in (whole, rest)]
    for report in without_times:
        for found in report["detectors"].values():
            found["seconds"] = 0
            for order in found["orders"]:
                order["seconds"] = 0
    assert without_times[0] == without_times[1]


def test_a_further_order_has_its_own_seed_and_is_summed_up(tmp_path: Path):
    made = bench(tmp_path, ["patchcore_same"], orders=2, seed=5)
    made.run()
    report = figures(made)
    orders = report["detectors"]["patchcore_same"]["orders"]
    assert [order["seed"] for order in orders] == [5, 6]
    assert orders[0]["tasks"] == report["tasks"] == ["disc", "checks", "stripes"]
    assert sorted(orders[1]["tasks"]) == sorted(report["tasks"])
    held = [arrivals.held["patchcore_same"][-1].entries for arrivals in made.sequences]
    assert {e.sha256 for e in held[0].values()}.isdisjoint({e.sha256 for e in held[1].values()})


def test_a_picture_that_is_to_be_judged_is_never_learned(tmp_path: Path):
    mixed = product("disc")
    mixed = replace(mixed, train=Pictures([*mixed.train, mixed.test[0].pixels]))
    made = bench(tmp_path, ["patchcore_same"], products=[mixed, product("checks")])
    made.run()
    assert made.left_out == {"disc": 1}
    assert data(made)["disc"]["left_out_because_in_test"] == 1
    assert mixed.test.ids[0] not in made.normals[0].ids


def test_a_sequence_of_one_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="at least two products, got 1"):
        bench(tmp_path, ["patchcore"], products=[product("disc")]).run()


def test_differences_hold_nothing_against_itself():
    made, _ = ran()
    found = differences(made)
    assert found["of"] == "patchcore_same"
    sequence = found["minus"]["sequence"]["pixel_ap"]
    assert 0 < sequence["low"] <= sequence["value"] <= sequence["high"]


def test_the_gallery_has_pictures_of_every_product():
    made, _ = ran()
    shown = gallery(made)
    assert list(shown) == ["disc", "checks", "stripes"]
    assert all(len(pictures) == 6 and pictures[0][1] == b"jpeg" for pictures in shown.values())
