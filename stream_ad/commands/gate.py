"""`stream-ad jobs override`, `stream-ad bank evaluate`: what a person decides against the gate, and asks of it."""

from collections.abc import Sequence
from typing import Annotated

import typer

from stream_ad.commands.common import ConfigOption, coloured, open_app, out, table, who_says
from stream_ad.domain.decision import Judgement, Override, TaskChange
from stream_ad.domain.job import Job, JobKind
from stream_ad.errors import ConfigError


def override(
    job_id: Annotated[int, typer.Argument(metavar="JOB", help="Number of a job that the gate rejected.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it shall be published all the same; it is kept.")],
    who: Annotated[
        str | None, typer.Option("--who", metavar="NAME", help="Who takes that on; without it, who is logged in.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Publish what the gate rejected. The name and the reason are kept in the audit table and in the reports.

    The job runs again from what it had learned and is measured again. It covers the harm that the gate found then, and
    no more: when another product would be hurt by now, or one more than then, the job is rejected once more.
    """
    name, why = who_says(who), reason.strip()
    if not why:
        raise ConfigError(f"needed a reason, got --reason {reason!r}; the audit table keeps it")
    app = open_app(config)
    judged = Judgement.of_checkpoint(app.database.jobs.get(job_id).checkpoint)
    job = app.database.jobs.override(job_id, name, why, app.clock.now())
    out().print(f"job {job.id} of {job.about} is queued, to be published in spite of what the gate said:", markup=False)
    for sentence in judged.decision.reasons if judged else ():
        out().print(f"  {sentence}", markup=False)
    out().print("a worker takes it: `stream-ad worker`")


def evaluate(config: ConfigOption = None) -> None:
    """Queue a job that measures the bank in use again; its message says whether anything is worse than it was."""
    app = open_app(config)
    job = app.database.tasks.queue(None, JobKind.EVALUATE, {}, app.clock.now())
    out().print(f"job {job.id} is queued; a worker takes it: `stream-ad worker`, then `stream-ad jobs show {job.id}`")


def print_judgement(job: Job) -> None:
    """What the gate measured of the job's last candidate, task by task, if it came to that."""
    judged = Judgement.of_checkpoint(job.checkpoint)
    if judged is None:
        return
    passed = judged.decision.passed
    said = coloured("passed" if passed else "refused", "green" if passed else "yellow")
    # the number that a refused candidate would have had goes to the next bank that is published
    which = f"what became bank {judged.version}" if passed else f"the candidate of job {job.id}"
    out().print(f"\nthe gate {said} {which}, made from bank {judged.made_from}:")
    rows = [_row(task, change, judged) for task, change in judged.decision.changes.items()]
    columns = (
        "task",
        "AUROC then",
        "now",
        "verdicts changed",
        "to other products",
        "more false alarms",
        "of",
        "refused for",
    )
    out().print(table(*columns, rows=rows) if rows else "  no task was there before")
    for breach in judged.decision.breaches:
        out().print(f"  {breach.sentence}", markup=False)
    override = Override.of_checkpoint(job.checkpoint)
    if override is not None:
        at = override.at.astimezone().strftime("%Y-%m-%d %H:%M")
        waits = "; not yet published" if job.state.open else ""
        out().print(f"overridden by {override.who} on {at}: {override.reason}{waits}", markup=False)


def _row(task: str, change: TaskChange, judged: Judgement) -> Sequence[object]:
    rules = [str(breach.rule) for breach in judged.decision.breaches if breach.task == task]
    return (
        task,
        change.auroc_before,
        change.auroc_after,
        f"{change.flips} ({change.harmful_flips} for the worse)",
        change.routing_loss,
        change.new_false_alarms,
        f"{change.n_images} ({change.n_normal} good)",
        coloured(", ".join(rules), "yellow") if rules else None,
    )
