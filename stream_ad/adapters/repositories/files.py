"""The ledger that makes a folder a stream: every file gets an offset."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, insert, literal, select, update
from sqlalchemy.orm import Session

from stream_ad.adapters.column_types import PathText
from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import FileRow

CHUNK = 500


class SqlFileLedger:
    """`domain.ports.FileLedger` on SQL."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def register(self, topic: str, files: Sequence[tuple[str, str]], at: datetime) -> list[int]:
        if not files:
            return []
        with self._transactions.write() as session:
            _one_writer(session, topic)
            wanted = list(dict.fromkeys(files))
            offsets: dict[tuple[str, str], int] = {}
            for start in range(0, len(wanted), CHUNK):
                for path, sha256, offset in session.execute(
                    select(FileRow.path, FileRow.sha256, FileRow.offset).where(
                        FileRow.topic == topic,
                        # not pairs of path and hash: SQLite would go through every file of the topic
                        FileRow.path.in_({path for path, _ in wanted[start : start + CHUNK]}),
                    )
                ):
                    offsets[path, sha256] = offset
            new = [file for file in wanted if file not in offsets]
            if new:
                offsets.update({file: offset for offset, file in enumerate(new, _next_free(session, topic))})
                session.execute(
                    insert(FileRow),
                    [
                        {
                            "topic": topic,
                            "offset": offsets[file],
                            "path": file[0],
                            "sha256": file[1],
                            "done": False,
                            "at": at,
                        }
                        for file in new
                    ],
                )
            return [offsets[file] for file in files]

    def pending(self, topic: str, limit: int) -> list[tuple[int, str, str]]:
        with self._transactions.read() as session:
            rows = session.execute(
                select(FileRow.offset, FileRow.path, FileRow.sha256)
                .where(FileRow.topic == topic, ~FileRow.done)
                .order_by(FileRow.offset)
                .limit(limit)
            )
            return [(offset, path, sha256) for offset, path, sha256 in rows]

    def known(self, topic: str) -> set[tuple[str, str]]:
        with self._transactions.read() as session:
            rows = session.execute(select(FileRow.path, FileRow.sha256).where(FileRow.topic == topic))
            return {(path, sha256) for path, sha256 in rows}

    def done(self, topic: str, up_to: int) -> None:
        with self._transactions.write() as session:
            session.execute(
                update(FileRow)
                .where(FileRow.topic == topic, FileRow.offset < up_to, ~FileRow.done)
                .values(done=True)
                .execution_options(synchronize_session=False)
            )

    def find(self, topic: str, offset: int) -> tuple[str, str] | None:
        with self._transactions.read() as session:
            row = session.get(FileRow, (topic, offset))
            return None if row is None else (row.path, row.sha256)

    def again(self, topic: str, offset: int) -> int | None:
        with self._transactions.write() as session:
            _one_writer(session, topic)
            row = session.get(FileRow, (topic, offset))
            if row is None or not row.done:
                return None
            # its old offset is behind the source, which would never come back to it
            next_free = _next_free(session, topic)
            session.execute(
                update(FileRow)
                .where(FileRow.topic == topic, FileRow.offset == offset)
                .values(offset=next_free, done=False)
                .execution_options(synchronize_session=False)
            )
            return next_free


def _one_writer(session: Session, topic: str) -> None:
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer anyway
        session.execute(select(func.pg_advisory_xact_lock(func.hashtext(literal(topic, PathText())))))


def _next_free(session: Session, topic: str) -> int:
    last = session.scalars(select(func.max(FileRow.offset)).where(FileRow.topic == topic)).one()
    return 0 if last is None else last + 1
