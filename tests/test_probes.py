"""When a supervisor starts a scorer or a worker again, and when it waits."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from stream_ad.adapters.ops_server import OpsServer, Probe, host_and_port
from stream_ad.adapters.patience import WithinSeconds
from stream_ad.errors import ConfigError, Unavailable
from stream_ad.services.health import Health
from stream_ad.services.probes import not_alive, not_ready, worker_not_alive, worker_not_ready
from tests.ops_kit import NOON, ask
from tests.stream_kit import GreyInspector, Line

STUCK_S = 60.0


def later(seconds: float):
    return NOON + timedelta(seconds=seconds)


@contextmanager
def served(alive: Probe = lambda: [], ready: Probe = lambda: [], listen: str = "127.0.0.1:0") -> Iterator[str]:
    server = OpsServer(listen, registry=CollectorRegistry(), alive=alive, ready=ready)
    try:
        yield server.address
    finally:
        server.close()


def answers() -> int:
    return 3


def away() -> int:
    raise Unavailable("the database is away: try again")


@pytest.mark.parametrize("what", ["source", "database", "disk", "reference"])
def test_what_is_away_never_kills_a_scorer(what):
    waits = Health(ticked_at=later(3600), waiting_for=what, assigned=False)
    assert not_alive(waits, now=later(3600.5), stuck_s=STUCK_S) == []


def test_a_loop_that_stands_still_is_started_again():
    assert not_alive(Health(ticked_at=NOON), now=later(60), stuck_s=STUCK_S) == []
    (wrong,) = not_alive(Health(ticked_at=NOON), now=later(61), stuck_s=STUCK_S)
    assert "61 s ago" in wrong


def test_a_model_that_hangs_is_started_again_though_the_loop_goes_round():
    hangs = Health(ticked_at=later(100), batch_since=later(39))
    (wrong,) = not_alive(hangs, now=later(100), stuck_s=STUCK_S)
    assert "one batch for 61 s" in wrong
    assert not_alive(hangs, now=later(99), stuck_s=STUCK_S) == []


def test_a_stream_whose_model_hangs_shows_since_when():
    line, entered, let_go, stop = Line(), threading.Event(), threading.Event(), threading.Event()

    class Hanging(GreyInspector):
        def inspect(self, pictures, *, declared, cameras):
            entered.set()
            let_go.wait(60)
            return super().inspect(pictures, declared=declared, cameras=cameras)

    line.put(10)
    stream = line.stream(inspector=Hanging())
    runs = threading.Thread(target=stream.run, args=(stop,))
    runs.start()
    try:
        assert entered.wait(60)
        since = stream.health.batch_since
        assert since is not None
        (wrong,) = not_alive(
            Health(ticked_at=since + timedelta(seconds=61), batch_since=since),
            now=since + timedelta(seconds=61),
            stuck_s=STUCK_S,
        )
        assert "one batch" in wrong
    finally:
        let_go.set()
        stop.set()
        runs.join()
    assert stream.health.batch_since is None
    assert line.scores == {0: 10}


def test_a_scorer_is_ready_with_a_bank_and_a_database_whatever_the_broker_does():
    waits = Health(ticked_at=NOON, waiting_for="source", assigned=False)
    assert not_ready(waits, stopping=False, ask_database=answers) == []


def test_a_scorer_is_not_ready_without_bank_without_database_or_while_it_ends():
    assert not_ready(None, stopping=False, ask_database=answers) == ["the bank is not loaded yet"]
    running = Health(ticked_at=NOON)
    assert not_ready(running, stopping=False, ask_database=away) == ["the database is away: try again"]
    assert len(not_ready(running, stopping=True, ask_database=answers)) == 1
    running.draining = True
    assert len(not_ready(running, stopping=False, ask_database=answers)) == 1
    full = Health(ticked_at=NOON, waiting_for="disk")
    assert "disk" in not_ready(full, stopping=False, ask_database=answers)[0]


def test_a_worker_may_learn_for_hours_but_not_forget_to_look_for_jobs():
    assert worker_not_alive(ticked_at=NOON, busy_since=NOON, now=later(40_000), stuck_s=STUCK_S) == []
    assert worker_not_alive(ticked_at=NOON, busy_since=None, now=later(59), stuck_s=STUCK_S) == []
    assert worker_not_alive(ticked_at=NOON, busy_since=None, now=later(61), stuck_s=STUCK_S)


def test_a_worker_is_ready_while_the_database_answers_and_nobody_stops_it():
    assert worker_not_ready(stopping=False, ask_database=answers) == []
    assert worker_not_ready(stopping=True, ask_database=away) == [
        "it was asked to stop",
        "the database is away: try again",
    ]


def test_probes_answer_200_when_all_is_well_and_503_with_what_is_not():
    wrong: list[str] = []
    with served(alive=lambda: wrong, ready=lambda: ["the bank is not loaded yet"]) as address:
        assert ask(address, "/livez") == (200, "ok\n")
        assert ask(address, "/readyz") == (503, "the bank is not loaded yet\n")
        wrong += ["the loop hangs", "and the model too"]
        assert ask(address, "/livez") == (503, "the loop hangs\nand the model too\n")
        assert ask(address, "/elsewhere")[0] == 404


def test_only_reading_is_answered():
    with served() as address, socket.create_connection(host_and_port(address), timeout=10) as client:
        client.sendall(b"POST /livez HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        assert b"405" in client.recv(100)


def test_a_client_that_says_nothing_holds_up_nobody():
    with served() as address, socket.create_connection(host_and_port(address), timeout=10):
        assert ask(address, "/livez") == (200, "ok\n")


def test_a_port_that_another_process_has_is_refused_with_what_to_do():
    with served() as address, pytest.raises(ConfigError, match=f"got {address} .*every process needs a port"):
        OpsServer(address, registry=CollectorRegistry(), alive=lambda: [], ready=lambda: [])


@pytest.mark.parametrize("listen", ["9108", ":9108", "host:", "host:port", "127.0.0.1:99999", "host:٣"])
def test_an_address_without_host_or_port_is_refused(listen):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        host_and_port(listen)


def test_addresses_of_both_families_are_understood():
    assert host_and_port("[::1]:80") == ("::1", 80)
    assert host_and_port("0.0.0.0:9108") == ("0.0.0.0", 9108)


def test_a_database_that_never_answers_is_given_up_and_never_asked_twice_at_once():
    asked = []
    answer = threading.Event()

    def hangs() -> int:
        asked.append(1)
        answer.wait(60)
        return 7

    patient = WithinSeconds(hangs, within_s=0.01, who="database")
    for _ in range(5):
        with pytest.raises(Unavailable, match="did not answer within"):
            patient()
    assert len(asked) == 1
    answer.set()
    assert WithinSeconds(hangs, within_s=60.0, who="database")() == 7


def test_an_answer_and_an_error_come_through_as_they_are():
    assert WithinSeconds(answers, within_s=60.0, who="database")() == 3
    with pytest.raises(Unavailable, match="is away"):
        WithinSeconds(away, within_s=60.0, who="database")()
