# ruff: noqa: F811 (a fixture is imported, then named as an argument)

import multiprocessing
import re
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect
from storage_kit import database, dead_letter, outbox_message, publish, result, url  # noqa: F401

from stream_ad.adapters.database import (
    Transactions,
    check_revision,
    make_engine,
    open_database,
    revision,
    upgrade,
)
from stream_ad.adapters.migrations import alembic_config, head, revisions
from stream_ad.adapters.storage import Database
from stream_ad.adapters.tables import REVISION, Base
from stream_ad.errors import DatabaseError, Unavailable

REVISIONS = revisions()


def migrate_to(url: str, target: str) -> None:
    engine = make_engine(url, create=True)
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, target)
    engine.dispose()


def differences(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection), Base.metadata)


def test_the_tables_name_the_newest_migration() -> None:
    assert head() == REVISION


@pytest.mark.parametrize("start", [None, *REVISIONS])
def test_every_revision_leads_to_the_tables(url: str, start: str | None) -> None:
    if start:
        migrate_to(url, start)
    assert upgrade(url) == head()
    engine = open_database(url, create=False)
    assert differences(engine) == []
    engine.dispose()


def described(engine: Engine, table: str) -> dict[str, Any]:
    """What autogenerate does not compare: checks, foreign keys' actions, conditions of indexes, defaults."""
    seen = inspect(engine)
    return {
        "checks": {(c["name"], re.sub(r"\s", "", c["sqltext"])) for c in seen.get_check_constraints(table)},
        "foreign keys": sorted(map(str, seen.get_foreign_keys(table))),
        "unique": sorted(map(str, seen.get_unique_constraints(table))),
        "indexes": sorted(
            (
                i["name"] or "",
                i["column_names"],
                i["unique"],
                [f"{o}: {v}" for o, v in i.get("dialect_options", {}).items()],
            )
            for i in seen.get_indexes(table)
        ),
        "columns": [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in seen.get_columns(table)],
        "key": seen.get_pk_constraint(table),
    }


def test_constraints_and_conditions_are_those_of_the_tables(tmp_path: Path) -> None:
    migrated = open_database(f"sqlite:///{tmp_path / 'migrated.db'}", create=True)
    direct = create_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    Base.metadata.create_all(direct)
    for table in Base.metadata.tables:
        assert described(migrated, table) == described(direct, table)
    migrated.dispose()
    direct.dispose()


def filled(url: str, folder: Path) -> None:
    with Database(url, folder, create=True) as database:
        publish(database, "nut")
        publish(database, "tile", seed=1)
        database.results.save_batch([result()], [dead_letter(1)], [outbox_message("a")])


def test_an_upgrade_keeps_every_row(url: str, tmp_path: Path) -> None:
    filled(url, tmp_path / "entries")
    upgrade(url)
    with Database(url, tmp_path / "entries") as database:
        assert list(database.banks.load().entries) == ["nut", "tile"]
        assert database.results.recent(9) == [result()]


def test_a_copied_table_keeps_what_refers_to_it(tmp_path: Path) -> None:
    """SQLite changes a table by copying and dropping it; with keys enforced that would delete or fail."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    filled(url, tmp_path / "entries")
    engine = make_engine(url, create=False)
    assert engine.connect().exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()
    upgrade(url)
    engine = make_engine(url, create=False)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM evaluation_images").scalar() == 15
    engine.dispose()


def test_down_and_up_again(url: str) -> None:
    upgrade(url)
    engine = make_engine(url, create=False)
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    engine.dispose()
    assert upgrade(url) == head()


def test_a_fresh_database_is_made_on_the_spot(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.db"
    engine = open_database(f"sqlite:///{path}", create=True)
    assert revision(engine) == head()
    with engine.connect() as connection:
        for pragma, value in {
            "journal_mode": "wal",
            "foreign_keys": 1,
            "busy_timeout": 10_000,
            "synchronous": 2,
        }.items():
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
    engine.dispose()


def test_an_empty_file_is_a_fresh_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch()
    engine = open_database(f"sqlite:///{path}", create=True)
    assert revision(engine) == head()
    engine.dispose()


def open_and_close(url: str) -> str | None:
    engine = open_database(url, create=True)
    found = revision(engine)
    engine.dispose()
    return found


def test_processes_that_start_at_once_share_one_fresh_database(url: str) -> None:
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = [future.result(timeout=120) for future in [pool.submit(open_and_close, url) for _ in range(6)]]
    assert found == [head()] * 6


def refusal(url: str, *, create: bool = False) -> str:
    with pytest.raises(DatabaseError) as caught:
        open_database(url, create=create)
    return str(caught.value)


def test_a_database_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    message = refusal(f"sqlite:///{tmp_path / 'a.db'}")
    assert str(tmp_path / "a.db") in message
    assert "stream-ad init" in message
    assert not (tmp_path / "a.db").exists()


def test_an_older_database_says_what_came_and_how_to_upgrade(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    came = upgrade(url)
    monkeypatch.setattr("stream_ad.adapters.database.REVISION", "9999")
    for create in (False, True):  # never upgraded on the spot: other processes may be running
        assert f"is at revision {came}, this program needs 9999" in refusal(url, create=create)
        assert "stream-ad init" in refusal(url, create=create)


def test_tables_without_a_revision_are_not_ours(url: str) -> None:
    upgrade(url)
    set_revision(url, None)
    assert "another program" in refusal(url)


def test_a_newer_database_asks_for_a_newer_program(url: str) -> None:
    upgrade(url)
    set_revision(url, "9999")
    message = refusal(url)
    assert "9999" in message
    assert head() in message
    assert "newer stream-ad" in message
    with pytest.raises(DatabaseError, match="newer stream-ad"):
        upgrade(url)


def test_an_empty_database_is_of_no_revision(url: str) -> None:
    engine = make_engine(url, create=True)
    with pytest.raises(DatabaseError, match=f"is empty, this program needs {head()}.*stream-ad init"):
        check_revision(engine)
    engine.dispose()


def set_revision(url: str, value: str | None) -> None:
    engine = make_engine(url, create=False)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
        if value:
            connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{value}')")
    engine.dispose()


@pytest.mark.parametrize("create", [False, True])
def test_what_is_no_database_is_left_alone(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes")
    assert "not an SQLite database" in refusal(f"sqlite:///{path}", create=create)
    assert path.read_text() == "not a database, but somebody's notes"


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (id INTEGER)")
    other.close()
    assert "another program" in refusal(f"sqlite:///{path}", create=True)
    with pytest.raises(DatabaseError, match="another program"):
        upgrade(f"sqlite:///{path}")


def test_a_damaged_database_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert str(path) in refusal(f"sqlite:///{path}")


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "another directory" in refusal(f"sqlite:///{tmp_path / 'file' / 'a.db'}", create=True)
    assert "is a directory" in refusal(f"sqlite:///{tmp_path}", create=True)


@pytest.mark.parametrize("wrong", ["stream-ad.db", "mysql://h/db", "sqlite://", "oracle+nothing://h/db"])
def test_an_address_that_is_none_says_what_one_looks_like(wrong: str) -> None:
    assert "sqlite:///" in refusal(wrong, create=True)


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    message = refusal("postgresql://ann:secret@127.0.0.1:1/db")
    assert "secret" not in message
    assert "127.0.0.1" in message


def test_a_table_that_lacks_a_column_is_broken_and_not_waited_for(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path / 'a.db'}", tmp_path, create=True) as database:
        with Transactions(database.engine).write() as session:
            session.connection().exec_driver_sql("ALTER TABLE results DROP COLUMN subject")
        with pytest.raises(DatabaseError, match="stream-ad init"):
            database.results.save_batch([result()], [], [])


def test_a_locked_database_is_unavailable_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ad.adapters.database.BUSY_TIMEOUT_MS", 1)
    with Database(f"sqlite:///{tmp_path / 'a.db'}", tmp_path, create=True) as database:
        with Transactions(database.engine).write():
            with pytest.raises(Unavailable, match="locked"):
                database.results.save_batch([result()], [], [])
            assert database.results.recent(1) == []  # readers do not wait
        database.results.save_batch([result()], [], [])
