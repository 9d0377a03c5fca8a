"""One picture is always allowed: what it let through, and the other half shows as well, is said in a sentence."""

from datetime import UTC, datetime

import pytest
from evaluation_values import a_job, evaluation, outcomes, task_evaluation

from stream_ad.domain.decision import GATE, Breach, GateDecision, Judgement, Rule
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import JobState
from stream_ad.domain.task import TaskId
from stream_ad.evaluation.job_report import job_report
from stream_ad.evaluation.refusals import changes_between
from stream_ad.evaluation.report import forgetting_report

NOW = datetime(2026, 3, 3, 9, 5, tzinfo=UTC)


def both_versions(half: Half, missed: int):
    """A nut, and the nut again when a tile was learned: so many of its defects are missed then."""
    then, now = (outcomes("nut", good=20, bad=10, missed=count) for count in (0, missed))
    return [
        evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=then)], half=half),
        evaluation(2, "tile", [task_evaluation("nut", 0.9, judged=now), task_evaluation("tile", 0.9)], half=half),
    ]


def told(*, seen_by_gate: int, on_test: int, budget: float = 0.02, breaches: tuple[Breach, ...] = ()) -> list[str]:
    """What the report on forgetting and the one of the job say."""
    tests, regression = both_versions(Half.TEST, on_test), both_versions(Half.REGRESSION, seen_by_gate)
    judged = Judgement(
        decision=GateDecision(changes=changes_between(*regression), breaches=breaches),
        version=2,
        made_from=1,
        entries={},
        budgets={"max_flips": budget},
    )
    job = a_job(2, "tile", JobState.PUBLISHED, checkpoint={GATE: judged.as_json()})
    whole = forgetting_report(tests, regression, made_at=NOW, jobs=[job], judgements={(2, 2): judged})
    return [whole.paragraph, " ".join(job_report(job, tests, regression, made_at=NOW).found)]


def test_a_loss_that_passed_as_the_one_picture_and_shows_on_the_test_half_is_said_in_a_sentence():
    for text in told(seen_by_gate=1, on_test=2):
        assert (
            "Few pictures guard nut: with version 2 the gate let pass that 1 of 30 verdicts got worse, for one picture"
            " is always allowed; the test half shows a loss of nut as well (2 defects newly missed)." in text
        )


@pytest.mark.parametrize(
    "case",
    [
        {"seen_by_gate": 1, "on_test": 0},  # the other half lost nothing
        {"seen_by_gate": 0, "on_test": 1},  # nothing was let through
        {"seen_by_gate": 1, "on_test": 2, "budget": 0.1},  # within the share, not by the allowance
        {
            "seen_by_gate": 1,
            "on_test": 2,
            "breaches": (Breach(task=TaskId("nut"), rule=Rule.FLIPS, amount=1.0, allowed=0.0, sentence="nut"),),
        },  # a person took it on
    ],
)
def test_otherwise_nothing_is_said_of_it(case):
    assert not any("is always allowed" in text for text in told(**case))
