"""R, and the numbers taken from it."""

import numpy as np
import pytest
from evaluation_values import NAN, evaluation, outcome, outcomes, sequence, task_evaluation
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_ad.domain.evaluation import Mode
from stream_ad.domain.result import Verdict
from stream_ad.evaluation.forgetting import (
    average,
    backward_transfer,
    flips,
    forgetting_measure,
    regret,
    routing_confusion,
    score_matrix,
)

THREE = np.array([[0.90, 0.50, 0.50], [0.85, 0.80, 0.55], [0.95, 0.70, 0.90]])
square = st.integers(1, 6).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.floats(0, 1)))


def test_fm_of_the_written_example_is_0_025():
    # nut: best earlier 0.90, now 0.95; tile: best earlier 0.80 (0.50 came before it was learned), now 0.70
    assert forgetting_measure(THREE) == pytest.approx((-0.05 + 0.10) / 2)
    assert forgetting_measure(THREE) == pytest.approx(0.025)
    assert forgetting_measure(THREE, 1) == pytest.approx(0.05)


def test_acc_and_bwt_of_the_written_example():
    assert average(THREE) == pytest.approx((0.95 + 0.70 + 0.90) / 3)
    assert average(THREE, 0) == pytest.approx(0.90)
    assert backward_transfer(THREE) == pytest.approx((0.05 - 0.10) / 2)


def test_nothing_can_be_forgotten_after_the_first_task():
    assert np.isnan(forgetting_measure(THREE, 0))
    assert np.isnan(backward_transfer(THREE, 0))


@given(square)
def test_fm_follows_its_equation(r):
    k = len(r) - 1
    parts = [max(r[l, j] for l in range(j, k)) - r[k, j] for j in range(k)]  # noqa: E741
    if not parts:
        assert np.isnan(forgetting_measure(r))
    else:
        assert forgetting_measure(r) == pytest.approx(sum(parts) / k)


@given(square)
def test_what_is_lost_is_never_less_than_what_bwt_says(r):
    if len(r) > 1:
        assert forgetting_measure(r) >= -backward_transfer(r) - 1e-12


def test_a_version_that_adapts_an_old_task_again_can_lose_on_it():
    names = ["nut", "tile"]
    steps = [(1, "nut", [0.9]), (2, "tile", [0.9, 0.8]), (3, "nut", [0.7, 0.8])]
    evaluations = [
        evaluation(version, learned, [task_evaluation(n, v) for n, v in zip(names, row, strict=False)])
        for version, learned, row in steps
    ]
    matrix = score_matrix(evaluations, "image_auroc", Mode.ROUTED)
    assert matrix.tasks == ("nut", "tile")
    assert matrix.losses() == pytest.approx({"nut": 0.2, "tile": 0.0})
    assert forgetting_measure(matrix.scores, first=matrix.first) == pytest.approx(0.1)
    assert backward_transfer(matrix.scores, first=matrix.first) == pytest.approx(-0.1)


def test_columns_follow_the_order_of_learning_and_not_the_alphabet():
    matrix = score_matrix(sequence([[0.9], [0.9, 0.8], [0.9, 0.8, 0.7]], ["z", "m", "a"]), "image_auroc", Mode.ROUTED)
    assert matrix.tasks == ("z", "m", "a")
    assert np.isnan(matrix.scores[0, 1:]).all()
    assert [step.version for step in matrix.steps] == [1, 2, 3]


def test_a_task_that_was_not_measured_is_left_out_and_named():
    evaluations = sequence([[0.9], [0.8, NAN], [0.8, NAN, 0.7]], ["nut", "tile", "cable"])
    matrix = score_matrix(evaluations, "image_auroc", Mode.ROUTED)
    assert matrix.unmeasured() == ("tile",)
    assert matrix.unmeasured(0) == ()
    assert matrix.losses() == pytest.approx({"nut": 0.1})
    assert forgetting_measure(matrix.scores, first=matrix.first) == pytest.approx(0.1)
    assert average(matrix.scores, first=matrix.first) == pytest.approx(0.75)


def test_a_score_that_vanishes_is_not_measured_rather_than_kept():
    matrix = score_matrix(sequence([[0.9], [NAN, 0.8]], ["nut", "tile"]), "image_auroc", Mode.ROUTED)
    assert matrix.losses() == {}
    assert np.isnan(forgetting_measure(matrix.scores, first=matrix.first))


def test_the_mode_chooses_whose_scores_count_and_regret_is_their_difference():
    judged = [evaluation(1, "nut", [task_evaluation("nut", 0.90, oracle=0.95)])]
    routed, oracle = (score_matrix(judged, "image_auroc", mode) for mode in (Mode.ROUTED, Mode.ORACLE))
    assert regret(routed.scores, oracle.scores) == pytest.approx(np.array([[0.05]]))


def test_a_metric_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"image_auroc.*got 'accuracy'"):
        score_matrix([], "accuracy", Mode.ROUTED)


def test_no_evaluations_make_an_empty_matrix():
    assert score_matrix([], "image_auroc", Mode.ROUTED).scores.shape == (0, 0)


def test_flips_tell_which_pictures_changed_and_for_whom_it_is_worse():
    def judged(verdicts):
        return [
            outcome(image_id, "nut", defective="bad" in image_id, verdict=verdict)
            for image_id, verdict in verdicts.items()
        ]

    ok, ng = Verdict.OK, Verdict.NG
    earlier = {"good-a": ok, "good-b": ng, "good-c": ok, "bad-a": ng, "bad-b": ok, "gone": ok}
    later = {"good-a": ng, "good-b": ok, "good-c": ok, "bad-a": ok, "bad-b": ng, "new": ng}
    before = evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=judged(earlier))])
    after = evaluation(
        2,
        "tile",
        [
            task_evaluation("nut", 0.9, judged=judged(later)),
            task_evaluation("tile", 0.9, judged=outcomes("tile", good=3, bad=2)),
        ],
    )
    changed = flips(before, after)
    assert changed.compared == 5
    assert {flip.image_id for flip in changed.flips} == {"good-a", "good-b", "bad-a", "bad-b"}
    assert changed.counts == {(ok, ng): 2, (ng, ok): 2}
    assert (changed.new_false_alarms, changed.newly_missed, changed.corrected) == (1, 1, 2)


def test_a_good_part_that_is_suddenly_unknown_is_worse_and_an_unknown_defect_is_still_caught():
    before = evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=outcomes("nut", good=1, bad=1))])
    refused = [outcome("nut-good-0", "nut", refused=True), outcome("nut-bad-0", "nut", defective=True, refused=True)]
    changed = flips(before, evaluation(2, None, [task_evaluation("nut", 0.9, judged=refused)]))
    assert changed.counts == {(Verdict.OK, Verdict.UNKNOWN): 1, (Verdict.NG, Verdict.UNKNOWN): 1}
    assert (changed.new_false_alarms, changed.newly_missed) == (1, 0)
    assert flips(before, evaluation(2, None, [task_evaluation("nut", 0.9, judged=refused)]), Mode.ORACLE).counts == {
        (Verdict.NG, Verdict.OK): 1
    }


def test_confusion_counts_what_pictures_were_taken_for_and_what_was_refused():
    judged = [
        outcome("a", "nut"),
        outcome("b", "nut", routed_task="tile"),
        outcome("c", "nut", refused=True),
        outcome("d", "nut", routed_task="cable"),  # in the bank, without held-out pictures
    ]
    confused = routing_confusion(
        evaluation(
            2,
            "tile",
            [task_evaluation("nut", 0.9, judged=judged), task_evaluation("tile", 0.9, judged=[outcome("e", "tile")])],
        )
    )
    assert confused.tasks == ("nut", "tile", "cable")
    assert confused.counts.tolist() == [[1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
