"""When the duties of the scheduler are due: APScheduler with its schedules in memory, which all come from config.yaml.

A schedule is a line of cron ("30 3 * * *": minute, hour, day, month, weekday) or an interval ("every 15 min").
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.executors.pool import ThreadPoolExecutor as Pool
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from tzlocal import get_localzone

from stream_ad.domain.duty import DutyRun
from stream_ad.errors import ConfigError

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
EVERY = re.compile(r"every ([1-9]\d*) ?(s|min|h|d)")
#: a duty that ended none of its last runs has killed its leader so often, and waits for its regular time
TRIES = 3
#: how far ahead of now a last run may lie when somebody has set the time of day; more, and it was wrong then
BELIEVED = timedelta(days=1)


@dataclass(frozen=True)
class Schedule:
    """When something is due. Raises: ConfigError: the text is no schedule."""

    text: str
    zone: tzinfo

    def __post_init__(self) -> None:
        _ = self._trigger  # now, not at its first time

    @property
    def every(self) -> timedelta | None:
        """The interval; None: it is cron's."""
        if (interval := EVERY.fullmatch(self.text)) is None:
            return None
        return timedelta(seconds=float(interval[1]) * UNITS[interval[2]])

    @property
    def _trigger(self) -> Any:
        every = self.every
        try:
            if every is not None:
                return IntervalTrigger(seconds=int(every.total_seconds()), timezone=self.zone)
            return CronTrigger.from_crontab(self.text, timezone=self.zone)
        except (ValueError, OverflowError) as error:
            raise ConfigError(
                f"a schedule is cron's minute, hour, day, month and weekday ('30 3 * * *') or 'every 15 min' (s, min,"
                f" h, d), got {self.text!r}: {error}"
            ) from error

    def due(self, last: DutyRun | None, now: datetime) -> datetime:
        """When it is next due after its last run, not before `now`.

        What was missed meanwhile, or begun and not ended, is due now, once.
        """
        if last is None:
            return now if self.every is not None else self._after(now)
        if last.ended_at is None and last.tries < TRIES:
            return now
        if self.every is not None:
            # a last run in the future was noted before somebody set the time of day back
            return now if last.started_at > now else max(now, last.started_at + self.every)
        if last.started_at > now:
            return self._after(last.started_at if last.started_at <= now + BELIEVED else now)
        return max(now, self._after(last.started_at))

    def _after(self, moment: datetime) -> datetime:
        """The first time of a cron schedule after a moment."""
        found = self._trigger.get_next_fire_time(None, moment.astimezone(self.zone) + timedelta(seconds=1))
        if found is None:
            raise ConfigError(f"the schedule {self.text!r} is never due; e.g. '30 3 * * *' is every night at 3:30")
        return found.astimezone(UTC)


def time_zone(name: str | None) -> tzinfo:
    """The zone of cron's hours; None: the machine's. Raises: ConfigError: there is no such zone."""
    try:
        return get_localzone() if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"scheduler.timezone needs a name such as Europe/Berlin, got {name!r}: {error}") from error


class Timetable:
    """Calls duties when they are due, each in a thread of its own and never twice at once.

    It begins when `start` is called and can begin again after `stop`.
    """

    def __init__(self, schedules: Mapping[str, Schedule]) -> None:
        self.schedules = dict(schedules)
        self._scheduler: BackgroundScheduler | None = None
        # a line for every call is no news, and what a duty says is logged by who does it
        for name in ("apscheduler.scheduler", "apscheduler.executors.default"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def start(self, call: Callable[[str], object], last: Mapping[str, DutyRun], now: datetime) -> None:
        """Call each duty by its name from now on; `last` is how each went the last time."""
        scheduler = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={"default": Pool(max_workers=max(1, len(self.schedules)))},
            # late is better than never, and twice late is once
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
            timezone=UTC,
        )
        for name, schedule in self.schedules.items():
            scheduler.add_job(
                partial(call, name), schedule._trigger, id=name, next_run_time=schedule.due(last.get(name), now)
            )
        scheduler.start()
        self._scheduler = scheduler

    def stop(self) -> None:
        """No duty begins any more; those that run are not waited for."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def next(self, name: str) -> datetime | None:
        """When a duty is due; None: nothing is, as it stands still."""
        job = self._scheduler.get_job(name) if self._scheduler is not None else None
        return None if job is None else job.next_run_time
