"""From what is stored to reports: which evaluations, jobs and pictures each is made of, and where it is written."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_ad.adapters.decode import decode
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.adapters.report_files import ReportFolder
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.decision import Judgement, Override
from stream_ad.domain.evaluation import Evaluation, Half
from stream_ad.domain.images import HeldoutSet, Picture
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import TaskId
from stream_ad.errors import JobError
from stream_ad.services.heldout import learning_job

if TYPE_CHECKING:
    from stream_ad.adapters.storage import Database
    from stream_ad.config import Settings
    from stream_ad.domain.ports import Clock
    from stream_ad.evaluation.findings import ForgettingReport
    from stream_ad.evaluation.job_report import JobReport
    from stream_ad.report_pictures import Look
    from stream_ad.services.judging import Inspector
    from stream_ad.task_images import TaskImageReader

#: rows of the audit table that are looked through for people's decisions
AUDITED = 10_000
#: how a job ends of which a report is written by itself
REPORTED = (JobState.PUBLISHED, JobState.REJECTED, JobState.DONE)


class Reports:
    """Makes reports of what a database holds.

    Args:
        inspector: what judges by a bank; asked only for pictures, because it takes the backbone.
    """

    def __init__(
        self,
        settings: "Settings",
        database: "Database",
        clock: "Clock",
        task_images: "TaskImageReader",
        inspector: "Callable[[MemoryBank], Inspector]",
    ) -> None:
        self._settings, self._database, self._clock = settings, database, clock
        self._task_images, self._inspector = task_images, inspector

    def forgetting(
        self, *, first: int | None = None, last: int | None = None, pictures: bool = False
    ) -> "ForgettingReport":
        """What was forgotten, from all evaluations or those of bank versions `first` to `last`.

        With `pictures`, held-out pictures are inspected again and drawn; that takes the backbone.
        """
        from stream_ad.evaluation.report import Promise, forgetting_report

        database = self._database
        span = _Span(first, last)
        evaluations = {half: [e for e in database.evaluations.all(half) if e.bank_version in span] for half in Half}
        jobs = database.jobs.all()
        bank = database.banks.load()
        report = forgetting_report(
            evaluations[Half.TEST],
            evaluations[Half.REGRESSION],
            made_at=self._clock.now(),
            promises={entry.task.id: Promise.of(entry) for entry in bank},
            reasons={job.id: (job.message or "").partition(": ")[2] for job in jobs if job.state is JobState.REJECTED},
            jobs=span.jobs(jobs, evaluations.values()),
            judgements=_judgements(jobs),
            audit=span.decisions(database.audit.recent(AUDITED), evaluations.values()),
            active_version=bank.version,
            max_forgetting=self._settings.gate.max_forgetting,
            max_flips=self._settings.gate.max_flips,
        )
        if not pictures or report.version is None:
            return report
        from stream_ad.report_pictures import with_pictures

        measured = _latest(evaluations[report.half], report.version)
        return with_pictures(report, measured.tasks, evaluations[Half.REGRESSION], self._look(report.version))

    def of_job(self, job_id: int, *, pictures: bool = False) -> "JobReport":
        """What one job did. Raises: JobError: there is no such job."""
        from stream_ad.evaluation.job_report import job_report

        database = self._database
        job = database.jobs.get(job_id)
        tests, regression = (database.evaluations.all(half) for half in (Half.TEST, Half.REGRESSION))
        feedback = database.feedback.of_job(job_id)
        made = job_report(job, tests, regression, made_at=self._clock.now(), feedback=feedback)
        if not pictures or made.version is None:
            return made
        from stream_ad.report_pictures import with_job_pictures

        own = next((e for e in reversed(tests) if e.job_id == job.id), None)
        return with_job_pictures(made, own, regression, self._look(database.banks.active_version()))

    def write(self, job_id: int | None = None, *, pictures: bool) -> list[Path]:
        """Write what `reports` of the settings says: the forgetting report, and after a job its own. The files.

        Raises:
            OSError: the folder cannot be written.
        """
        from stream_ad.evaluation import job_report
        from stream_ad.evaluation.report import to_html

        if not self._settings.reports.write:
            return []
        files: dict[str, str] = {}
        if job_id is not None:
            if self._database.jobs.get(job_id).state not in REPORTED:
                return []
            files[f"job-{job_id}.html"] = job_report.to_html(self.of_job(job_id, pictures=pictures))
        made = self.forgetting(pictures=pictures)
        whole = to_html(made)
        files |= {f"forgetting-{made.made_at:%Y%m%dT%H%M%SZ}.html": whole, "forgetting.html": whole}
        return ReportFolder(self._settings.reports_dir, keep=self._settings.reports.keep).write(files)

    # --- pictures ---------------------------------------------------------------------------------

    def _look(self, version: int) -> "Look":
        """Where pictures and banks come from; the held-out pictures are those by which that version was judged."""
        from stream_ad.report_pictures import Look

        return Look(
            heldout=partial(self._heldout, version=version),
            published=lambda version: self._inspector(self._database.banks.load(version)),
            candidate=lambda job_id: self._inspector(self._candidate(self._database.jobs.get(job_id))),
            taught=self._taught,
        )

    def _heldout(self, task: TaskId, version: int) -> HeldoutSet:
        job = learning_job(task, self._database.jobs, self._database.banks, version)
        return self._task_images.heldout(self._database.tasks.get(task), job.payload)

    def _candidate(self, job: Job) -> MemoryBank:
        """The bank that a job wanted, from the entries that it stored.

        Raises:
            JobError: what it made was not kept.
            BankError: an entry is gone.
        """
        judged = Judgement.of_checkpoint(job.checkpoint)
        if judged is None:
            raise JobError(f"what job {job.id} made was not kept")
        bank = self._database.banks.load(judged.made_from)
        for sha256 in judged.entries.values():
            bank = bank.with_entry(self._database.entries.get(sha256), judged.version)
        if job.kind is JobKind.RETIRE and job.task is not None:
            left = {task: entry for task, entry in bank.entries.items() if task != job.task}
            bank = replace(bank, version=judged.version, entries=left)
        return bank

    def _taught(self, job_id: int, count: int) -> Sequence[Picture]:
        """Some pictures that a job learned from, spread over its folders."""
        payload = self._database.jobs.get(job_id).payload
        parts = [payload, *payload.get("more", ())]
        files = [file for part in parts if part.get("images") for file in find_pictures(Path(part["images"]))]
        step = max(1, len(files) // count)
        options = {"max_pixels": self._settings.stream.max_pixels, "grey_bits": self._settings.backbone.grey_bits}
        return [decode(file.read_bytes(), **options) for file in files[::step][:count]]


class _Span:
    """A range of bank versions, and when it was made."""

    def __init__(self, first: int | None, last: int | None) -> None:
        self._first, self._last = first, last

    def __contains__(self, version: object) -> bool:
        assert isinstance(version, int)
        return (self._first or 0) <= version and (self._last is None or version <= self._last)

    def jobs(self, jobs: Sequence[Job], evaluations: Iterable[Sequence[Evaluation]]) -> list[Job]:
        """Those that made or tried a version of the range; all of them where there is no range."""
        if self._first is None and self._last is None:
            return list(jobs)
        of_range = {e.job_id for half in evaluations for e in half}
        return [
            job for job in jobs if job.id in of_range or (job.bank_version is not None and job.bank_version in self)
        ]

    def decisions(
        self, rows: Sequence[Mapping[str, Any]], evaluations: Iterable[Sequence[Evaluation]]
    ) -> Sequence[Mapping[str, Any]]:
        """Those made while the versions of the range were; all of them where there is no range."""
        if self._first is None and self._last is None:
            return rows
        times = [e.at for half in evaluations for e in half]
        if not times:
            return []
        return [row for row in rows if min(times) <= row["at"] and (self._last is None or row["at"] <= max(times))]


def _judgements(jobs: Sequence[Job]) -> Mapping[tuple[int, int], Judgement]:
    """What the gate said, by job and number of the candidate: of the last one, and of one that a person accepted."""
    found: dict[tuple[int, int], Judgement] = {}
    for job in jobs:
        override = Override.of_checkpoint(job.checkpoint)
        for judged in (override.accepted if override else None, Judgement.of_checkpoint(job.checkpoint)):
            if judged is not None:
                found[job.id, judged.version] = judged
    return found


def _latest(evaluations: Sequence[Evaluation], version: int) -> Evaluation:
    """What was measured of a version last, product by product: what the report shows."""
    from stream_ad.evaluation.remeasured import merged

    return next(e for e in merged(evaluations)[0] if e.published and e.bank_version == version)
