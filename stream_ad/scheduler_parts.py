"""What a scheduler is made of, from settings: its duties, when they are due, and the lease that it leads by.

The part of `app.py` that knows their concrete classes. Nothing is imported before it is needed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stream_ad.config import Settings
from stream_ad.domain.duty import Found
from stream_ad.domain.ports import Clock
from stream_ad.services.scheduling import Duty, Scheduler, Still

if TYPE_CHECKING:
    from stream_ad.adapters.schedules import Timetable
    from stream_ad.adapters.storage import Database
    from stream_ad.domain.stored import Stored, Wrong
    from stream_ad.services.drift import DriftWatch
    from stream_ad.services.retention import Retention

#: one leader of all schedulers on a database
LEASE = "scheduler"


def scheduler(duties: Sequence[Duty], settings: Settings, database: "Database", clock: Clock) -> Scheduler:
    """One that leads or stands by. Raises: ConfigError: a schedule is none."""
    from stream_ad.services.leadership import Leadership

    wanted = [duty for duty in duties if duty.name in settings.scheduler.schedules()]
    return Scheduler(
        wanted,
        timetable([duty.name for duty in wanted], settings),
        Leadership(database.leases, clock, name=LEASE, lease_s=settings.scheduler.lease_s),
        database.duties,
        clock,
    )


def timetable(names: Sequence[str], settings: Settings) -> "Timetable":
    """When these duties are due. Raises: ConfigError: a schedule is none."""
    from stream_ad.adapters.schedules import Schedule, Timetable, time_zone

    zone, schedules = time_zone(settings.scheduler.timezone), settings.scheduler.schedules()
    return Timetable({name: Schedule(schedules[name], zone) for name in names if name in schedules})


def duties(
    settings: Settings,
    database: "Database",
    clock: Clock,
    *,
    discover: Callable[[Still], Found],
    retention: "Retention",
    write_report: Callable[[], Sequence[Path]],
) -> list[Duty]:
    """Everything that comes again and again, whether settings have a schedule for it or not."""

    def discovery(still: Still) -> Found:
        if not settings.discovery.enabled:
            return Found("pictures of unknown products are not kept (discovery.enabled)", news=False)
        return discover(still)

    def evaluation(still: Still) -> Found:
        from stream_ad.services.duties import queue_evaluation

        return queue_evaluation(database.tasks, database.banks, clock)

    def sweep(still: Still) -> Found:
        from stream_ad.services.duties import sweep_jobs

        return sweep_jobs(database.jobs, clock)

    def prune(still: Still) -> Found:
        from stream_ad.services import duties

        return duties.prune(retention, still)

    def verification(still: Still) -> Found:
        from stream_ad.services.verification import verify

        return verify(stored(settings, database), database.audit, clock, still)

    def report(still: Still) -> Found:
        from stream_ad.services import duties

        return duties.report(write_report)

    return [
        Duty("discovery", "group pictures of unknown products, propose new ones", discovery),
        Duty("evaluation", "measure the active bank again, by a job", evaluation),
        Duty(
            "drift",
            "compare results with what they were, propose to adapt again",
            drift_watch(settings, database, clock).look,
        ),
        Duty("sweep", "queue or end jobs of workers that died", sweep),
        Duty("retention", "delete what is beyond the bounds", prune),
        Duty("verification", "read all that is stored by its hash", verification),
        Duty("report", "write the report on forgetting", report),
    ]


def stored(settings: Settings, database: "Database") -> "list[Stored]":
    """Everything that is stored by its hash."""
    from stream_ad.adapters.database import Transactions
    from stream_ad.adapters.decode import decode
    from stream_ad.adapters.stored_files import (
        StoredBanks,
        StoredEntries,
        StoredFeedback,
        StoredSharedWeights,
        StoredUnknown,
    )

    transactions = Transactions(database.engine)
    decoded = partial(decode, max_pixels=settings.stream.max_pixels, grey_bits=settings.backbone.grey_bits)
    return [
        StoredBanks(transactions),
        StoredEntries(transactions, database.entries.path),
        StoredSharedWeights(transactions, database.entries.made_with, partial(damage_of_weights, settings)),
        StoredFeedback(transactions, settings.feedback_dir),
        StoredUnknown(transactions, settings.unknown_dir, decoded),
    ]


def damage_of_weights(settings: Settings, detector: str, sha256: str) -> "Wrong | None":
    """What is wrong with the shared weights of this hash, which entries of the detector name; None: nothing."""
    from stream_ad.detectors.shared_weights import folder_for, kind_of, load
    from stream_ad.domain.stored import Wrong
    from stream_ad.errors import WeightsError

    kind = kind_of(detector)
    folder = folder_for(kind, sha256, settings.detector.shared.get(kind), settings.weights_dir)
    advice = "restore it from a backup, or learn its tasks again"
    if not folder.is_dir():
        return Wrong(str(folder), f"the folder is gone; {advice}", missing=True)
    try:
        came = load(folder).sha256
    except WeightsError as error:
        return Wrong(str(folder), str(error), missing=False)
    return None if came == sha256 else Wrong(str(folder), f"its weights have the hash {came}; {advice}", missing=False)


def drift_watch(settings: Settings, database: "Database", clock: Clock) -> "DriftWatch":
    """What compares results with what they were."""
    from stream_ad.services.drift import DriftOptions, DriftWatch

    return DriftWatch(database.drift, database.entries, clock, DriftOptions(**settings.drift.model_dump()))


def drifting(settings: Settings, database: "Database") -> list[str]:
    """Tasks of the active bank that no longer look as they did."""
    from stream_ad.services.drift import drifted

    active = database.drift.entries()
    return [
        task
        for task, state in database.drift.states().items()
        if active.get(task) == state.entry_sha256 and drifted(state, settings.drift.windows_in_a_row)
    ]
