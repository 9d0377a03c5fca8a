"""What only a server does: it restarts, ends connections, keeps writers waiting, and becomes a standby."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url
from storage_kit import NOON, dead_letter, record, result, told

from stream_ad.adapters.database import Transactions, open_database
from stream_ad.adapters.repositories.places import serialise
from stream_ad.adapters.storage import Database
from stream_ad.errors import DatabaseError, Unavailable

pytestmark = pytest.mark.needs_postgres


@pytest.fixture
def database(ready_postgres: str, tmp_path: Path) -> Iterator[Database]:
    with Database(ready_postgres, tmp_path / "entries") as opened:
        yield opened


@pytest.fixture
def admin(ready_postgres: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(ready_postgres, autocommit=True) as connection:
        yield connection


END_ALL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""


def test_connections_that_the_server_ended_are_made_anew(database: Database, admin: psycopg.Connection) -> None:
    database.results.save_batch([result(0)], [], [])
    admin.execute(END_ALL)
    database.results.save_batch([result(1)], [], [])
    assert [r.offset for r in database.results.recent(9)] == [1, 0]


def test_a_transaction_that_is_cut_off_wrote_nothing(database: Database, admin: psycopg.Connection) -> None:
    def cut_off() -> None:
        with Transactions(database.engine).write() as session:
            session.connection().exec_driver_sql("DELETE FROM active_bank")
            admin.execute(END_ALL)
            session.connection().exec_driver_sql("DELETE FROM active_bank")

    with pytest.raises(Unavailable, match="try again"):
        cut_off()
    assert database.banks.active_version() == 0


def test_a_writer_that_waits_too_long_may_try_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ad.adapters.database.BUSY_TIMEOUT_MS", 50)
    with Transactions(database.engine).write() as session:
        serialise(session, [record(0).place])
        with pytest.raises(Unavailable, match="lock"):
            database.results.begin([record(0)], NOON)
        database.results.save_batch([result(0, partition=1)], [], [])  # another partition is free
    database.results.save_batch([result(0)], [], [])


def test_a_standby_is_waited_for(database: Database, admin: psycopg.Connection) -> None:
    name = admin.info.dbname
    admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    admin.execute(END_ALL)
    with pytest.raises(Unavailable, match="only be read"):
        database.results.save_batch([result(0)], [], [])
    admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
    admin.execute(END_ALL)
    database.results.save_batch([result(0)], [], [])
    assert database.results.recent(9) == [result(0)]


def test_scorers_that_take_partitions_in_any_order_never_stop_each_other(database: Database) -> None:
    together = threading.Barrier(2)
    trouble: list[Exception] = []

    def score(backwards: bool) -> None:
        together.wait()
        for offset in range(30):
            partitions = sorted(range(8), reverse=backwards)
            try:
                database.results.begin([record(offset, partition=p) for p in partitions], NOON)
                database.results.save_batch([result(offset, partition=p) for p in partitions], [], [])
            except Exception as error:
                trouble.append(error)

    scorers = [threading.Thread(target=score, args=(backwards,)) for backwards in (False, True)]
    for scorer in scorers:
        scorer.start()
    for scorer in scorers:
        scorer.join()
    assert trouble == []


def test_a_server_that_accepts_and_says_nothing_is_given_up(ready_postgres: str) -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = make_url(ready_postgres).set(port=silent.getsockname()[1], query={"connect_timeout": "2"})
        with pytest.raises(DatabaseError, match="check that it runs"):
            open_database(url.render_as_string(hide_password=False), create=False)


def test_a_name_that_has_odd_bytes_finds_its_row(database: Database) -> None:
    odd = record(0, topic="Geh\udce4use")
    letter = dead_letter(record=odd)
    database.results.save_batch([], [letter], [told(0)])
    assert database.results.begin([odd], NOON)[0].done
    assert database.results.dead_letter(odd.place) == letter
