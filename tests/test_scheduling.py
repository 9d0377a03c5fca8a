# ruff: noqa: F811 (a fixture is imported, then named as an argument)
"""Duties are done when they are due, by who leads, and what one missed the next one does."""

import threading
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from storage_kit import NOON, after, claim, database, queue, url  # noqa: F401

from stream_ad.adapters.in_memory import ManualClock
from stream_ad.adapters.schedules import TRIES, Schedule, Timetable, time_zone
from stream_ad.adapters.storage import Database
from stream_ad.domain.duty import DutyRun, Found
from stream_ad.domain.job import JobKind, JobState
from stream_ad.errors import ConfigError, LeadershipLost, Unavailable
from stream_ad.services.duties import queue_evaluation, sweep_jobs
from stream_ad.services.leadership import Leadership
from stream_ad.services.scheduling import Duty, Scheduler, Still
from tests.scheduler_kit import Bell, Leases
from tests.storage_kit import publish

LEASE_S = 20.0


def run(started_at: datetime = NOON, ended_at: datetime | None = NOON, tries: int = 1) -> DutyRun:
    return DutyRun(name="sweep", leader="a", started_at=started_at, ended_at=ended_at, tries=tries)


# --- when ---------------------------------------------------------------------------------------------


def test_an_interval_counts_from_the_last_start_whoever_led_then():
    often = Schedule("every 15 min", UTC)
    assert often.due(None, NOON) == NOON
    assert often.due(run(), after(60)) == after(900)
    assert often.due(run(), after(5000)) == after(5000)


def test_a_night_that_was_missed_is_made_up_for_once():
    nightly = Schedule("30 3 * * *", UTC)
    assert nightly.due(None, NOON) == datetime(2026, 3, 2, 3, 30, tzinfo=UTC)
    last = run(datetime(2026, 3, 1, 3, 30, tzinfo=UTC))
    assert nightly.due(last, NOON) == datetime(2026, 3, 2, 3, 30, tzinfo=UTC)
    two_days_later = NOON + timedelta(days=2)
    assert nightly.due(last, two_days_later) == two_days_later
    assert nightly.due(run(two_days_later), two_days_later) == datetime(2026, 3, 4, 3, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["every 15 min", "30 3 * * *"])
def test_what_was_begun_and_not_ended_is_due_now_but_not_for_ever(text):
    schedule = Schedule(text, UTC)
    for tries in range(1, TRIES):
        assert schedule.due(run(ended_at=None, tries=tries), after(1)) == after(1)
    assert schedule.due(run(ended_at=None, tries=TRIES), after(1)) > after(1)


def test_a_time_of_day_that_was_set_back_neither_stops_intervals_nor_repeats_a_night():
    assert Schedule("every 1 h", UTC).due(run(after(7200)), NOON) == NOON
    night = datetime(2026, 3, 2, 3, 30, tzinfo=UTC)
    before_it_again = night - timedelta(minutes=30)
    nightly = Schedule("30 3 * * *", UTC)
    assert nightly.due(run(night), before_it_again) == night + timedelta(days=1)
    # what was noted in a wrong year is not waited for
    assert nightly.due(run(night + timedelta(days=400)), before_it_again) == night


def test_half_past_three_is_there_once_in_every_night_of_the_year():
    nightly = Schedule("30 3 * * *", ZoneInfo("Europe/Berlin"))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    nights = []
    while len(nights) < 365:
        moment = nightly.due(run(moment), moment)
        nights.append(moment.astimezone(ZoneInfo("Europe/Berlin")))
    assert {(night.hour, night.minute) for night in nights} == {(3, 30)}
    assert len({night.date() for night in nights}) == 365


@pytest.mark.parametrize("text", ["every 0 s", "61 3 * * *", "tomorrow", "* * * *", "0 0 * * someday"])
def test_what_is_no_schedule_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"'30 3 \* \* \*'"):
        Schedule(text, UTC)


def test_a_day_that_never_comes_is_refused():
    with pytest.raises(ConfigError, match="never due"):
        Schedule("0 0 31 2 *", UTC).due(None, NOON)


def test_a_zone_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="Europe/Berlin"):
        time_zone("Mars/Olympus")
    assert time_zone(None) is not None


def test_a_timetable_calls_what_is_due_and_nothing_once_it_stands_still():
    called = threading.Event()
    timetable = Timetable({"now": Schedule("every 1 d", UTC), "later": Schedule("every 1 d", UTC)})
    names: list[str] = []

    def call(name: str) -> None:
        names.append(name)
        called.set()

    timetable.start(call, {"later": run(datetime.now(UTC))}, datetime.now(UTC))
    assert called.wait(30)
    assert timetable.next("later") is not None
    timetable.stop()
    assert names == ["now"]
    assert timetable.next("later") is None
    called.clear()
    timetable.start(call, {}, datetime.now(UTC))  # it can begin again
    assert called.wait(30)
    timetable.stop()


# --- who ----------------------------------------------------------------------------------------------


class Line:
    """A scheduler with one duty, and all that it stands on."""

    def __init__(self, database: Database, holder: str = "a", leases: Leases | None = None) -> None:
        self.clock, self.bell, self.leases = ManualClock(NOON), Bell(), leases or Leases()
        self.done: list[str] = []
        self.act = self.plainly
        self.leadership = Leadership(self.leases, self.clock, name="scheduler", lease_s=LEASE_S, holder=holder)
        duty = Duty("sweep", "clean up", lambda still: self.act(still))
        self.scheduler = Scheduler([duty], self.bell, self.leadership, database.duties, self.clock)

    def plainly(self, still: Still) -> Found:
        still()
        self.done.append(self.leadership.holder)
        return Found("clean", {"things": 1})


def test_duties_begin_with_leading_and_end_with_it(database: Database) -> None:
    line = Line(database)
    assert line.bell.call is None
    line.scheduler.tick()
    line.bell.ring("sweep")
    assert line.done == ["a"]
    kept = database.duties.all()["sweep"]
    assert (kept.outcome, kept.figures, kept.failed, kept.leader) == ("clean", {"things": 1}, False, "a")
    line.leases.away = True
    line.clock.sleep(LEASE_S)
    line.scheduler.tick()
    assert line.bell.call is None
    line.leases.away = False
    line.scheduler.tick()
    assert line.bell.last["sweep"].outcome == "clean"


def test_a_duty_whose_leader_was_followed_meanwhile_does_not_begin(database: Database) -> None:
    line = Line(database)
    line.scheduler.tick()
    other = Line(database, "b", line.leases)
    other.scheduler.tick()
    other.clock.sleep(LEASE_S)
    other.scheduler.tick()
    line.bell.ring("sweep")  # it does not know yet
    assert line.done == []
    assert line.scheduler.leads is False
    other.bell.ring("sweep")
    assert other.done == ["b"]


def test_a_duty_stops_where_it_is_when_another_leads_and_that_one_does_it_again(database: Database) -> None:
    line = Line(database)
    line.scheduler.tick()

    def long(still: Still) -> Found:
        line.clock.sleep(LEASE_S)
        still()
        raise AssertionError("it went on")

    line.act = long
    line.bell.ring("sweep")
    assert line.scheduler.counts == {("sweep", "left"): 1}
    left = database.duties.all()["sweep"]
    assert left.ended_at is None
    assert Schedule("every 1 h", UTC).due(left, after(LEASE_S)) == after(LEASE_S)


def test_a_duty_that_fails_is_told_and_the_others_go_on(database: Database, caplog) -> None:
    line = Line(database)
    line.scheduler.tick()

    def bad(still: Still) -> Found:
        raise Unavailable("the disk is away")

    def worse(still: Still) -> Found:
        raise ZeroDivisionError("a bug")

    for act, said in ((bad, "the disk is away"), (worse, "unexpected ZeroDivisionError: a bug")):
        line.act = act
        line.bell.ring("sweep")
        kept = database.duties.all()["sweep"]
        assert (kept.failed, kept.outcome, kept.ended_at) == (True, said, NOON)
        assert said in caplog.text
    line.act = line.plainly
    line.bell.ring("sweep")
    assert database.duties.all()["sweep"].failed is False
    assert line.scheduler.counts == {("sweep", "failed"): 2, ("sweep", "done"): 1}


def test_setting_the_time_of_day_lets_schedules_begin_anew(database: Database) -> None:
    line = Line(database)
    line.scheduler.tick()
    line.clock.sleep(LEASE_S / 5)
    line.scheduler.tick()
    assert line.bell.starts == 1
    line.clock.set_by(-3600.0)
    line.scheduler.tick()
    assert line.bell.starts == 2
    assert line.scheduler.leads


def test_a_duty_is_never_done_twice_at_once(database: Database) -> None:
    line = Line(database)
    line.scheduler.tick()

    def again(still: Still) -> Found:
        line.scheduler.do("sweep")  # as a timetable that began anew would
        return line.plainly(still)

    line.act = again
    line.bell.ring("sweep")
    assert line.done == ["a"]


def test_a_scheduler_that_is_stopped_leaves_its_duty_and_gives_the_lease_up(database: Database) -> None:
    line = Line(database)
    at_it, go_on = threading.Event(), threading.Event()

    def long(still: Still) -> Found:
        at_it.set()
        go_on.wait(30)
        with pytest.raises(LeadershipLost):
            still()
        raise LeadershipLost("left")

    line.act = long
    running = threading.Thread(target=line.scheduler.run)
    running.start()
    while line.bell.call is None:
        assert running.is_alive()
    duty = threading.Thread(target=line.bell.ring, args=("sweep",))
    duty.start()
    assert at_it.wait(30)
    line.scheduler.stop()
    go_on.set()
    running.join(30)
    duty.join(30)
    assert not running.is_alive()
    assert line.leases.rows == {}


def test_a_duty_that_hangs_is_left_behind_and_keeps_the_lease_until_it_is_over(database: Database) -> None:
    line = Line(database)
    hangs, at_it = threading.Event(), threading.Event()

    def hang(still: Still) -> Found:
        at_it.set()
        hangs.wait(60)
        return Found("late")

    line.act = hang
    line.scheduler.tick()
    duty = threading.Thread(target=line.bell.ring, args=("sweep",))
    duty.start()
    assert at_it.wait(30)
    line.scheduler.stop()
    assert line.scheduler.run(drain_s=0.0) is False
    assert line.scheduler.busy == ["sweep"]
    assert line.leases.rows["scheduler"].holder == "a"
    hangs.set()
    duty.join(30)


# --- what ---------------------------------------------------------------------------------------------


def test_the_nightly_evaluation_is_one_open_job_at_a_time(database: Database) -> None:
    clock = ManualClock(after(3600))
    assert "no product" in queue_evaluation(database.tasks, database.banks, clock).text
    publish(database)
    assert "measures bank 1 again" in queue_evaluation(database.tasks, database.banks, clock).text
    (job,) = [job for job in database.jobs.all() if job.state.open]
    assert (job.kind, job.task) == (JobKind.EVALUATE, None)
    assert "is not queued" in queue_evaluation(database.tasks, database.banks, clock).text
    assert len([job for job in database.jobs.all() if job.state.open]) == 1


def test_jobs_of_workers_that_died_are_swept(database: Database) -> None:
    clock = ManualClock(NOON)
    assert not sweep_jobs(database.jobs, clock).news
    job = queue(database)
    for attempt in range(job.max_attempts):
        assert claim(database, at=clock.now()).attempts == attempt + 1
        assert sweep_jobs(database.jobs, clock).figures == {"queued again": 0, "ended": 0}
        clock.sleep(61.0)
        assert not sweep_jobs(database.jobs, clock).news  # the last call: it may only have been out of reach
        clock.sleep(21.0)
        last = attempt + 1 == job.max_attempts
        swept = sweep_jobs(database.jobs, clock)
        assert swept.figures == {"queued again": int(not last), "ended": int(last)}
        assert swept.news
    assert database.jobs.get(job.id).state is JobState.FAILED
