"""Opens the database, brings it to the right revision, and gives out transactions.

SQLite (one file, write-ahead log) is the embedded default, PostgreSQL the server. Every reader and writer goes
through `Transactions`, which begins them rightly and turns the driver's errors into ours.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, inspect, make_url
from sqlalchemy.orm import Session

from stream_ad.adapters.column_types import to_json
from stream_ad.adapters.tables import REVISION
from stream_ad.errors import DatabaseError, DataError, Unavailable

#: how long a writer waits for another
BUSY_TIMEOUT_MS = 10_000
#: for libpq, so that a server that is gone without a word is noticed; the address may say otherwise
POSTGRESQL_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
#: what PostgreSQL answers a writer on a standby
READ_ONLY = "25006"
#: ... and one that was stopped in the middle of a transaction (idle_in_transaction_session_timeout)
STOOD_STILL = "25P03"
SQLITE_MAGIC = b"SQLite format 3\0"


def open_database(url: str, *, create: bool) -> Engine:
    """An engine on a database of exactly this program's revision.

    With `create`, a database that is absent or empty is made on the spot; one of an older revision never is
    upgraded here, since other processes may be running on it.

    Raises:
        DatabaseError: it is missing, no database of ours, of another revision, unreachable or not writable.
    """
    engine = make_engine(url, create=create)
    try:
        with _explained(engine):
            if create and _is_empty(engine):
                _migrate(engine)
            check_revision(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def upgrade(url: str) -> str:
    """Create the database or bring it to the newest revision, in one transaction; that revision.

    Raises:
        DatabaseError: as `open_database`, or it is of a newer program.
    """
    engine = make_engine(url, create=True)
    try:
        with _explained(engine):
            current = revision(engine)
            if current is not None or not _is_empty(engine):
                _refuse_strangers(engine, current)
            _migrate(engine)
            return check_revision(engine)
    finally:
        engine.dispose()


def revision(engine: Engine) -> str | None:
    """The revision that the database is at; None: it was never set up."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def check_revision(engine: Engine) -> str:
    """The database's revision, when it is the one that this program needs.

    Raises:
        DatabaseError: it is older, newer, or no database of ours.
    """
    current = revision(engine)
    if current == REVISION:
        return REVISION
    _refuse_strangers(engine, current)
    came = f"is at revision {current}" if current else "is empty"
    raise DatabaseError(
        f"database {shown(engine.url)} {came}, this program needs {REVISION};"
        " stop all stream-ad processes, back it up and run `stream-ad init` to upgrade it"
    )


def make_engine(url: str, *, create: bool) -> Engine:
    """An engine with the right pragmas and transactions, whatever the database's revision.

    Raises:
        DatabaseError: the address is wrong, or there is no database file where one must be.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise DatabaseError(
                f"databases are sqlite or postgresql, got {shown(parsed)}; write e.g. sqlite:///stream-ad.db"
            )
        if parsed.get_backend_name() == "sqlite":
            _check_file(parsed, create=create)
        elif parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")  # SQLAlchemy 2.0 would look for psycopg2
        server = parsed.get_backend_name() == "postgresql"
        patience = {name: value for name, value in POSTGRESQL_PATIENCE.items() if name not in parsed.query}
        engine = create_engine(
            parsed, json_serializer=to_json, pool_pre_ping=server, connect_args=patience if server else {}
        )
    except exc.ArgumentError as error:
        raise DatabaseError(
            f"database address is not understood: {error}; write e.g. sqlite:///stream-ad.db"
        ) from error
    except ModuleNotFoundError as error:
        raise DatabaseError(
            f"the driver of {shown(make_url(url))} is not installed ({error.name});"
            " for PostgreSQL: pip install 'stream-ad[postgres]'"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def sqlite_file(url: str) -> Path | None:
    """The file of an embedded database; None: it is on a server."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def shown(url: URL) -> str:
    """The address without its password."""
    return url.render_as_string(hide_password=True)


class Transactions:
    """Sessions that are one transaction each.

    A writer takes SQLite's write lock at its start (BEGIN IMMEDIATE): what it reads stays true until it commits,
    and it waits for the lock instead of failing when it first writes.

    Raises, from both methods:
        Unavailable: the database is away, or was locked for longer than 10 s. Nothing was written, except when the
            connection broke during the commit itself: then all or nothing was.
        DatabaseError: the file is damaged or has other tables, or the user lacks a right.
        DataError: a value is none that the database can store.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writer = engine.execution_options(stream_ad_writes=True)
        self._careless = engine.execution_options(stream_ad_writes=True, stream_ad_durable=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        with _explained(self.engine, running=True), Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Session]:
        """Not `durable`: a loss of power, though no end of a process, may undo it; it does not wait for the disk."""
        with (
            _explained(self.engine, running=True),
            Session(self._writer if durable else self._careless, expire_on_commit=False) as session,
            session.begin(),
        ):
            connection = session.connection()  # begins now, not at the first statement
            if connection.dialect.name == "postgresql":
                wait = "" if durable else "; SET LOCAL synchronous_commit = off"
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_TIMEOUT_MS}{wait}")
            yield session


def _check_file(url: URL, *, create: bool) -> None:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise DatabaseError(
            f"a database in memory cannot be shared by scorers and workers, got {shown(url)};"
            " name a file, e.g. sqlite:///stream-ad.db"
        )
    path = Path(url.database)
    try:
        if not path.exists():
            if not create:
                raise DatabaseError(f"there is no database at {path}; run `stream-ad init` to make one")
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.is_file():
            raise DatabaseError(f"the database must be a file, {path} is a directory; name a file in it")
        elif path.stat().st_size > 0:
            with path.open("rb") as file:
                if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
                    raise DatabaseError(f"{path} is not an SQLite database; move it away or name another file")
    except OSError as error:
        raise DatabaseError(
            f"the database {path} needs a place that can be written: {error}; choose another directory"
        ) from error


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions by itself, and too late
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    # a source is committed after our commit, so ours must survive a loss of power
    connection.execute("PRAGMA synchronous = FULL")
    give_up = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # changing the mode does not wait for the busy timeout when two processes try at once
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except connection.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("stream_ad_writes", False):
        durable = options.get("stream_ad_durable", True)
        connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")


def _migrate(engine: Engine) -> None:
    from stream_ad.adapters.migrations import migrate

    with engine.connect().execution_options(stream_ad_writes=True) as connection:
        sqlite = engine.dialect.name == "sqlite"
        if sqlite:
            # changing a table means copying it, dropping the old one and renaming; with keys enforced the drop
            # would fail or cascade. Off only outside a transaction, so checked at its end
            _pragma_outside(connection, "foreign_keys = OFF")
        try:
            with connection.begin():
                if not sqlite:  # two programs starting at once
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7241)")
                migrate(connection)
                if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()):
                    raise DatabaseError(
                        f"upgrading {shown(engine.url)} would break references of {len(broken)} rows"
                        f" (first: {broken[0]}); nothing was changed, please report this"
                    )
        finally:
            if sqlite:
                _pragma_outside(connection, "foreign_keys = ON")


def _pragma_outside(connection: Connection, pragma: str) -> None:
    """Set a pragma past SQLAlchemy, which would begin a transaction, in which SQLite ignores this one."""
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _is_empty(engine: Engine) -> bool:
    return set(inspect(engine).get_table_names()) <= {"alembic_version"}


def _refuse_strangers(engine: Engine, current: str | None) -> None:
    from stream_ad.adapters.migrations import revisions

    if current is None and not _is_empty(engine):
        raise DatabaseError(
            f"{shown(engine.url)} holds tables of another program and none of ours; name a database of its own"
        )
    if current is not None and current not in revisions():
        raise DatabaseError(
            f"database {shown(engine.url)} is at revision {current}, which this program does not know (it needs"
            f" {REVISION}): it was written by a newer stream-ad; install that version, or restore a backup"
        )


@contextmanager
def _explained(engine: Engine, *, running: bool = False) -> Iterator[None]:
    """Driver errors as ours: before work starts all are the operator's, later a database may come back."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        where = shown(engine.url)
        if "no such" in reason or "has no column" in reason:
            raise DatabaseError(
                f"database {where} has not the tables it needs: {reason}; run `stream-ad init`"
            ) from error
        if running:
            raise Unavailable(f"database {where} is away: {reason}; try again") from error
        raise DatabaseError(
            f"database {where} cannot be opened: {reason}; check that it runs, the address, and that its"
            " directory exists and can be written"
        ) from error
    except exc.DatabaseError as error:
        if running and getattr(error.orig, "sqlstate", None) == READ_ONLY:
            raise Unavailable(
                f"database {shown(engine.url)} can only be read now: {error.orig}; a standby that takes over does so"
                " for a moment"
            ) from error
        if running and getattr(error.orig, "sqlstate", None) == STOOD_STILL:
            raise Unavailable(
                f"database {shown(engine.url)} ended a transaction that stood still: {error.orig}; nothing was written"
            ) from error
        if isinstance(error, exc.DataError | exc.IntegrityError):
            raise _cannot_store(engine, error.orig) from error
        if isinstance(error, exc.ProgrammingError | exc.InternalError):
            raise DatabaseError(
                f"database {shown(engine.url)} refuses: {error.orig}; check the user's rights and its log"
            ) from error
        raise DatabaseError(
            f"database {shown(engine.url)} is damaged: {error.orig}; restore it from a backup"
        ) from error
    except exc.StatementError as error:
        raise _cannot_store(engine, error.orig) from error
    except (UnicodeError, OverflowError) as error:  # as they come from SQLite's driver
        raise _cannot_store(engine, error) from error


def _cannot_store(engine: Engine, error: BaseException | None) -> DataError:
    return DataError(f"needed values that {shown(engine.url)} can store: {error}; change who sends them")
