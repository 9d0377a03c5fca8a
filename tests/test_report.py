"""The forgetting report: true sentences, and renderings that stand alone."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from evaluation_values import NAN, evaluation, outcomes, sequence, task_evaluation

from stream_ad.domain.evaluation import Evaluation, Half
from stream_ad.evaluation.charts import _apart
from stream_ad.evaluation.report import Outcome, Promise, forgetting_report, to_html, to_json, to_markdown

NAMES = ["nut", "tile", "cable"]
KEPT = [[0.98], [0.98, 0.95], [0.98, 0.95, 0.97]]
NOW = datetime(2026, 3, 3, 9, 5, tzinfo=UTC)


def report(evaluations, regression=(), **more):
    return forgetting_report(evaluations, regression, made_at=NOW, **more)


def refused(half: Half = Half.TEST) -> list[Evaluation]:
    """Three versions, and before the third a candidate that would have cost the nut 0.11."""
    poisoned = evaluation(
        3,
        "cable",
        [
            task_evaluation(n, v, judged=outcomes(n, good=20, bad=10))
            for n, v in zip(NAMES, [0.87, 0.95, 0.6], strict=True)
        ],
        published=False,
        job_id=7,
        half=half,
    )
    return [*sequence(KEPT[:2], NAMES, half=half), poisoned, sequence(KEPT, NAMES, half=half)[2]]


# --- plain words ----------------------------------------------------------------------------------


def test_nothing_lost_is_said_when_no_score_and_no_verdict_got_worse():
    kept = report(sequence(KEPT, NAMES))
    assert kept.outcome == Outcome.KEPT
    assert kept.paragraph.startswith("Three products were learned one after the other: nut, tile and cable.")
    assert "Nothing old was lost: no product separates" in kept.paragraph
    assert "Not one of 60 verdicts on old products changed" in kept.paragraph
    assert "Measured on 60 good pictures and 30 defective that were kept apart" in kept.paragraph


def test_a_small_loss_is_named_and_not_called_nothing():
    slight = report(sequence([[0.98], [0.98, 0.95], [0.98, 0.948, 0.97]], NAMES))
    assert slight.outcome == Outcome.SLIGHT
    assert "the largest loss of any product was 0.002 image AUROC (tile), within the 0.010" in slight.paragraph
    assert "Nothing old was lost" not in slight.paragraph


def test_a_loss_too_small_to_print_is_not_printed_as_zero():
    assert "was less than 0.001 image AUROC (nut)" in report(sequence([[0.98], [0.9799, 0.95]], NAMES)).paragraph


def test_a_large_loss_is_said_with_product_and_size():
    lost = report(sequence([[0.98], [0.91, 0.95], [0.91, 0.95, 0.97]], NAMES))
    assert lost.outcome == Outcome.LOST
    assert "Something old was lost: one product fell by more than the 0.010 image AUROC" in lost.paragraph
    assert "(nut by 0.070)" in lost.paragraph
    assert lost.losses == pytest.approx({"nut": 0.07, "tile": 0.0})


def test_a_product_that_left_the_bank_is_lost():
    evaluations = sequence(KEPT, NAMES)
    evaluations[2] = replace(evaluations[2], tasks={t: e for t, e in evaluations[2].tasks.items() if t != "nut"})
    gone = report(evaluations)
    assert gone.outcome == Outcome.LOST
    assert "Something old was lost: nut is no longer in the bank." in gone.paragraph


def test_a_defect_newly_missed_is_a_loss_even_when_auroc_stands():
    before = evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=outcomes("nut", good=20, bad=10))])
    after = evaluation(2, "tile", [task_evaluation("nut", 0.9, judged=outcomes("nut", good=20, bad=10, missed=1))])
    changed = report([before, after])
    assert changed.outcome == Outcome.SLIGHT
    assert "1 of 30 verdicts on old products changed" in changed.paragraph
    assert "1 defect newly missed, 0 good parts newly alarmed, 0 put right" in changed.paragraph


def test_without_any_evaluation_nothing_is_claimed():
    empty = report([])
    assert empty.outcome == Outcome.UNMEASURED
    assert empty.paragraph.startswith("Nothing was measured")
    assert "Nothing was measured" in to_html(empty)
    assert "Nothing was measured" in to_markdown(empty)
    assert json.loads(to_json(empty))["outcome"] == "not measured"


def test_after_one_product_there_is_nothing_to_forget():
    first = report(sequence(KEPT[:1], NAMES))
    assert first.outcome == Outcome.FIRST
    assert "One product was learned (nut), so there is nothing yet that could have been forgotten." in first.paragraph
    assert "Nothing old was lost" not in first.paragraph


def test_not_measured_never_counts_as_kept():
    unmeasured = report(sequence([[NAN], [NAN, 0.9]], NAMES))
    assert unmeasured.outcome == Outcome.UNMEASURED
    assert "was not measured" in unmeasured.paragraph
    assert "Nothing old was lost" not in unmeasured.paragraph
    partly = report(sequence([[NAN], [NAN, 0.9], [NAN, 0.9, 0.9]], NAMES))
    assert "For nut this was not measured, so nothing is claimed." in partly.paragraph
    assert partly.metrics["image_auroc"].unmeasured == ("nut",)


def test_a_refused_candidate_is_told_with_its_reason_and_does_not_count_as_loss():
    told = report(refused(), reasons={7: "nut would lose 0.110 routed image AUROC."})
    assert told.outcome == Outcome.KEPT
    assert (
        "1 of 4 candidates was refused by the gate and never used: the one for cable,"
        " because nut would lose 0.110 routed image AUROC." in told.paragraph
    )
    assert [d.step.published for d in told.decisions] == [True, True, False, True]
    assert told.rejected[0].forgetting == pytest.approx((0.11 + 0.0) / 2)
    assert [step.version for step in told.versions] == [1, 2, 3]
    tried = told.metrics["image_auroc"]
    assert tried.tried.scores.shape == (4, 3)
    assert tried.change[2, 0] == pytest.approx(-0.11)
    assert tried.change[3, 0] == pytest.approx(0)  # against what was published, not against the refused one


def test_a_refusal_without_a_stored_reason_is_explained_by_what_it_would_have_cost():
    assert "because nut would have lost 0.110 image AUROC" in report(refused()).paragraph


def test_decisions_show_what_the_gate_saw():
    told = report(sequence(KEPT, NAMES), refused(Half.REGRESSION))
    assert {d.half for d in told.decisions} == {Half.REGRESSION}
    assert told.half == Half.TEST
    assert told.rejected[0].worst_task == "nut"


def test_numbers_of_the_gate_s_own_half_are_said_to_flatter():
    flattering = report([], sequence(KEPT, NAMES, half=Half.REGRESSION))
    assert flattering.half == Half.REGRESSION
    assert "the test half was not evaluated, so these numbers flatter" in flattering.paragraph


def test_versions_missing_on_the_test_half_are_named():
    assert (
        "not evaluated on the test half: version 3"
        in report(sequence(KEPT[:2], NAMES), sequence(KEPT, NAMES, half=Half.REGRESSION)).notes
    )


def test_painted_defects_are_said_to_be_painted():
    def judged(name, synthetic):
        made = outcomes(name, good=20, bad=10, synthetic=synthetic)
        return task_evaluation(name, 0.9, judged=made, synthetic=synthetic)

    some = report(
        [
            evaluation(1, "nut", [judged("nut", True)]),
            evaluation(2, "tile", [judged("nut", True), judged("tile", False)]),
        ]
    )
    assert "The defects of nut were painted by this program (synthetic)" in some.paragraph
    every = report([evaluation(1, "nut", [judged("nut", True)])])
    assert "Every defect was painted by this program (synthetic)" in every.paragraph
    assert "| 0.900* |" in to_markdown(some)
    assert "* synthetic defects" in to_markdown(some)
    assert "nut* | tile |" in to_markdown(some)


def test_false_alarms_beyond_the_promise_are_named():
    noisy = evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=outcomes("nut", good=40, bad=5, false_alarms=20))])
    promise = Promise(rate=0.05, threshold=0.7, images=12, can_promise=False, approximate=True)
    told = report([noisy], promises={"nut": promise})
    assert "20 of 40 good parts (50.0 %) raised an alarm (95 % interval 33.8 to 66.2 %)." in told.paragraph
    assert "More false alarms than chance explains: nut" in told.paragraph
    assert "For nut that rate cannot be promised: too few good pictures" in told.paragraph
    assert "cannot be promised: needs 19 good pictures" in to_markdown(told)


def test_false_alarms_within_chance_and_pictures_left_out_are_told():
    measured = evaluation(
        1, "nut", [task_evaluation("nut", 0.9, judged=outcomes("nut", good=40, bad=5, false_alarms=5))]
    )
    promise = Promise(rate=0.05, threshold=0.7, images=100, can_promise=True, approximate=True, suspects=3)
    told = report([measured], promises={"nut": promise})
    assert "5 % is promised, approximately: 0 to 6 would be chance." in told.paragraph
    assert "More false alarms" not in told.paragraph
    assert "Training pictures that looked defective were not learned: 3 of nut." in told.paragraph


def test_routing_refusals_and_the_cost_of_guessing_are_told():
    judged = outcomes("nut", good=20, bad=10, refused=3)
    told = report([evaluation(1, "nut", [task_evaluation("nut", 0.90, oracle=0.95, judged=judged)])])
    assert "3 of 30 pictures of known products (10.0 %) were refused as unknown." in told.paragraph
    assert "costs at most 0.050 image AUROC (nut)" in told.paragraph
    assert told.tasks[0].regret["image_auroc"] == pytest.approx(0.05)
    assert told.metrics["image_auroc"].routed_summary[0].regret == pytest.approx(0.05)


def test_versions_measured_differently_are_not_compared_in_silence():
    evaluations = sequence(KEPT, NAMES)
    evaluations[2] = replace(evaluations[2], provenance={**evaluations[2].provenance, "device": "cuda"})
    assert report(evaluations).mixed == ("device",)
    assert "not all measured alike (device differ" in report(evaluations).paragraph


def test_after_a_rollback_the_report_is_about_the_version_in_use():
    rolled_back = report(sequence([[0.98], [0.98, 0.95], [0.70, 0.95, 0.97]], NAMES), active_version=2)
    assert rolled_back.version == 2
    assert rolled_back.outcome == Outcome.KEPT
    assert [task.task for task in rolled_back.tasks] == ["nut", "tile"]
    unknown = report(sequence(KEPT, NAMES), active_version=9)
    assert "about version 3; version 9 is in use, and was not evaluated" in unknown.paragraph


def test_a_version_evaluated_twice_counts_once_and_the_later_one():
    again = evaluation(1, "nut", [task_evaluation("nut", 0.5, judged=outcomes("nut", good=5, bad=5))])
    twice = report([*sequence(KEPT, NAMES), again])
    assert [step.version for step in twice.versions] == [1, 2, 3]
    assert twice.metrics["image_auroc"].routed.scores[0, 0] == 0.5


# --- renderings -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full():
    unmeasured = sequence([[0.98], [0.98, NAN], [0.98, NAN, 0.97]], ["nut", "<tile>|", "cable"])
    return report(
        [*unmeasured[:2], *refused()[2:3], unmeasured[2]],
        overlays={"nut": [("nut & scratch <NG>", b"\xff\xd8\xff\xe0 not really a picture")]},
        promises={"nut": Promise(rate=0.05, threshold=0.7, images=60, can_promise=True, approximate=True)},
        notes=["Backbone: tiny, seeded, not pretrained."],
    )


def test_json_is_strict_and_says_null_for_not_measured(full):
    def fail(constant):
        raise AssertionError(f"{constant} is no JSON")

    values = json.loads(to_json(full), parse_constant=fail)
    assert values["outcome"] == "nothing lost"
    assert values["metrics"]["image_auroc"]["routed"]["scores"][2][1] is None
    assert values["tasks"][0]["false_alarms"] == pytest.approx(
        {"events": 0, "trials": 20, "value": 0.0, "low": 0.0, "high": 0.1684}, abs=1e-4
    )
    assert values["overlays"] == {"nut": [{"caption": "nut & scratch <NG>"}]}
    assert values["paragraph"] == full.paragraph
    assert values["made_at"] == "2026-03-03T09:05:00+00:00"


def test_html_needs_nothing_but_itself(full):
    html = to_html(full)
    for reference in re.findall(r"""(?:src|href|srcset|action)\s*=\s*["']([^"']*)""", html):
        assert reference.startswith("data:")
    assert not re.search(r"https?://|@import|url\(|<script|<link", html)
    assert html.count("data:image/svg+xml;base64,") == 7  # matrix and curves of two metrics, alarms, confusion, regret
    assert html.count("data:image/jpeg;base64,") == 1


def test_html_escapes_names_and_captions(full):
    html = to_html(full)
    assert "&lt;tile&gt;" in html
    assert "<tile>" not in html
    assert "nut &amp; scratch &lt;NG&gt;" in html


def test_html_is_the_same_for_the_same_report(full):
    assert to_html(full) == to_html(full)


def test_every_rendering_holds_the_paragraph_the_note_and_the_provenance(full):
    for text in (to_html(full), to_markdown(full)):
        assert "Backbone: tiny, seeded, not pretrained." in text
        assert "9f2c1e7a" in text
        assert "not measured" in text
    assert full.paragraph in to_markdown(full)
    assert "\\|" in to_markdown(full)


def test_many_products_and_versions_are_drawn_too():
    names = [f"product-with-a-long-name-{i}" for i in range(16)]
    rows = [[0.9 + 0.005 * i for i in range(k + 1)] for k in range(16)]
    assert "<svg" not in to_html(report(sequence(rows, names)))  # charts are images, apart from one another


def test_labels_are_moved_apart_in_their_order():
    heights = _apart([0.5, 0.5, 0.51, 0.9], 0.05)
    assert np.diff(heights).min() >= 0.05 - 1e-9
    assert heights[3] == pytest.approx(0.9)
