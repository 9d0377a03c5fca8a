"""Which of the processes on one database relays the outbox.

SQLite: a lock on a file beside the database; PostgreSQL: an advisory lock of a connection kept for it. Both are freed
by the system the moment their holder ends, however it ends, so the next process takes over at its next look.
"""

import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, exc

from stream_ad.errors import Unavailable

#: a holder whose machine vanished is noticed by the server after 10 + 3 * 5 s, not after two hours
KEEPALIVES = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
TAKE = "SELECT pg_try_advisory_lock(hashtext('stream-ad relay'), hashtext(current_schema()))"


class RelayLock:
    """Taken by the first who asks, and kept until `close` or the end of the process. Threads may share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._guard = threading.Lock()
        self._file: int | None = None
        self._connection: Connection | None = None
        self._taken = False

    def held(self) -> bool:
        """Whether it is ours, taken now if it was free.

        Raises:
            Unavailable: the database is away; then it is nobody's, or not ours any more.
        """
        with self._guard:
            return self._held_on_file() if self._engine.dialect.name == "sqlite" else self._held_on_server()

    def close(self) -> None:
        with self._guard:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            self._drop_connection()

    def _held_on_file(self) -> bool:
        if self._file is not None:
            return True
        path = Path(f"{self._engine.url.database}-relay")
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise Unavailable(f"could not open {path}: {error.strerror}; check the folder's permissions") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except OSError as error:
            os.close(file)
            raise Unavailable(f"could not lock {path}: {error.strerror}; SQLite needs a local disk") from error
        self._file = file
        return True

    def _held_on_server(self) -> bool:
        try:
            if self._connection is None:
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                self._connection.detach()  # not one of the pool, which would reset it
                for name, value in KEEPALIVES.items():
                    self._connection.exec_driver_sql(f"SET {name} = {value}")
            if self._taken:
                self._connection.exec_driver_sql("SELECT 1")  # the lock is as alive as the connection
            else:
                self._taken = bool(self._connection.exec_driver_sql(TAKE).scalar())
            return self._taken
        except exc.DBAPIError as error:
            self._drop_connection()
            raise Unavailable(f"the database is away, and the lock of the relay with it: {error.orig}") from error

    def _drop_connection(self) -> None:
        self._taken = False
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(exc.DBAPIError):  # the server may be away
                connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")  # now, not when it notices
            with suppress(exc.DBAPIError):
                connection.close()
