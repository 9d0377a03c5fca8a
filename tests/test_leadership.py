# ruff: noqa: F811 (a fixture is imported, then named as an argument)
"""One leads, the others stand by, whatever anybody does to the time of day."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storage_kit import NOON, after, database, url  # noqa: F401

from stream_ad.adapters.in_memory import ManualClock
from stream_ad.adapters.storage import Database
from stream_ad.adapters.tables import LeaseRow
from stream_ad.domain.duty import Found, Lease
from stream_ad.errors import LeadershipLost, Unavailable
from stream_ad.services.leadership import STOPS_AFTER, Leadership
from tests.scheduler_kit import Leases

LEASE_S = 20.0


def candidate(leases: Leases, clock: ManualClock, holder: str) -> Leadership:
    return Leadership(leases, clock, name="scheduler", lease_s=LEASE_S, holder=holder)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def test_the_first_leads_and_the_second_stands_by(clock):
    leases = Leases()
    first, second = candidate(leases, clock, "a"), candidate(leases, clock, "b")
    assert first.seek()
    assert not second.seek()
    assert (first.leads, second.leads, second.leader) == (True, False, "a")


def test_a_leader_that_prolongs_is_never_followed(clock):
    leases = Leases()
    first, second = candidate(leases, clock, "a"), candidate(leases, clock, "b")
    first.seek()
    for _ in range(50):
        clock.sleep(first.every_s)
        assert first.seek()
        assert not second.seek()


def test_a_silent_leader_is_followed_after_the_lease_and_has_stopped_before(clock):
    leases = Leases()
    first, second = candidate(leases, clock, "a"), candidate(leases, clock, "b")
    first.seek()
    second.seek()
    clock.sleep(STOPS_AFTER * LEASE_S)
    assert not first.leads
    with pytest.raises(LeadershipLost):
        first.check()
    assert not second.seek()
    clock.sleep((1 - STOPS_AFTER) * LEASE_S)
    assert second.seek()
    assert not first.seek()
    assert first.leader == "b"


def test_a_leader_that_is_late_leads_on_if_nobody_followed(clock):
    first = candidate(Leases(), clock, "a")
    first.seek()
    clock.sleep(10 * LEASE_S)
    assert not first.leads
    assert first.seek()
    assert first.leads


def test_a_leader_that_resigns_is_followed_at_once(clock):
    leases = Leases()
    first, second = candidate(leases, clock, "a"), candidate(leases, clock, "b")
    first.seek()
    second.seek()
    first.resign()
    assert not first.leads
    assert second.seek()


def test_a_leader_that_slept_with_its_machine_is_told_by_the_database(clock):
    leases = Leases()
    first, second = candidate(leases, clock, "a"), candidate(leases, ManualClock(NOON), "b")
    first.seek()
    second.seek()
    other_time = second._clock
    assert isinstance(other_time, ManualClock)
    other_time.sleep(LEASE_S)  # passed for the other machine alone
    assert second.seek()
    assert first.leads  # by its own clock
    assert not first.confirmed()
    assert not first.leads


@pytest.mark.parametrize("jump_s", [-86_400.0, -1.0, 1.0, 86_400.0])
def test_setting_the_time_of_day_neither_ends_nor_prolongs_a_lease(clock, jump_s):
    leases = Leases()
    first, second = candidate(leases, clock, "a"), candidate(leases, clock, "b")
    first.seek()
    second.seek()
    clock.set_by(jump_s)
    assert first.leads
    assert not second.seek()
    clock.sleep(LEASE_S)
    assert not first.leads
    assert second.seek()


def test_a_database_that_is_away_lets_a_leader_lead_until_its_lease_is_over(clock):
    leases = Leases()
    first = candidate(leases, clock, "a")
    first.seek()
    leases.away = True
    with pytest.raises(Unavailable):
        first.seek()
    assert first.leads
    clock.sleep(STOPS_AFTER * LEASE_S)
    assert not first.leads
    leases.away = False
    assert first.seek()


def test_a_prolonging_whose_answer_was_lost_is_not_a_lost_lease(clock):
    leases = Leases()
    first = candidate(leases, clock, "a")
    leases.answers_are_lost = True
    with pytest.raises(Unavailable):
        first.seek()
    leases.answers_are_lost = False
    assert first.seek()
    leases.answers_are_lost = True
    with pytest.raises(Unavailable):
        first.seek()
    leases.answers_are_lost = False
    assert first.seek()


ACTS = st.tuples(
    st.integers(0, 2), st.sampled_from(["seek", "confirm", "resign"]), st.floats(0.1, 12.0), st.floats(-5000, 5000)
)


@given(st.lists(ACTS, max_size=60), st.lists(st.booleans(), min_size=60, max_size=60))
def test_never_two_lead_whatever_happens(acts, away):
    leases, clock = Leases(), ManualClock(NOON)
    all_of_them = [candidate(leases, clock, name) for name in "abc"]
    for (who, act, pause_s, jump_s), gone in zip(acts, away, strict=False):
        leases.away = gone
        one = all_of_them[who]
        with contextlib.suppress(Unavailable):
            {"seek": one.seek, "confirm": one.confirmed, "resign": one.resign}[act]()
        assert sum(one.leads for one in all_of_them) <= 1
        clock.set_by(jump_s)
        clock.sleep(pause_s)
        assert sum(one.leads for one in all_of_them) <= 1


# --- on databases ---------------------------------------------------------------------------------


def test_a_lease_is_taken_only_as_it_was_seen(database: Database) -> None:
    leases = database.leases
    assert leases.read("scheduler") is None
    first = leases.take("scheduler", "a", seen=None, until=after(20))
    assert first is not None
    assert (first.holder, first.beat, first.until) == ("a", 1, after(20))
    assert leases.read("scheduler") == first
    assert leases.take("scheduler", "b", seen=None, until=after(20)) is None
    second = leases.take("scheduler", "a", seen=first, until=after(25))
    assert second is not None
    assert second.beat == 2
    assert leases.take("scheduler", "b", seen=first, until=after(30)) is None
    leases.drop(first)  # it is not that any more
    assert leases.read("scheduler") == second
    leases.drop(second)
    assert leases.read("scheduler") is None


def test_of_many_that_seek_at_once_one_leads(database: Database) -> None:
    names = [f"scheduler {number}" for number in range(8)]
    ready = threading.Barrier(len(names))

    def seek(name: str) -> bool:
        one = Leadership(database.leases, ManualClock(NOON), name="scheduler", lease_s=LEASE_S, holder=name)
        ready.wait()
        return one.seek()

    with ThreadPoolExecutor(len(names)) as pool:
        assert sorted(pool.map(seek, names)) == [False] * 7 + [True]


def test_of_many_that_follow_a_silent_leader_one_does(database: Database) -> None:
    database.leases.take("scheduler", "dead", seen=None, until=NOON)
    names = [f"scheduler {number}" for number in range(8)]
    ready = threading.Barrier(len(names))

    def follow(name: str) -> bool:
        clock = ManualClock(datetime.now(UTC))
        one = Leadership(database.leases, clock, name="scheduler", lease_s=LEASE_S, holder=name)
        assert not one.seek()
        clock.sleep(LEASE_S)
        ready.wait()
        return one.seek()

    with ThreadPoolExecutor(len(names)) as pool:
        assert sorted(pool.map(follow, names)) == [False] * 7 + [True]


def test_a_duty_remembers_how_it_went(database: Database) -> None:
    duties = database.duties
    assert duties.all() == {}
    begun = duties.begin("sweep", "a", NOON)
    assert (begun.started_at, begun.ended_at, begun.tries) == (NOON, None, 1)
    assert duties.end("sweep", "a", Found("two jobs", {"jobs": 2}), after(1), failed=False)
    (run,) = duties.all().values()
    assert (run.ended_at, run.outcome, run.figures, run.good_at, run.failed) == (
        after(1),
        "two jobs",
        {"jobs": 2},
        after(1),
        False,
    )
    duties.begin("sweep", "a", after(30))
    assert duties.end("sweep", "a", Found("the disk is gone"), after(31), failed=True)
    (run,) = duties.all().values()
    assert (run.failed, run.outcome, run.good_at, run.figures) == (True, "the disk is gone", after(1), {"jobs": 2})


def test_a_duty_that_was_not_ended_counts_its_tries_and_is_the_next_leaders(database: Database) -> None:
    duties = database.duties
    duties.begin("verification", "a", NOON)
    assert duties.begin("verification", "b", after(20)).tries == 2
    assert not duties.end("verification", "a", Found("too late"), after(21), failed=False)
    assert duties.all()["verification"].ended_at is None
    assert duties.end("verification", "b", Found("good"), after(22), failed=False)
    assert duties.begin("verification", "b", after(30)).tries == 1


@pytest.mark.needs_postgres
def test_a_leader_that_is_stopped_while_it_writes_keeps_nobody_from_following(ready_postgres, tmp_path, monkeypatch):
    from stream_ad.adapters.repositories import leases

    hangs, at_it = threading.Event(), threading.Event()
    lease_of = leases._lease_of

    def hang(row: LeaseRow) -> Lease:
        """Between the change and its commit, the row is locked."""
        if threading.current_thread() is stopped:
            at_it.set()
            hangs.wait(60)
        return lease_of(row)

    with Database(ready_postgres, tmp_path / "entries") as database:
        first = database.leases.take("scheduler", "a", seen=None, until=NOON)
        assert first is not None
        broke = []

        def prolong() -> None:
            try:
                database.leases.take("scheduler", "a", seen=first, until=NOON)
            except Unavailable as error:
                broke.append(error)

        monkeypatch.setattr(leases, "_lease_of", hang)
        stopped = threading.Thread(target=prolong)
        stopped.start()
        assert at_it.wait(30)
        # waits until the server gives up on "a"
        followed = database.leases.take("scheduler", "b", seen=first, until=NOON)
        assert followed is not None
        assert followed.holder == "b"
        hangs.set()
        stopped.join(30)
        assert len(broke) == 1
