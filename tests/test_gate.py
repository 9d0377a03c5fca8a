"""The gate lets nothing through that costs an old task more than its budget, and says why in sentences."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from stream_ad.domain.decision import GateDecision, Rule
from stream_ad.domain.evaluation import ImageOutcome, TaskEvaluation
from stream_ad.domain.job import JobKind
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import ConfigError
from stream_ad.services.chance import allowed, loss_error, unseen
from stream_ad.services.gate import GateBudgets, decide

SCREW, TILE, NEW = TaskId("screw"), TaskId("tile"), TaskId("new")
BUDGETS = GateBudgets()


def outcomes(task: TaskId, n: int = 40) -> list[ImageOutcome]:
    """Half good and OK, half defective and NG, all recognised."""
    return [
        ImageOutcome(
            image_id=f"{task}-{i}",
            task=task,
            defective=i >= n // 2,
            kind="scratch" if i >= n // 2 else "good",
            synthetic=False,
            routed_task=task,
            refused=False,
            margin=0.5,
            routed_score=float(i),
            oracle_score=float(i),
            routed_verdict=Verdict.NG if i >= n // 2 else Verdict.OK,
            oracle_verdict=Verdict.NG if i >= n // 2 else Verdict.OK,
        )
        for i in range(n)
    ]


def measured(task: TaskId, images: Sequence[ImageOutcome] | None = None, auroc: float = 0.95) -> TaskEvaluation:
    images = outcomes(task) if images is None else images
    metrics = {"image_auroc": auroc}
    normal = [o for o in images if not o.defective]
    return TaskEvaluation(
        task=task,
        routed=metrics,
        oracle=metrics,
        routing_accuracy=1.0,
        refused_rate=0.0,
        false_alarm_rate=0.0,
        detection_rate=1.0,
        n_normal=len(normal),
        n_defective=len(images) - len(normal),
        synthetic=False,
        outcomes=images,
    )


def judge(after: TaskEvaluation, *, before: TaskEvaluation | None = None, budgets: GateBudgets = BUDGETS, **more):
    before = before or measured(SCREW)
    return decide(JobKind.ADAPT, {SCREW: before}, {SCREW: after, NEW: measured(NEW)}, NEW, budgets, **more)


def changed(count: int, *, n: int = 40, **fields) -> list[ImageOutcome]:
    return [replace(o, **fields) if i < count else o for i, o in enumerate(outcomes(SCREW, n))]


def test_a_candidate_that_changes_nothing_passes():
    decision = judge(measured(SCREW))
    assert decision.passed
    assert decision.reasons == ()
    assert decision.changes[SCREW].flips == 0
    assert decision.changes[SCREW].auroc_loss == 0


def test_the_first_task_passes_when_it_is_recognised():
    assert decide(JobKind.ADAPT, {}, {NEW: measured(NEW)}, NEW, BUDGETS).passed


def test_losing_auroc_beyond_the_budget_is_refused_with_numbers():
    decision = judge(measured(SCREW, auroc=0.93))
    assert not decision.passed
    assert decision.reasons == (
        "screw: image AUROC falls from 0.950 to 0.930, a loss of 0.020 (± 0.000 on 40 pictures); at most 0.01 allowed",
    )


def test_losing_auroc_within_the_budget_passes():
    assert judge(measured(SCREW, auroc=0.94)).passed


def test_small_losses_do_not_add_up_unseen():
    decision = judge(measured(SCREW, auroc=0.945), best_auroc={SCREW: 0.96})
    assert not decision.passed
    assert "the best bank so far had 0.960" in decision.reasons[0]


def test_a_candidate_that_loses_nothing_is_not_refused_for_an_earlier_loss():
    assert judge(measured(SCREW, auroc=0.95), best_auroc={SCREW: 0.99}).passed


def test_auroc_that_vanishes_is_refused():
    decision = judge(measured(SCREW, auroc=math.nan))
    assert not decision.passed
    assert "could not be measured" in decision.reasons[0]


def test_auroc_that_was_never_measured_leaves_the_other_rules_and_says_so():
    before = measured(SCREW, auroc=math.nan)
    calm = judge(measured(SCREW, auroc=math.nan), before=before)
    assert calm.passed
    assert any("image AUROC not measured" in note for note in calm.notes)
    assert not judge(measured(SCREW, changed(5, routed_verdict=Verdict.NG), math.nan), before=before).passed


def test_flipped_verdicts_are_refused():
    decision = judge(measured(SCREW, changed(3, routed_verdict=Verdict.NG)))
    assert decision.reasons[0] == "screw: 3 of 40 verdicts change (0 of them to OK); at most 2.0% allowed"
    assert "3 more of 20 good parts raise an alarm" in decision.reasons[1]


def test_images_that_go_to_another_product_are_refused_and_the_thief_is_named():
    decision = judge(measured(SCREW, changed(12, routed_task=NEW)))
    assert decision.reasons == ("screw: 12 of 40 images now go to another product (12 to new); at most 1.0% allowed",)


def test_one_picture_of_a_small_set_may_change_unless_the_budget_is_zero():
    five, one = outcomes(SCREW, 5), changed(1, n=5, routed_verdict=Verdict.NG)
    assert judge(measured(SCREW, one), before=measured(SCREW, five)).passed
    strict = GateBudgets(max_flips=0.0)
    decision = judge(measured(SCREW, one), before=measured(SCREW, five), budgets=strict)
    assert decision.reasons == ("screw: 1 of 5 verdicts change (0 of them to OK); none allowed",)


def test_one_picture_that_also_ranks_worse_is_refused():
    five, one = outcomes(SCREW, 5), changed(1, n=5, routed_verdict=Verdict.NG)
    assert not judge(measured(SCREW, one, auroc=0.8), before=measured(SCREW, five)).passed


def test_a_new_task_that_is_taken_for_an_old_one_is_refused():
    confused = [replace(o, routed_task=SCREW) if i < 10 else o for i, o in enumerate(outcomes(NEW))]
    after = {SCREW: measured(SCREW), NEW: measured(NEW, confused)}
    decision = decide(JobKind.ADAPT, {SCREW: measured(SCREW)}, after, NEW, BUDGETS)
    assert decision.reasons[0].startswith(
        "new: only 30 of its own 40 held-out images are recognised as it (10 to screw); at least 90% needed"
    )


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ({NEW: measured(NEW)}, "screw: not measured on the candidate"),
        ({SCREW: measured(SCREW, []), NEW: measured(NEW)}, "screw: not measured on the candidate"),
        ({SCREW: measured(SCREW)}, "new: has no held-out images"),
        ({SCREW: measured(SCREW), NEW: measured(NEW, [])}, "new: has no held-out images"),
        ({SCREW: measured(SCREW, outcomes(SCREW, 38)), NEW: measured(NEW)}, "screw: measured on other pictures"),
        ({SCREW: measured(SCREW), TILE: measured(TILE), NEW: measured(NEW)}, "tile: not measured on the present bank"),
    ],
)
def test_what_was_not_measured_never_counts_as_passed(after, reason):
    decision = decide(JobKind.ADAPT, {SCREW: measured(SCREW)}, after, NEW, BUDGETS)
    assert not decision.passed
    assert decision.reasons[0].startswith(reason)


# --- by kind of job -------------------------------------------------------------------------------


def again(kind: JobKind, after: TaskEvaluation, *, before: TaskEvaluation | None = None, **more):
    """Screw is changed beside an untouched tile."""
    others = {TILE: measured(TILE)}
    return decide(kind, {SCREW: before or measured(SCREW), **others}, {SCREW: after, **others}, SCREW, BUDGETS, **more)


@pytest.mark.parametrize("kind", [JobKind.ADAPT, JobKind.READAPT, JobKind.PATCH, JobKind.SQUEEZE])
def test_a_task_of_the_bank_that_is_learned_again_may_not_get_worse(kind):
    decision = again(kind, measured(SCREW, auroc=0.5))
    assert [(b.task, b.rule) for b in decision.breaches] == [(SCREW, Rule.AUROC)]
    assert decision.breaches[0].amount == pytest.approx(0.45)


@pytest.mark.parametrize("kind", [JobKind.ADAPT, JobKind.READAPT, JobKind.PATCH])
def test_verdicts_that_are_put_right_never_count_against_a_task_that_shall_change(kind):
    wrong = measured(SCREW, changed(10, routed_verdict=Verdict.NG))  # good parts called NG
    decision = again(kind, measured(SCREW), before=wrong)
    assert decision.passed
    assert (decision.changes[SCREW].flips, decision.changes[SCREW].harmful_flips) == (10, 0)
    harmed = again(kind, measured(SCREW, changed(10, routed_verdict=Verdict.NG)))
    assert harmed.reasons[0] == (
        "screw: 10 of 40 verdicts that were right change (0 of them to OK); at most 2.0% allowed"
    )


def test_every_changed_verdict_counts_when_memories_are_only_squeezed():
    wrong = measured(SCREW, changed(10, routed_verdict=Verdict.NG))
    decision = decide(JobKind.SQUEEZE, {SCREW: wrong}, {SCREW: measured(SCREW)}, None, BUDGETS)
    assert [b.rule for b in decision.breaches] == [Rule.FLIPS]


def defects_called_ok(count: int, task: TaskId = SCREW, n: int = 40) -> list[ImageOutcome]:
    images = outcomes(task, n)
    return [replace(o, routed_verdict=Verdict.OK) if i >= n - count else o for i, o in enumerate(images)]


def test_a_patch_may_hide_no_defect_although_a_task_learned_again_may():
    after = measured(SCREW, defects_called_ok(1, n=100))
    before = measured(SCREW, outcomes(SCREW, 100))
    assert again(JobKind.READAPT, after, before=before).passed
    patch = again(JobKind.PATCH, after, before=before)
    assert patch.reasons == ("screw: 1 of 50 defects is found today and would be called OK; a patch may hide none",)


def test_a_patch_may_hide_no_defect_of_another_task_either():
    before = {SCREW: measured(SCREW), TILE: measured(TILE)}
    after = {SCREW: measured(SCREW), TILE: measured(TILE, defects_called_ok(1, TILE))}
    assert [(b.task, b.rule) for b in decide(JobKind.PATCH, before, after, SCREW, BUDGETS).breaches] == [
        (TILE, Rule.HIDDEN)
    ]


def test_a_defect_that_was_called_an_unknown_product_was_an_alarm_too():
    unknown = [replace(o, routed_verdict=Verdict.UNKNOWN) if o.defective else o for o in outcomes(SCREW)]
    decision = again(JobKind.PATCH, measured(SCREW, defects_called_ok(1)), before=measured(SCREW, unknown))
    assert Rule.HIDDEN in {b.rule for b in decision.breaches}


def test_a_task_learned_again_must_still_be_recognised():
    lost = measured(SCREW, [replace(o, routed_task=TILE) for o in outcomes(SCREW)])
    assert [b.rule for b in again(JobKind.READAPT, lost, before=lost).breaches] == [Rule.RECOGNISED]


def test_a_task_that_comes_back_after_it_was_retired_is_judged_as_a_new_one():
    decision = decide(
        JobKind.READAPT, {TILE: measured(TILE)}, {TILE: measured(TILE), SCREW: measured(SCREW)}, SCREW, BUDGETS
    )
    assert decision.passed


def test_retiring_a_task_is_judged_by_the_others():
    before = {SCREW: measured(SCREW), TILE: measured(TILE)}
    assert decide(JobKind.RETIRE, before, {TILE: measured(TILE)}, SCREW, BUDGETS).passed
    assert not decide(JobKind.RETIRE, before, {TILE: measured(TILE, auroc=0.9)}, SCREW, BUDGETS).passed
    lost_the_wrong_one = decide(JobKind.RETIRE, before, {SCREW: measured(SCREW)}, SCREW, BUDGETS)
    assert [(b.task, b.rule) for b in lost_the_wrong_one.breaches] == [(TILE, Rule.MEASURED), (SCREW, Rule.MEASURED)]


def test_measuring_again_finds_whatever_is_worse():
    assert decide(JobKind.EVALUATE, {SCREW: measured(SCREW)}, {SCREW: measured(SCREW)}, None, BUDGETS).passed
    worse = {SCREW: measured(SCREW, defects_called_ok(5), auroc=0.8)}
    found = decide(JobKind.EVALUATE, {SCREW: measured(SCREW)}, worse, None, BUDGETS)
    assert [b.rule for b in found.breaches] == [Rule.AUROC, Rule.FLIPS]


# --- what is kept of a decision -------------------------------------------------------------------


def rejected(misrouted: int = 12, *, auroc: float = 0.9, n: int = 40) -> GateDecision:
    before = measured(SCREW, outcomes(SCREW, n))
    return judge(measured(SCREW, changed(misrouted, n=n, routed_task=NEW), auroc), before=before)


def test_a_decision_is_kept_as_json_and_read_back_the_same():
    unmeasured = judge(measured(SCREW, [], math.nan))
    for decision in (rejected(), judge(measured(SCREW))):
        kept = json.loads(json.dumps(decision.as_json(), allow_nan=False))
        assert GateDecision.of_json(kept).breaches == decision.breaches
        assert repr(GateDecision.of_json(kept)) == repr(decision)  # NaN is not equal to itself
    again = GateDecision.of_json(json.loads(json.dumps(unmeasured.as_json(), allow_nan=False)))
    assert repr(again) == repr(unmeasured)


def test_it_says_which_task_was_hurt_by_which_rule_and_how_much():
    decision = rejected()
    assert [(b.task, b.rule, b.allowed) for b in decision.breaches] == [
        (SCREW, Rule.AUROC, 0.01),
        (SCREW, Rule.ROUTING, 1.0),
    ]
    assert [b.amount for b in decision.breaches] == [pytest.approx(0.05), 12.0]
    assert decision.changes[SCREW].taken_by == {"new": 12}


def test_what_was_not_measured_is_counted_in_pictures():
    unmeasured = judge(measured(SCREW, [], math.nan))
    assert [(b.rule, b.amount, b.allowed) for b in unmeasured.breaches] == [(Rule.MEASURED, 40.0, 0.0)]
    [kept] = json.loads(json.dumps(unmeasured.as_json()))["breaches"]
    assert kept["amount"] == 40.0
    fewer = judge(measured(SCREW, outcomes(SCREW, 38)))
    assert [b.amount for b in fewer.breaches] == [2.0]
    assert unmeasured.beyond(fewer) == unmeasured.breaches
    assert fewer.beyond(unmeasured) == ()


def test_who_accepts_a_harm_accepts_that_harm_and_no_more():
    seen = rejected(12, auroc=0.9)
    assert seen.beyond(seen) == ()
    assert rejected(5, auroc=0.92).beyond(seen) == ()
    assert [b.rule for b in rejected(13, auroc=0.9).beyond(seen)] == [Rule.ROUTING]
    assert [b.rule for b in rejected(12, auroc=0.85).beyond(seen)] == [Rule.AUROC]
    assert [b.task for b in judge(measured(SCREW, changed(12, routed_task=NEW), 0.9)).beyond(GateDecision())] == [
        SCREW,
        SCREW,
    ]


# --- small halves ---------------------------------------------------------------------------------


@given(n=st.integers(1, 300), budget=st.sampled_from([0.0, 0.01, 0.02, 0.1]))
def test_harm_beyond_what_may_go_unseen_is_refused_with_the_certainty_that_is_said(n, budget):
    share = unseen(budget, n)
    most = allowed(budget, n)
    if n <= most:
        assert share == 1
    else:
        assert binom.cdf(most, n, share) == pytest.approx(0.05, abs=1e-6)


def test_the_error_of_a_loss_is_what_other_pictures_would_scatter():
    """Against many draws of as many pictures: two banks of equal worth, 30 good parts and 25 defects."""
    rng = np.random.default_rng(3)

    def draw() -> tuple[list[ImageOutcome], list[ImageOutcome], float]:
        common = rng.normal(size=55) + np.repeat([0.0, 1.5], [30, 25])
        scores = [common + rng.normal(size=55) * 0.5 for _ in range(2)]
        images = [replace(o, defective=i >= 30) for i, o in enumerate(outcomes(SCREW, 55))]
        then, now = ([replace(o, routed_score=float(s)) for o, s in zip(images, each, strict=True)] for each in scores)
        aurocs = [(each[30:, None] > each[None, :30]).mean() for each in scores]
        return then, now, float(aurocs[0] - aurocs[1])

    draws = [draw() for _ in range(300)]
    said = np.mean([loss_error(list(zip(then, now, strict=True))) for then, now, _ in draws])
    assert said == pytest.approx(np.std([loss for *_, loss in draws]), rel=0.15)


def test_one_good_picture_tells_nothing_of_the_error():
    images = outcomes(SCREW, 4)[1:]
    assert math.isnan(loss_error([(o, o) for o in images]))


def test_a_task_that_few_pictures_guard_is_named():
    few = measured(SCREW, outcomes(SCREW, 10))
    assert judge(few, before=few).notes == (
        "guarded by few held-out pictures, so that a change of this share of verdicts may go unseen:"
        " screw (10 pictures, 39%)",
    )
    many = measured(SCREW, outcomes(SCREW, 40))
    assert judge(many, before=many).notes == ()


def test_a_new_task_that_detects_nothing_is_noted():
    decision = decide(JobKind.ADAPT, {}, {NEW: measured(NEW, auroc=0.55)}, NEW, BUDGETS)
    assert any("0.550" in note for note in decision.notes)


def test_budgets_are_shares():
    with pytest.raises(ConfigError, match="between 0 and 1"):
        GateBudgets(max_flips=2.0)


@given(flips=st.integers(0, 40), budget=st.floats(0, 1))
def test_the_verdict_follows_the_count(flips, budget):
    budgets = GateBudgets(max_flips=budget, max_false_alarm_rise=1.0)
    assert judge(measured(SCREW, changed(flips, routed_verdict=Verdict.UNKNOWN)), budgets=budgets).passed == (
        flips <= allowed(budget, 40)
    )


@given(st.floats(0, 1), st.integers(0, 1000))
def test_a_budget_never_allows_more_than_its_share_or_one(budget, n):
    assert allowed(budget, n) <= max(1, budget * n + 1e-6)
