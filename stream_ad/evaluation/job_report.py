"""The report of one job: what it was to do, what it would change for whom, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from stream_ad.domain.decision import Judgement, Override
from stream_ad.domain.evaluation import Evaluation, Half
from stream_ad.domain.feedback import Feedback
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import TaskId
from stream_ad.evaluation import forgetting
from stream_ad.evaluation import report_tables as tables
from stream_ad.evaluation.allowance import LetThrough, in_words, let_through
from stream_ad.evaluation.events import what
from stream_ad.evaluation.findings import Evidence, Measured, Overlay
from stream_ad.evaluation.forgetting import HELDOUT, Flips, Step
from stream_ad.evaluation.refusals import Hurt, Refusal, asked_in_words, hurts_of, in_plain_words
from stream_ad.evaluation.renderings import as_json, markdown_table, measured_csv, page, sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """Everything that the report of a job says; `to_html` and its siblings render it."""

    made_at: datetime
    job_id: int
    kind: JobKind
    what: str
    state: JobState
    #: what came of it, in one sentence, and more of it
    answer: str
    found: tuple[str, ...]
    #: what the job itself said
    message: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    device: str | None
    #: the bank that it made, or would have made, and the one in use from which it was made
    version: int | None
    against: int | None
    #: by name: the gate's limits then
    budgets: dict[str, float]
    hurts: tuple[Hurt, ...]
    override: Override | None
    #: what the candidate scores on the half that no gate sees
    measured: tuple[Measured, ...]
    #: verdicts on pictures of that half that it changed; None: not measured before and after
    flips: Flips | None
    feedback: tuple[Feedback, ...]
    #: losses that the gate let through because one picture is always allowed, and that the test half shows as well
    let_through: tuple[LetThrough, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    provenance: dict[str, str]
    #: of a job that failed
    log_tail: str
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """The gate refused it, and nothing of it is in use: also while an override waits to be carried out."""
        return self.state is JobState.REJECTED or (self.state.open and self.override is not None)


def job_report(
    job: Job,
    tests: Sequence[Evaluation],
    regression: Sequence[Evaluation],
    *,
    made_at: datetime,
    feedback: Sequence[Feedback] = (),
) -> JobReport:
    """What one job did, from what was kept of it.

    Args:
        tests: all evaluations of the test half, oldest first.
        regression: the same of the half on which the gate decides.
        feedback: what people said that led to it.
    """
    judged = Judgement.of_checkpoint(job.checkpoint)
    own = _own(job, tests)
    gate_saw = _own(job, regression)
    before = _before(judged.made_from if judged else None, own, tests)
    made = JobReport(
        made_at=made_at,
        job_id=job.id,
        kind=job.kind,
        what=what(job),
        state=job.state,
        answer="",
        found=(),
        message=job.message or "",
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        attempts=job.attempts,
        device=job.device,
        version=job.bank_version if job.bank_version is not None else own.bank_version if own else None,
        against=judged.made_from if judged else before.bank_version if before else None,
        budgets=dict(judged.budgets) if judged else {},
        hurts=hurts_of(judged, _before(judged.made_from if judged else None, gate_saw, regression), gate_saw),
        override=Override.of_checkpoint(job.checkpoint),
        measured=_measured(own, before),
        flips=forgetting.flips(before, own) if own and before else None,
        feedback=tuple(feedback),
        provenance={k: str(v) for k, v in own.provenance.items() if k != HELDOUT} if own else {},
        log_tail=(job.log_tail or "") if job.state in (JobState.FAILED, JobState.CANCELLED) else "",
    )
    if judged is not None and job.state is JobState.PUBLISHED and job.bank_version is not None:
        made = replace(made, let_through=let_through([(job.bank_version, judged)], _got_worse(made, own, before)))
    return replace(made, answer=_answer(made), found=_found(made))


def as_refusal(made: JobReport) -> Refusal | None:
    """The same as a refused candidate, for its pictures; None: it was not refused."""
    if not made.refused or made.version is None:
        return None
    reasons = tuple(breach.sentence for hurt in made.hurts for breach in hurt.breaches)
    return Refusal(
        step=Step(made.version, False, None, made.job_id),
        at=made.finished_at or made.made_at,
        half=Half.REGRESSION,
        kind=made.kind,
        what=made.what,
        against=made.against,
        hurts=made.hurts,
        reasons=reasons,
        overridden_in=None,
        asked_for=made.override if made.state.open else None,
    )


def _own(job: Job, evaluations: Sequence[Evaluation]) -> Evaluation | None:
    return next((e for e in reversed(evaluations) if e.job_id == job.id), None)


def _before(made_from: int | None, own: Evaluation | None, evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """What was measured last of the bank from which the candidate was made, before the candidate itself."""
    if own is None:
        return None
    earlier = [e for e in evaluations if e.published and e is not own and e.at <= own.at]
    if made_from is None:  # measured again: the same bank; of an older program: the version before
        earlier = [e for e in earlier if e.bank_version <= own.bank_version]
    else:
        earlier = [e for e in earlier if e.bank_version == made_from]
    return max(earlier, key=lambda e: (e.bank_version, e.at), default=None)


def _measured(own: Evaluation | None, before: Evaluation | None) -> tuple[Measured, ...]:
    if own is None:
        return ()
    rows = []
    then, here = ((e.provenance.get(HELDOUT) or {}) if e else {} for e in (before, own))
    for task, one in own.tasks.items():
        was = before.tasks.get(task) if before and then.get(task) == here.get(task) else None
        change = one.routed["image_auroc"] - was.routed["image_auroc"] if was else float("nan")
        step = Step(own.bank_version, own.published, own.learned_task, own.job_id)
        rows.append(Measured.of(step, own.at, one, change))
    return tuple(rows)


def _got_worse(made: JobReport, own: Evaluation | None, before: Evaluation | None) -> dict[TaskId, tuple[str, ...]]:
    """By product, what the test half shows of it that got worse, in words."""
    if own is None or before is None:
        return {}
    found = {}
    for row in made.measured:
        if row.task in before.tasks:
            changed = forgetting.flips(before, own, tasks=[row.task])
            astray = forgetting.astray(before.tasks[row.task].outcomes, own.tasks[row.task].outcomes)
            found[row.task] = in_words(changed.newly_missed, changed.new_false_alarms, astray, 0.0 - row.change)
    return found


# --- in plain words -------------------------------------------------------------------------------


def _answer(made: JobReport) -> str:
    stays = f"bank {made.against} stayed in use" if made.against is not None else "the bank in use stayed"
    match made.state:
        case JobState.PUBLISHED if made.override is not None:
            return f"Bank {made.version} was published against the gate: {made.override.who} decided so."
        case JobState.PUBLISHED:
            return f"Done: bank {made.version} was published."
        case JobState.REJECTED:
            return f"Refused by the gate; {stays}."
        case JobState.DONE:
            return "Done: the bank in use was measured again."
        case JobState.FAILED:
            return "Failed; the bank in use stayed as it was."
        case JobState.CANCELLED:
            return "Cancelled; the bank in use stayed as it was."
    if made.override is not None:
        return f"Refused by the gate; {stays}. {sentence(asked_in_words(made.override))}"
    return f"Not ended yet: {made.state}."


def _found(made: JobReport) -> tuple[str, ...]:
    said = [sentence(f"The job was to {made.what}")]
    harm = [in_plain_words(breach, hurt.change) for hurt in made.hurts for breach in hurt.breaches]
    if made.refused:
        said.append(sentence(f"It would have done harm: {'; '.join(harm)}") if harm else sentence(made.message))
    elif made.override is not None and made.state is JobState.PUBLISHED:
        said.append(sentence(f"The gate said: {'; '.join(harm) or 'nothing against it'}"))
        said.append(sentence(f"The reason given by {made.override.who}: “{made.override.reason.strip().rstrip('.')}”"))
    elif made.state is not JobState.PUBLISHED:
        said.append(sentence(made.message))
        if harm:  # of a job that was queued again
            said.append(sentence(f"The gate had refused what it made before: {'; '.join(harm)}"))
    if made.state is JobState.PUBLISHED and made.flips is not None and made.flips.compared:
        count, of = len(made.flips.flips), made.flips.compared
        if not count:
            said.append(f"Not one of {of} verdicts on older products changed.")
        else:
            said.append(
                f"{count} of {of} verdicts on older products changed: {made.flips.newly_missed} defects newly missed,"
                f" {made.flips.new_false_alarms} good parts newly alarmed, {made.flips.corrected} put right."
            )
    said += [one.sentence for one in made.let_through]
    return tuple(filter(None, said))


# --- renderings -----------------------------------------------------------------------------------


def to_json(made: JobReport) -> str:
    """Strict JSON; of pictures only the captions."""
    return as_json(made)


def to_csv(made: JobReport) -> str:
    """What the candidate scores on the test half, a row per product: the columns of the forgetting report's."""
    return measured_csv(made.measured, Half.TEST, "image AUROC against before")


def to_markdown(made: JobReport) -> str:
    """GitHub-flavoured Markdown, without pictures."""
    parts = [f"# Job {made.job_id}: {made.what}", f"**{made.answer}** {' '.join(made.found)}"]
    if made.message:
        parts.append(f"> {' '.join(made.message.split())}")
    if made.hurts:
        parts += ["## What it changes, by the gate's half", markdown_table(*tables.hurts(made.hurts))]
    if made.measured:
        parts += ["## What it scores, on the half for reports", markdown_table(*measured_table(made))]
    if made.feedback:
        parts += ["## What people had said", markdown_table(*feedback_table(made))]
    if made.log_tail:
        parts += ["## Its log", f"```\n{made.log_tail.rstrip()}\n```"]
    if made.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in made.notes)]
    parts += ["## Provenance", markdown_table(["what", "value"], about_table(made))]
    return "\n\n".join(parts) + "\n"


def to_html(made: JobReport) -> str:
    """One HTML file: pictures are inside, no script, nothing is fetched."""
    return page("job.html.j2").render(
        report=made,
        measured=measured_table(made),
        feedback=feedback_table(made),
        about=about_table(made),
        refusal=as_refusal(made),
        tone=_tone(made),
    )


def _tone(made: JobReport) -> str:
    """How the style sheet names what came of it."""
    if made.refused or (made.override is not None and made.state is JobState.PUBLISHED):
        return "slight"
    return "kept" if made.state in (JobState.PUBLISHED, JobState.DONE) else "lost"


def measured_table(made: JobReport) -> tables.Table:
    """A product a line, on the half that no gate sees."""
    heading = ["product", "image AUROC", "against before", "recognised", "defects found", "good parts alarmed"]
    rows = [
        [
            row.task,
            tables.score(row.routed["image_auroc"]) + ("*" if row.synthetic else ""),
            tables.signed(row.change),
            tables.of(row.routing),
            tables.of(row.detections),
            tables.of(row.false_alarms),
        ]
        for row in made.measured
    ]
    return heading, rows


def feedback_table(made: JobReport) -> tables.Table:
    """What people had said of verdicts, and what became of it."""
    heading = ["when", "who", "said", "reason", "now", "what became of it"]
    rows = [
        [f"{one.at:%Y-%m-%d %H:%M}", one.who, str(one.kind), one.reason or "–", str(one.state), one.outcome or "–"]
        for one in made.feedback
    ]
    return heading, rows


def about_table(made: JobReport) -> list[list[str]]:
    """When, where and by what."""

    def when(at: Any) -> str:
        return f"{at:%Y-%m-%d %H:%M:%S} {at:%Z}".strip() if at else "–"

    return [
        ["job", f"{made.job_id}, {made.kind}, {made.state}"],
        ["asked, begun, ended", f"{when(made.created_at)}; {when(made.started_at)}; {when(made.finished_at)}"],
        ["attempts", str(made.attempts)],
        ["limits", ", ".join(f"{name} {value:g}" for name, value in made.budgets.items()) or "–"],
        ["report made", when(made.made_at)],
        *([key, value] for key, value in made.provenance.items()),
    ]
