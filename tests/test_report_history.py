"""What the forgetting report tells beside scores: what happened, repeats, retirements, refusals; and its CSV."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from evaluation_values import START, a_job, evaluation, outcome, outcomes, sequence, task_evaluation

from stream_ad.domain.decision import GATE, OVERRIDE, Breach, GateDecision, Judgement, Override, Rule
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.evaluation import report_tables as tables
from stream_ad.evaluation.findings import Standing
from stream_ad.evaluation.refusals import changes_between, in_plain_words, pairs_in_words
from stream_ad.evaluation.report import Outcome, forgetting_report, to_csv, to_html, to_markdown

NAMES = ["nut", "tile", "cable"]
KEPT = [[0.98], [0.98, 0.95], [0.98, 0.95, 0.97]]
NOW = datetime(2026, 3, 3, 9, 5, tzinfo=UTC)


def report(evaluations, regression=(), **more):
    return forgetting_report(evaluations, regression, made_at=NOW, **more)


def lacking(evaluations, task, *, since):
    """The same without a task from a version on."""
    return [
        replace(e, tasks={t: m for t, m in e.tasks.items() if t != task or e.bank_version < since}) for e in evaluations
    ]


# --- one glance -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        (KEPT, "No. Nothing that was learned has got worse."),
        ([[0.98], [0.975, 0.95]], "Hardly. Single verdicts or scores got worse, none by more than is allowed."),
        ([[0.98], [0.70, 0.95]], "Yes. nut is inspected less well than before."),
        ([[0.98]], "There is nothing to compare with yet."),
        ([], "Not known: it was not measured."),
    ],
)
def test_the_first_sentence_answers_whether_anything_got_worse(rows, answer):
    made = report(sequence(rows, NAMES))
    assert made.answer == answer
    assert f"<strong>{answer}</strong>" in to_html(made)
    assert answer in to_markdown(made)


def test_each_product_has_a_word_for_how_it_stands():
    made = report(sequence([[0.98], [0.90, 0.95], [0.90, 0.97, 0.97]], NAMES))
    assert {task.task: task.standing for task in made.tasks} == {
        "nut": Standing.WORSE,
        "tile": Standing.BETTER,
        "cable": Standing.NEW,
    }


def test_a_verdict_that_got_worse_shows_although_no_score_fell():
    before = evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=outcomes("nut", good=20, bad=10))])
    after = evaluation(2, "tile", [task_evaluation("nut", 0.9, judged=outcomes("nut", good=20, bad=10, missed=1))])
    (nut,) = report([before, after]).tasks
    assert (nut.standing, nut.newly_missed, nut.compared) == (Standing.SLIGHT, 1, 30)


def test_many_verdicts_that_got_worse_are_a_loss_although_the_score_stands():
    before = evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=outcomes("nut", good=20, bad=10))])
    after = evaluation(2, "tile", [task_evaluation("nut", 0.9, judged=outcomes("nut", good=20, bad=10, missed=4))])
    made = report([before, after])
    assert made.outcome == Outcome.LOST
    assert made.answer == "Yes. nut is inspected less well than before."
    assert "4 of 30 verdicts on nut that were right when it was learned are wrong now" in made.paragraph
    assert "Nothing old was lost" not in made.paragraph


def test_a_product_that_is_taken_for_another_is_a_loss_although_verdicts_stand():
    judged = outcomes("nut", good=20, bad=10)
    stolen = [replace(o, routed_task=TaskId("tile")) if i < 5 else o for i, o in enumerate(judged)]
    before = evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=judged)])
    made = report([before, evaluation(2, "tile", [task_evaluation("nut", 0.9, judged=stolen)])])
    assert (made.outcome, made.tasks[0].astray) == (Outcome.LOST, 5)
    assert "5 of 30 pictures of nut that were recognised as it when it was learned are not any more" in made.paragraph
    assert "25 of 30, 5 more before" in to_markdown(made)


def test_a_loss_is_put_into_words_that_need_no_statistics():
    assert pairs_in_words(0.07) == "of 100 pairs of a good and a defective part, 7 more in the wrong order"
    assert "7 more in the wrong order" in report(sequence([[0.98], [0.91, 0.95]], NAMES)).paragraph


# --- what is no loss --------------------------------------------------------------------------------


def test_a_retired_product_is_not_a_lost_one():
    retired = [a_job(3, "nut", JobState.PUBLISHED, JobKind.RETIRE)]
    made = report(lacking(sequence(KEPT, NAMES), "nut", since=3), jobs=retired)
    assert made.outcome == Outcome.KEPT
    assert made.retired == ("nut",)
    assert "nut was taken out by a person and is not inspected any more." in made.paragraph


def test_a_product_that_a_rollback_dropped_is_lost_and_the_rollback_is_named():
    used = {"at": START, "who": "m.keller", "action": "use", "subject": "bank 1", "reason": "noise", "details": {}}
    made = report(lacking(sequence(KEPT, NAMES), "tile", since=3), audit=[used])
    assert made.outcome == Outcome.LOST
    assert made.answer == "Yes. tile is not inspected any more."
    assert "no longer in the bank, since m.keller took an older bank into use (2026-03-02)" in made.paragraph


def with_pictures_of(evaluations, task, **hashes):
    """Evaluations whose held-out pictures of a task are those of the version given by name."""
    return [
        replace(e, provenance={**e.provenance, "heldout": {task: hashes.get(f"v{e.bank_version}", "first")}})
        for e in evaluations
    ]


def test_scores_on_other_pictures_are_neither_lost_nor_gained():
    fallen = sequence([[0.98], [0.98, 0.95], [0.80, 0.95, 0.97]], NAMES)
    assert report(with_pictures_of(fallen, "nut")).outcome == Outcome.LOST
    made = report(with_pictures_of(fallen, "nut", v3="more"))
    assert made.outcome == Outcome.KEPT
    assert made.moved == ("nut",)
    assert "nut is judged by other pictures than before" in made.paragraph
    assert made.losses == {"tile": 0.0}
    assert made.metrics["image_auroc"].routed_summary[2].forgetting == 0.0


def test_on_the_new_pictures_forgetting_counts_again():
    rows = [[0.98], [0.98, 0.95], [0.90, 0.95, 0.97]]
    later = [*sequence(rows, NAMES), evaluation(4, None, [task_evaluation("nut", 0.80)])]
    made = report(with_pictures_of(later, "nut", v3="more", v4="more"))
    assert made.losses[TaskId("nut")] == pytest.approx(0.10)


# --- measured again ---------------------------------------------------------------------------------


def repeat_of(first, *, hours, **changes):
    return replace(first, at=first.at + timedelta(hours=hours), job_id=90 + hours, **changes)


def test_a_bank_measured_again_with_the_same_result_is_said_to_be_the_same():
    evaluations = sequence(KEPT, NAMES)
    made = report([*evaluations, repeat_of(evaluations[2], hours=1)])
    assert [step.job_id for step in made.versions] == [1, 2, 3]
    assert made.again[0].same
    assert "What is in use was measured again once: the same result." in made.paragraph


def test_figures_that_differ_for_the_same_bank_are_named_with_a_cause():
    evaluations = sequence(KEPT, NAMES)
    fallen = {t: task_evaluation(t, 0.9, judged=evaluations[2].tasks[t].outcomes) for t in evaluations[2].tasks}
    changed = {**evaluations[2].provenance, "threads": "8"}
    made = report([*evaluations, repeat_of(evaluations[2], hours=1, tasks=fallen, provenance=changed)])
    assert made.again[0].scores[TaskId("nut")] == (0.98, 0.9)
    assert made.outcome == Outcome.LOST  # the latest figures count
    assert "figures of the same bank differed: nut from 0.980 to 0.900" in made.paragraph
    assert "perhaps because threads changed" in made.paragraph
    assert "nut 0.980 → 0.900" in to_markdown(made)


def test_a_product_that_could_not_be_measured_again_keeps_its_figures_and_is_named():
    evaluations = sequence(KEPT, NAMES)
    partly = {t: m for t, m in evaluations[2].tasks.items() if t != "tile"}
    made = report([*evaluations, repeat_of(evaluations[2], hours=1, tasks=partly)])
    assert made.gone == ()
    assert [task.task for task in made.tasks] == NAMES
    assert "tile could not be measured" in made.paragraph


# --- what happened, and what was refused ----------------------------------------------------------


def poisoned():
    """The gate's half: a nut in use, and a candidate that takes two of its thirty pictures for a thief."""
    good = outcomes("nut", good=20, bad=10)
    stolen = [replace(o, routed_task=TaskId("thief")) if i < 2 else o for i, o in enumerate(good)]
    return [
        evaluation(1, "nut", [task_evaluation("nut", 0.98, judged=good)], half=Half.REGRESSION),
        evaluation(
            2, "thief", [task_evaluation("nut", 0.95, judged=stolen)], published=False, job_id=7, half=Half.REGRESSION
        ),
    ]


def judgement(before, candidate):
    taken = Breach(task=TaskId("nut"), rule=Rule.ROUTING, amount=2.0, allowed=1.0, sentence="nut: 2 of 30 images")
    lost = Breach(task=TaskId("nut"), rule=Rule.AUROC, amount=0.03, allowed=0.01, sentence="nut: image AUROC falls")
    decision = GateDecision(breaches=(lost, taken), changes=changes_between(before, candidate))
    return Judgement(decision=decision, version=2, made_from=1, entries={}, budgets={"max_flips": 0.02})


def refused_report(state=JobState.REJECTED, **more):
    before, candidate = poisoned()
    jobs = [
        a_job(1, "nut", JobState.PUBLISHED),
        a_job(7, "thief", state, message="rejected, bank 1 stays in use: x", **more),
    ]
    return report(
        sequence([[0.98]], NAMES), [before, candidate], jobs=jobs, judgements={(7, 2): judgement(before, candidate)}
    )


def test_what_a_refused_job_would_have_done_is_told_by_product_and_amount():
    made = refused_report()
    (refusal,) = made.refusals
    assert [(hurt.task, hurt.change.taken_by) for hurt in refusal.harmed if hurt.change] == [("nut", {"thief": 2})]
    assert (
        "1 of 2 candidates was refused by the gate and never used: the one for thief, because good and defective parts"
        " of nut would be told apart less well: of 100 pairs of a good and a defective part, 3 more in the wrong order;"
        " 2 of 30 pictures of nut would be taken for thief." in made.paragraph
    )
    markdown = to_markdown(made)
    assert "## Refused: learn thief" in markdown
    assert "| nut | 0.980 → 0.950 | 0 of 30 | 0 of 10 | 0 of 20 | 2 for thief | exceeded |" in markdown


def test_a_new_product_that_was_refused_is_shown_with_what_was_measured_of_it():
    before, candidate = poisoned()
    judged = outcomes("thief", good=8, bad=4, false_alarms=1, missed=2, refused=1)
    judged = [replace(o, routed_task=TaskId("nut")) if i < 3 else o for i, o in enumerate(judged)]
    own = task_evaluation("thief", 0.912, judged=judged)
    candidate = replace(candidate, tasks={**candidate.tasks, TaskId("thief"): own})
    lost = Breach(task=TaskId("thief"), rule=Rule.RECOGNISED, amount=4.0, allowed=1.0, sentence="thief: not known")
    judged_so = replace(judgement(before, candidate), decision=GateDecision(breaches=(lost,)))
    made = report(
        sequence([[0.98]], NAMES),
        [before, candidate],
        jobs=[a_job(7, "thief", JobState.REJECTED)],
        judgements={(7, 2): judged_so},
    )
    row = "| thief (new) | 0.912 | – | 2 of 4 | 2 of 8 | 3 for nut, 1 for none that is known | exceeded |"
    assert row in to_markdown(made)


def test_a_refused_candidate_has_a_name_of_its_own_and_no_version():
    made = refused_report()
    again = report(poisoned())  # its scores in the matrices, too
    assert [row[0] for row in tables.decisions(made)[1]] == ["version 1", "candidate of job 7"]
    assert "| candidate of job 7 (refused) |" in to_markdown(again)
    for text in (to_markdown(made), to_markdown(again)):
        assert "version 2" not in text


def test_a_refused_job_that_a_person_let_in_is_not_said_to_be_unused():
    made = refused_report(JobState.PUBLISHED, bank_version=3)
    assert made.refusals[0].overridden_in == 3
    assert "never used" not in made.paragraph
    assert "Refused: learn thief, in use since bank 3 after all" in to_markdown(made)


def asked(state, **more):
    """A job that was refused, that m.keller wanted all the same, and that is in that state now."""
    before, candidate = poisoned()
    judged = judgement(before, candidate)
    override = Override(who="m.keller", reason="same part.", at=START + timedelta(hours=2), accepted=judged)
    row = {"at": override.at, "who": "m.keller", "action": "override", "subject": "job 7", "reason": "same part"}
    jobs = [
        a_job(1, "nut", JobState.PUBLISHED),
        a_job(7, "thief", state, checkpoint={GATE: judged.as_json(), OVERRIDE: override.as_json()}, **more),
    ]
    return report(
        sequence([[0.98]], NAMES),
        [before, candidate],
        jobs=jobs,
        judgements={(7, 2): judged},
        audit=[{**row, "details": {"task": "thief"}}],
    )


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_an_override_that_waits_is_asked_for_and_not_let_in_and_the_refusal_stays(state):
    made = asked(state)
    words = "override asked for by m.keller (same part); not yet published"
    assert [(event.what, event.outcome) for event in made.events] == [
        ("learn nut", "bank 1"),
        ("learn thief", "refused"),
        ("overrode the gate for thief, job 7", "asked for; not yet published"),
    ]
    assert f"To learn thief: {words}." in made.paragraph
    assert "1 of 2 candidates was refused by the gate and never used: the one for thief" in made.paragraph
    assert "a person overrode" not in made.paragraph
    for text in (to_markdown(made), to_html(made)):
        assert f"Refused: learn thief; {words}" in text
        assert "let in" not in text


@pytest.mark.parametrize(
    ("state", "bank", "outcome"),
    [
        (JobState.PUBLISHED, 3, "let in, bank 3"),
        (JobState.REJECTED, None, "not published: refused"),
        (JobState.CANCELLED, None, "not published: cancelled"),
    ],
)
def test_what_came_of_an_override_is_told(state, bank, outcome):
    assert [event.outcome for event in asked(state, bank_version=bank).events if event.who] == [outcome]


def test_after_an_override_the_gate_is_not_said_to_have_refused_nothing():
    judged = judgement(*poisoned())
    kept = Override(who="m.keller", reason="same part", at=START, accepted=judged).as_json()
    jobs = [a_job(n, NAMES[n - 1], JobState.PUBLISHED, checkpoint={OVERRIDE: kept} if n == 2 else {}) for n in (1, 2)]
    made = report(sequence(KEPT[:2], NAMES), jobs=jobs)
    assert "1 of 2 candidates was refused by the gate and let in by a person all the same." in made.paragraph
    assert [row[3] for row in tables.decisions(made)[1]] == ["published", "published against the gate"]


def test_who_overrode_the_gate_and_why_is_in_the_paragraph():
    row = {"at": START, "who": "m.keller", "action": "override", "subject": "job 7", "reason": "same part"}
    made = report(sequence(KEPT, NAMES), audit=[{**row, "details": {"task": "thief"}}])
    assert "Once a person overrode the gate, the last time m.keller on 2026-03-02: “same part”." in made.paragraph
    assert ("overrode the gate for thief, job 7", "m.keller") in [(event.what, event.who) for event in made.events]


@pytest.mark.parametrize("rule", list(Rule))
def test_every_rule_of_the_gate_has_plain_words(rule):
    before, candidate = poisoned()
    change = changes_between(before, candidate)[TaskId("nut")]
    said = in_plain_words(Breach(task=TaskId("nut"), rule=rule, amount=2.0, allowed=1.0, sentence="nut: said"), change)
    assert "nut" in said


def test_events_are_told_in_order_with_open_jobs_left_out():
    jobs = [
        a_job(2, "tile", JobState.REJECTED, message="rejected, bank 1 stays in use: nut: far too much"),
        a_job(1, "nut", JobState.PUBLISHED, message="bank 1 published with 'nut': image AUROC 0.980"),
        a_job(4, None, JobState.DONE, JobKind.EVALUATE, message="bank 1 measured again: nothing is worse"),
        a_job(3, "nut", JobState.PUBLISHED, JobKind.PATCH, message="bank 3 published"),
        a_job(5, "cable", JobState.RUNNING),
    ]
    told = [(event.what, event.outcome, event.detail) for event in report(sequence(KEPT, NAMES), jobs=jobs).events]
    assert told == [
        ("learn nut", "bank 1", "image AUROC 0.980"),
        ("learn tile", "refused", "bank 1 stays in use"),
        ("patch nut", "bank 3", "bank 3 published"),
        ("measure the bank in use again", "measured", "bank 1 measured again: nothing is worse"),
    ]


# --- files ------------------------------------------------------------------------------------------


def test_csv_has_a_row_per_bank_and_product_and_leaves_empty_what_was_not_measured():
    _, candidate = poisoned()
    tests = [*sequence([[0.98], [float("nan"), 0.95]], NAMES), replace(candidate, half=Half.TEST, bank_version=3)]
    rows = list(csv.DictReader(io.StringIO(to_csv(report(tests)))))
    assert [(row["version"], row["published"], row["product"], row["image AUROC"]) for row in rows] == [
        ("1", "yes", "nut", "0.98"),
        ("2", "yes", "nut", ""),
        ("2", "yes", "tile", "0.95"),
        ("", "no", "nut", "0.95"),
    ]
    assert (rows[0]["good"], rows[0]["good parts alarmed"], rows[3]["job"]) == ("20", "0", "7")
    assert float(rows[3]["image AUROC against its best before"]) == pytest.approx(-0.03)
    assert not [column for column in rows[0] if "_" in column]  # words, as in the tables


def test_a_name_like_a_formula_is_none_in_a_spreadsheet():
    made = report([evaluation(1, "=1+1", [task_evaluation("=1+1", 0.9)])])
    assert [row["product"] for row in csv.DictReader(io.StringIO(to_csv(made)))] == ["'=1+1"]


class Balanced(HTMLParser):
    """Fails on tags that are not closed in order, which browsers repair in silence."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images_without_text = 0

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.images_without_text += tag == "img" and not dict(attrs).get("alt")

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> comes while <{self.open[-1]}> is open"
        self.open.pop()


def test_the_page_is_whole_and_every_picture_has_a_text():
    made = refused_report()
    made = replace(made, notes=("a <note>",))
    page = Balanced()
    page.feed(to_html(made))
    page.close()
    assert page.open == []
    assert page.images_without_text == 0


def test_a_picture_that_is_refused_as_unknown_is_not_said_to_be_taken_for_another():
    before = evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=[outcome("a", "nut")])])
    gone = outcome("a", "nut", refused=True)
    after = evaluation(2, "tile", [task_evaluation("nut", 0.9, judged=[gone])])
    change = changes_between(before, after)[TaskId("nut")]
    assert gone.routed_verdict == Verdict.UNKNOWN
    assert (change.taken_by, change.flips, change.new_false_alarms) == ({}, 1, 1)
