# ruff: noqa: F811 (a fixture is imported, then named as an argument)
"""Schedulers as their operators run them: real processes, of which one leads, whatever becomes of it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage_kit import database, publish, url  # noqa: F401

from stream_ad.adapters.storage import Database
from stream_ad.domain.job import JobKind, JobState
from tests.ops_kit import ask, scrape
from tests.test_operations import Service, running

LEADING = "stream_ad_scheduler_leading"


@contextmanager
def scheduler(place: Path, url: str, **settings: str) -> Iterator[Service]:
    own = {
        "STREAM_AD_DATABASE__URL": url,
        "STREAM_AD_SCHEDULER__LEASE_S": "2",
        "STREAM_AD_SCHEDULER__EVALUATION": "every 1 s",
        "STREAM_AD_SCHEDULER__SWEEP": "every 1 s",
    }
    with running(place, "scheduler", **(own | settings)) as service:
        service.hears("READY=1")
        yield service


def becomes_leader(service: Service) -> str:
    """The name by which it leads, as soon as it does."""
    for message in iter(lambda: service.logs()["message"], None):
        if message.startswith("leading as "):
            return message.removeprefix("leading as ")
    raise AssertionError


def stop_between_two_beats(database: Database, service: Service) -> None:
    """Let a process hang where it is not just writing: SQLite has one writer, and nobody can take its lock away."""

    def beat() -> int:
        lease = database.leases.read("scheduler")
        return 0 if lease is None else lease.beat

    before = beat()
    while beat() == before:
        pass
    service.process.send_signal(signal.SIGSTOP)


def test_when_the_leader_is_killed_the_one_that_stands_by_leads_and_the_night_is_measured_once(
    database: Database, url, tmp_path
) -> None:
    publish(database)
    with scheduler(tmp_path, url) as first:
        name = becomes_leader(first)
        with scheduler(tmp_path, url) as second:
            lease = database.leases.read("scheduler")
            assert lease is not None
            assert lease.holder == name
            assert (scrape(first.address)[LEADING], scrape(second.address)[LEADING]) == (1, 0)
            first.process.kill()
            follower = becomes_leader(second)
            assert follower != name
            assert scrape(second.address)[LEADING] == 1
            while database.duties.all()["evaluation"].leader != follower:
                assert second.process.poll() is None
            jobs = [job for job in database.jobs.all() if job.kind is JobKind.EVALUATE]
            assert [job.state for job in jobs] == [JobState.QUEUED]


def test_a_leader_that_hangs_is_followed_and_stands_by_when_it_comes_back(database: Database, url, tmp_path) -> None:
    # the next beat is two seconds away, and no duty writes
    calm = {"STREAM_AD_SCHEDULER__LEASE_S": "10"} | dict.fromkeys(
        (f"STREAM_AD_SCHEDULER__{name}" for name in ("SWEEP", "EVALUATION", "DRIFT", "RETENTION", "DISCOVERY")), "null"
    )
    with scheduler(tmp_path, url, **calm) as first:
        name = becomes_leader(first)
        with scheduler(tmp_path, url, **calm) as second:
            stop_between_two_beats(database, first)
            follower = becomes_leader(second)
            first.process.send_signal(signal.SIGCONT)
            while scrape(first.address)[LEADING] == 1:
                pass  # it has not looked yet; between two looks no duty begins, as the database is asked first
            lease = database.leases.read("scheduler")
            assert lease is not None
            assert lease.holder == follower != name
            assert ask(first.address, "/readyz") == (200, "ok\n")


def test_a_leader_that_is_stopped_gives_the_lease_up(database: Database, url, tmp_path) -> None:
    with scheduler(tmp_path, url, STREAM_AD_SCHEDULER__LEASE_S="600") as first:
        name = becomes_leader(first)
        while "sweep" not in database.duties.all():
            assert first.process.poll() is None
        first.process.send_signal(signal.SIGTERM)
        first.hears("STOPPING=1")
        assert first.ends() == (0, "")
    assert database.leases.read("scheduler") is None
    assert database.duties.all()["sweep"].leader == name


def test_a_scheduler_tells_its_duties_by_metrics_and_lives_under_systemd(database: Database, url, tmp_path) -> None:
    with scheduler(tmp_path, url, STREAM_AD_SCHEDULER__VERIFICATION="every 1 d") as service:
        becomes_leader(service)
        assert ask(service.address, "/livez") == (200, "ok\n")
        assert service.hears("WATCHDOG=1")
        while "verification" not in database.duties.all() or database.duties.all()["verification"].ended_at is None:
            assert service.process.poll() is None
        samples = scrape(service.address)
        assert samples['stream_ad_duty_failed{duty="verification"}'] == 0
        assert samples['stream_ad_duty_found{duty="verification",what="damaged"}'] == 0
        assert samples['stream_ad_duties_total{duty="verification",outcome="done"}'] == 1
        assert samples["stream_ad_drifting_tasks"] == 0
        assert samples["stream_ad_database_up"] == 1
