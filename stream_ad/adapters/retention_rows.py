"""What may be deleted of the database: old results, dead letters, and the ledger's rows of files that are gone.

A few hundred rows a transaction, so that a scorer never waits long for the lock. An SQLite file does not shrink; its
pages are used again.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, func, select, tuple_

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import AttemptRow, DeadLetterRow, FileRow, ResultRow
from stream_ad.domain.retention import Pruned

CHUNK = 500
MB = 1024**2


class ResultRows:
    """Results, and notes of records whose process died and that never came again. `most` counts rows."""

    name = "results"

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def prune(self, *, before: datetime | None, most: float | None, limit: int, dry_run: bool) -> Pruned:
        with self._transactions.read() as session:
            old = 0 if before is None else _count(session, ResultRow, ResultRow.scored_at < before)
            beyond = 0 if most is None else max(0, _count(session, ResultRow) - int(most))
        wanted = max(old, beyond)
        if dry_run:
            return Pruned(self.name, wanted)
        if before is not None:
            with self._transactions.write() as session:
                session.execute(_quietly(delete(AttemptRow).where(AttemptRow.at < before)))
        count = min(wanted, limit)
        for start in range(0, count, CHUNK):
            oldest = select(ResultRow.topic, ResultRow.partition, ResultRow.offset).order_by(ResultRow.scored_at)
            _delete(self._transactions, ResultRow, oldest.limit(min(CHUNK, count - start)))
        return Pruned(self.name, count, more=count < wanted)


class DeadLetterRows:
    """Dead letters with their bytes, open ones too. `most` counts megabytes of messages."""

    name = "dead letters"

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def prune(self, *, before: datetime | None, most: float | None, limit: int, dry_run: bool) -> Pruned:
        size = func.coalesce(func.length(DeadLetterRow.value), 0)
        row = (DeadLetterRow.topic, DeadLetterRow.partition, DeadLetterRow.offset)
        with self._transactions.read() as session:
            excess = 0.0
            if most is not None:
                excess = (session.scalar(select(func.coalesce(func.sum(size), 0))) or 0) - most * MB
            gone: list[tuple[str, int, int]] = []
            freed, more = 0, False
            oldest = select(*row, size, DeadLetterRow.at).order_by(DeadLetterRow.at, *row).limit(limit + 1)
            for topic, partition, offset, length, at in session.execute(oldest):
                if freed >= excess and (before is None or at >= before):
                    break
                if len(gone) == limit:
                    more = True
                    break
                gone.append((topic, partition, offset))
                freed += length
        if not dry_run:
            for start in range(0, len(gone), CHUNK):
                _delete(self._transactions, DeadLetterRow, gone[start : start + CHUNK])
        return Pruned(self.name, len(gone), freed, more)


class DoneFile(NamedTuple):
    """A file of the watched folder that has a verdict, as the ledger knows it."""

    offset: int
    path: str
    sha256: str
    at: datetime  # when it was registered
    #: a dead letter of it waits for somebody to send it again
    open_letter: bool
    #: the ledger knows later content at the same path
    replaced: bool


class DoneFiles:
    """The ledger's rows that are done, of one watched folder."""

    def __init__(self, transactions: Transactions, topic: str) -> None:
        self._transactions, self._topic = transactions, topic

    def after(self, offset: int, limit: int = CHUNK) -> list[DoneFile]:
        """The next ones by offset, so the oldest first; never the newest of all, which keeps its number taken."""
        later = FileRow.__table__.alias("later")
        newest = select(func.max(FileRow.offset)).where(FileRow.topic == self._topic).scalar_subquery()
        letter = select(DeadLetterRow.offset).where(
            DeadLetterRow.topic == FileRow.topic,
            DeadLetterRow.partition == 0,
            DeadLetterRow.offset == FileRow.offset,
            DeadLetterRow.retried_at.is_(None),
        )
        replaced = select(later.c.offset).where(
            later.c.topic == FileRow.topic, later.c.path == FileRow.path, later.c.offset > FileRow.offset
        )
        rows = (
            select(FileRow.offset, FileRow.path, FileRow.sha256, FileRow.at, letter.exists(), replaced.exists())
            .where(FileRow.topic == self._topic, FileRow.done, FileRow.offset > offset, FileRow.offset < newest)
            .order_by(FileRow.offset)
            .limit(limit)
        )
        with self._transactions.read() as session:
            return [DoneFile(*found) for found in session.execute(rows)]

    def forget(self, offsets: Sequence[int]) -> None:
        """Their files are gone; one that comes back is a new file."""
        for start in range(0, len(offsets), CHUNK):
            with self._transactions.write() as session:
                chosen = FileRow.offset.in_(offsets[start : start + CHUNK])
                session.execute(_quietly(delete(FileRow).where(FileRow.topic == self._topic, FileRow.done, chosen)))


def _count(session: Any, table: type[ResultRow], *where: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(table).where(*where)) or 0


def _delete(transactions: Transactions, table: type[ResultRow | DeadLetterRow], chosen: Any) -> None:
    with transactions.write() as session:
        place = tuple_(table.topic, table.partition, table.offset)
        session.execute(_quietly(delete(table).where(place.in_(chosen))))


def _quietly(statement: Any) -> Any:
    return statement.execution_options(synchronize_session=False)
