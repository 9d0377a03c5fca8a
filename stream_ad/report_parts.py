"""From what is stored to reports: which evaluations, jobs and pictures each is made of, and where it is written."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stream_ad.adapters.report_files import ReportFolder
from stream_ad.domain.evaluation import Evaluation, Half
from stream_ad.domain.images import HeldoutSet
from stream_ad.domain.job import JobState
from stream_ad.domain.task import TaskId
from stream_ad.errors import StreamAdError
from stream_ad.services.heldout import published_job

if TYPE_CHECKING:
    from stream_ad.adapters.storage import Database
    from stream_ad.config import Settings
    from stream_ad.domain.bank import MemoryBank
    from stream_ad.domain.ports import Clock
    from stream_ad.evaluation.findings import ForgettingReport
    from stream_ad.services.judging import Inspector
    from stream_ad.task_images import TaskImageReader

log = logging.getLogger(__name__)


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

        With `pictures`, examples are inspected again and drawn; that takes the backbone.
        """
        from stream_ad.evaluation.report import Promise, forgetting_report

        database = self._database

        def chosen(half: Half) -> list[Evaluation]:
            # which pictures were held out differs with every new task; it is for comparing, not for reading
            return [
                replace(evaluation, provenance={k: v for k, v in evaluation.provenance.items() if k != "heldout"})
                for evaluation in database.evaluations.all(half)
                if (first or 0) <= evaluation.bank_version <= (last if last is not None else evaluation.bank_version)
            ]

        bank = database.banks.load()
        evaluations = {half: chosen(half) for half in Half}
        report = forgetting_report(
            evaluations[Half.TEST],
            evaluations[Half.REGRESSION],
            made_at=self._clock.now(),
            promises={entry.task.id: Promise.of(entry) for entry in bank},
            reasons={
                job.id: (job.message or "").partition(": ")[2]
                for job in database.jobs.all()
                if job.state is JobState.REJECTED
            },
            active_version=bank.version,
            max_forgetting=self._settings.gate.max_forgetting,
        )
        return self._with_pictures(report, evaluations[report.half]) if pictures else report

    def write(self, job_id: int | None = None, *, pictures: bool) -> list[Path]:
        """Write what `reports` of the settings says: the forgetting report, and after a job its own. The files.

        Raises:
            OSError: the folder cannot be written.
        """
        from stream_ad.evaluation.report import to_html

        if not self._settings.reports.write:
            return []
        made = self.forgetting(pictures=pictures)
        page = to_html(made)
        folder = ReportFolder(self._settings.reports_dir, keep=self._settings.reports.keep)
        return folder.write({f"forgetting-{made.made_at:%Y%m%dT%H%M%SZ}.html": page, "forgetting.html": page})

    def _with_pictures(self, report: "ForgettingReport", evaluations: Sequence[Evaluation]) -> "ForgettingReport":
        from stream_ad.report_pictures import with_pictures

        database = self._database
        measured = {e.bank_version: e.tasks for e in evaluations if e.published}  # the later one counts
        if report.version is None:
            return report

        def heldout(task: TaskId) -> HeldoutSet:
            payload = published_job(task, database.jobs).payload
            return self._task_images.heldout(database.tasks.get(task), payload)

        try:
            scorer = self._inspector(database.banks.load(report.version))
        except StreamAdError as error:  # the report needs no weights, its pictures do
            return replace(report, notes=(*report.notes, f"No example pictures: {error}."))
        return with_pictures(report, measured[report.version], heldout, scorer)
