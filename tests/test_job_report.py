"""The report of one job: what it did, what it would have done, and who decided otherwise."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from evaluation_values import START, a_job, evaluation, outcomes, sequence, task_evaluation

from stream_ad.adapters.report_files import ReportFolder
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.decision import GATE, OVERRIDE, Breach, GateDecision, Judgement, Override, Rule
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.job_report import job_report, to_csv, to_html, to_json, to_markdown
from stream_ad.evaluation.refusals import changes_between

NOW = datetime(2026, 3, 3, 9, 5, tzinfo=UTC)
LEARNED = [[0.98], [0.98, 0.95]]


def made(job, tests=(), regression=(), **more):
    return job_report(job, tests, regression, made_at=NOW, **more)


def thief():
    """Both halves: bank 1 with a nut, and what job 7 would have made of it."""
    good = outcomes("nut", good=20, bad=10)
    halves = []
    for half in (Half.TEST, Half.REGRESSION):
        bad = [replace(o, routed_task=TaskId("thief")) if i < 2 else o for i, o in enumerate(good)]
        after = [task_evaluation("nut", 0.95, judged=bad), task_evaluation("thief", 0.9)]
        halves.append(
            [
                evaluation(1, "nut", [task_evaluation("nut", 0.98, judged=good)], half=half),
                evaluation(2, "thief", after, published=False, job_id=7, half=half),
            ]
        )
    return halves


def judged():
    before, candidate = thief()[1]
    taken = Breach(task=TaskId("nut"), rule=Rule.ROUTING, amount=2.0, allowed=1.0, sentence="nut: 2 of 30 images")
    decision = GateDecision(breaches=(taken,), changes=changes_between(before, candidate))
    return Judgement(decision=decision, version=2, made_from=1, entries={}, budgets={"max_flips": 0.02})


def test_a_published_job_says_its_bank_and_that_nothing_changed():
    job = a_job(2, "tile", JobState.PUBLISHED, message="bank 2 published with 'tile': image AUROC 0.950")
    report = made(job, sequence(LEARNED, ["nut", "tile"]))
    assert report.answer == "Done: bank 2 was published."
    assert "Not one of 30 verdicts on older products changed." in report.found
    assert (report.measured[0].task, report.measured[0].change) == ("nut", 0.0)
    assert report.against == 1


def test_a_refused_job_says_whom_it_would_have_hurt_and_by_how_much():
    tests, regression = thief()
    report = made(a_job(7, "thief", JobState.REJECTED, checkpoint={GATE: judged().as_json()}), tests, regression)
    assert report.answer == "Refused by the gate; bank 1 stayed in use."
    assert "It would have done harm: 2 of 30 pictures of nut would be taken for thief." in report.found
    assert "| nut | 0.980 → 0.950 | 0 of 30 | 0 of 10 | 0 of 20 | 2 for thief | exceeded |" in to_markdown(report)
    assert "Why it was refused" in to_html(report)


def test_a_job_of_a_program_that_kept_no_judgement_is_told_from_its_scores():
    tests, regression = thief()
    report = made(a_job(7, "thief", JobState.REJECTED, message="rejected: nut: too much"), tests, regression)
    assert report.hurts[0].change is not None
    assert report.hurts[0].change.taken_by == {"thief": 2}
    assert "Rejected: nut: too much." in report.found


def test_an_override_is_told_with_name_reason_and_what_the_gate_had_said():
    override = Override(who="m.keller", reason="same part", at=START, accepted=judged())
    kept = {GATE: judged().as_json(), OVERRIDE: override.as_json()}
    report = made(a_job(7, "thief", JobState.PUBLISHED, checkpoint=kept), *thief())
    assert report.answer == "Bank 7 was published against the gate: m.keller decided so."
    assert "The gate said: 2 of 30 pictures of nut would be taken for thief." in report.found
    assert "The reason given by m.keller: “same part”." in report.found


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_an_override_that_waits_still_shows_why_the_gate_refused(state):
    override = Override(who="m.keller", reason="same part", at=START, accepted=judged())
    kept = {GATE: judged().as_json(), OVERRIDE: override.as_json()}
    report = made(a_job(7, "thief", state, checkpoint=kept), *thief())
    assert report.answer == (
        "Refused by the gate; bank 1 stayed in use. Override asked for by m.keller (same part); not yet published."
    )
    assert "It would have done harm: 2 of 30 pictures of nut would be taken for thief." in report.found
    assert "Why it was refused" in to_html(report)


def test_a_job_that_was_queued_again_says_what_the_gate_had_said_of_it():
    report = made(a_job(7, "thief", JobState.QUEUED, checkpoint={GATE: judged().as_json()}), *thief())
    assert report.answer == "Not ended yet: queued."
    assert "The gate had refused what it made before: 2 of 30 pictures of nut would be taken for thief." in report.found


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.QUEUED])
def test_a_job_without_figures_is_told_too(state):
    report = made(a_job(3, None, state, JobKind.SQUEEZE, message="no space left", log_tail="line <one>"))
    assert report.what == "squeeze all products"
    for text in (to_markdown(report), to_html(report)):
        assert "squeeze all products" in text
    assert ("line &lt;one&gt;" in to_html(report)) == (state is not JobState.QUEUED)


def test_the_csv_of_a_job_has_a_row_per_product_in_the_words_of_the_tables():
    report = made(a_job(2, "tile", JobState.PUBLISHED), sequence(LEARNED, ["nut", "tile"]))
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert [(row["product"], row["image AUROC"], row["recognised"], row["defects found"]) for row in rows] == [
        ("nut", "0.98", "30", "10"),
        ("tile", "0.95", "30", "10"),
    ]
    assert rows[0]["image AUROC against before"] == "0.0"


@pytest.mark.parametrize(
    ("state", "tone"), [(JobState.QUEUED, "slight"), (JobState.PUBLISHED, "slight"), (JobState.FAILED, "lost")]
)
def test_a_page_is_green_only_when_the_gate_had_nothing_against_it(state, tone):
    override = Override(who="m.keller", reason="same part", at=START, accepted=judged())
    kept = {GATE: judged().as_json(), OVERRIDE: override.as_json()}
    assert f'<body class="{tone}">' in to_html(made(a_job(7, "thief", state, checkpoint=kept), *thief()))


def test_the_json_of_a_job_is_strict():
    def fail(constant):
        raise AssertionError(f"{constant} is no JSON")

    tests, regression = thief()
    report = made(a_job(7, "thief", JobState.REJECTED, checkpoint={GATE: judged().as_json()}), tests, regression)
    values = json.loads(to_json(report), parse_constant=fail)
    assert values["hurts"][0]["breaches"][0]["rule"] == "routing"


# --- the folder -------------------------------------------------------------------------------------


def test_the_newest_reports_of_each_kind_stay(tmp_path):
    folder = ReportFolder(tmp_path / "reports", keep=2)
    for number in (8, 9, 10):
        folder.write({f"job-{number}.html": "job", f"forgetting-{number:02d}.html": "all", "forgetting.html": "newest"})
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == [
        "forgetting-09.html",
        "forgetting-10.html",
        "forgetting.html",
        "job-10.html",
        "job-9.html",
    ]


def test_a_report_that_is_written_again_takes_the_place_of_the_old_one(tmp_path):
    folder = ReportFolder(tmp_path, keep=2)
    folder.write({"forgetting.html": "old"})
    (written,) = folder.write({"forgetting.html": "new"})
    assert written.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["forgetting.html"]


# --- written by itself ------------------------------------------------------------------------------


@pytest.fixture
def app(tmp_path):
    (tmp_path / "config.yaml").write_text("backbone: {id: tiny}\n")
    with App(load_settings(tmp_path / "config.yaml")) as app:
        app.make_database()
        yield app


def names(app):
    folder = app.settings.reports_dir
    return sorted(path.name.partition("-")[0] for path in folder.iterdir()) if folder.is_dir() else []


def end(app, state):
    task = Task(id=TaskId("nut"), class_name="nut")
    job = app.database.tasks.add(task, JobKind.ADAPT, {"images": "nowhere"}, app.clock.now())
    app.database.jobs.claim("a worker", "cpu", 60.0, app.clock.now())
    app.database.jobs.finish(job.id, "a worker", 1, state, "nut: too much", app.clock.now())
    return job.id


def test_after_a_job_its_report_and_the_whole_one_are_written_without_the_backbone(app):
    written = app.write_report(end(app, JobState.REJECTED))
    assert names(app) == ["forgetting", "forgetting.html", "job"]
    assert {path.parent for path in written} == {app.settings.reports_dir}
    assert "Refused by the gate" in (app.settings.reports_dir / "job-1.html").read_text()
    assert "backbone" not in app.__dict__


def test_on_schedule_the_whole_report_alone_is_written(app):
    app.write_report()
    assert names(app) == ["forgetting", "forgetting.html"]


def test_a_job_that_failed_or_a_setting_that_says_so_writes_nothing(app, monkeypatch):
    assert app.write_report(end(app, JobState.FAILED)) == []
    monkeypatch.setenv("STREAM_AD_REPORTS__WRITE", "false")
    with App(load_settings(app.settings.data_dir.parent / "config.yaml")) as silent:
        assert silent.write_report() == []
    assert names(app) == []


def test_a_report_that_cannot_be_written_is_logged_and_not_raised(app, caplog):
    app.settings.reports_dir.write_text("a file where the folder should be")
    assert app.write_report() == []
    assert "no report was written" in caplog.text
