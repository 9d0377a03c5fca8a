"""Verdicts, dead letters and what is still to be sent: all of one batch in one transaction.

Each record is in the database exactly once, as a result or as a dead letter, however often it comes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import AttemptRow, Base, DeadLetterRow, OutboxRow, ResultRow
from stream_ad.domain.message import DeadLetter, OutboxMessage, Place, Record, Standing
from stream_ad.domain.result import InspectionResult
from stream_ad.domain.task import TaskId

PLACE = ("topic", "partition", "offset")
#: rows per statement, below SQLite's limit of variables
CHUNK = 500


class SqlResultRepository:
    """`domain.ports.ResultRepository` on SQL."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def begin(self, records: Sequence[Record], at: datetime) -> list[Standing]:
        standings = []
        with self._transactions.write() as session:
            for record in records:
                done = any(session.get(table, record.place) is not None for table in (ResultRow, DeadLetterRow))
                row = session.get(AttemptRow, record.place)
                standings.append(Standing(done=done, tries=0 if row is None else row.tries))
                if done:
                    continue
                if row is None:
                    topic, partition, offset = record.place
                    session.add(AttemptRow(topic=topic, partition=partition, offset=offset, tries=1, at=at))
                else:
                    row.tries, row.at = row.tries + 1, at
        return standings

    def release(self, places: Sequence[Place]) -> None:
        with self._transactions.write() as session:
            for place in places:
                row = session.get(AttemptRow, place)
                if row is not None and row.tries > 1:
                    row.tries -= 1
                elif row is not None:
                    session.delete(row)

    def save_batch(
        self,
        results: Sequence[InspectionResult],
        dead_letters: Sequence[DeadLetter],
        outbox: Sequence[OutboxMessage],
    ) -> None:
        # by place: of two with the same one the later stays
        scored = {(r.topic, r.partition, r.offset): asdict(r) for r in results}
        dead = {(d.record.topic, d.record.partition, d.record.offset): _dead_values(d) for d in dead_letters}
        with self._transactions.write() as session:
            _delete(session, AttemptRow, [*scored, *dead])
            _delete(session, DeadLetterRow, scored)
            _delete(session, ResultRow, dead)
            _upsert(session, ResultRow, list(scored.values()))
            _upsert(session, DeadLetterRow, list(dead.values()))
            _add_outbox(session, outbox)

    def outbox(self, limit: int) -> list[tuple[int, OutboxMessage]]:
        with self._transactions.read() as session:
            return [
                (
                    row.row,
                    OutboxMessage(
                        id=row.message_id, channel=row.channel, key=row.key, value=row.value, headers=row.headers
                    ),
                )
                for row in session.scalars(select(OutboxRow).order_by(OutboxRow.row).limit(limit))
            ]

    def relayed(self, rows: Sequence[int]) -> None:
        with self._transactions.write() as session:
            for start in range(0, len(rows), CHUNK):
                session.execute(delete(OutboxRow).where(OutboxRow.row.in_(rows[start : start + CHUNK])))

    def recent(self, limit: int) -> list[InspectionResult]:
        newest = select(ResultRow).order_by(
            ResultRow.scored_at.desc(), ResultRow.topic, ResultRow.partition, ResultRow.offset.desc()
        )
        with self._transactions.read() as session:
            return [_result(row) for row in session.scalars(newest.limit(limit))]

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The latest, newest first."""
        newest = select(DeadLetterRow).order_by(
            DeadLetterRow.at.desc(), DeadLetterRow.topic, DeadLetterRow.partition, DeadLetterRow.offset.desc()
        )
        with self._transactions.read() as session:
            return [_dead_letter(row) for row in session.scalars(newest.limit(limit))]


def _dead_values(letter: DeadLetter) -> dict[str, Any]:
    record = letter.record
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key,
        "value": record.value,
        "headers": record.headers,
        "timestamp": record.timestamp,
        "stage": letter.stage,
        "error_class": letter.error_class,
        "reason": letter.reason,
        "trace": letter.trace,
        "attempts": letter.attempts,
        "at": letter.at,
    }


def _delete(session: Session, table: type[ResultRow | DeadLetterRow | AttemptRow], places: Iterable[Place]) -> None:
    wanted = list(places)
    for start in range(0, len(wanted), CHUNK):
        place = tuple_(table.topic, table.partition, table.offset)
        session.execute(
            delete(table).where(place.in_(wanted[start : start + CHUNK])).execution_options(synchronize_session=False)
        )


def _upsert(session: Session, table: type[Base], rows: list[dict[str, Any]], **on_conflict: Any) -> None:
    """Insert, or overwrite what has the same place; `on_conflict` gives columns that are not overwritten."""
    if not rows:
        return
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    new = {name: statement.excluded[name] for name in rows[0] if name not in PLACE}
    session.execute(statement.on_conflict_do_update(index_elements=PLACE, set_={**new, **on_conflict}), rows)


def _add_outbox(session: Session, messages: Sequence[OutboxMessage]) -> None:
    """A repeat replaces its message under a new row number, so a relay of the old row cannot delete it unsent."""
    latest = {(message.channel, message.id): message for message in messages}
    if not latest:
        return
    keys = list(latest)
    for start in range(0, len(keys), CHUNK):
        session.execute(
            delete(OutboxRow)
            .where(tuple_(OutboxRow.channel, OutboxRow.message_id).in_(keys[start : start + CHUNK]))
            .execution_options(synchronize_session=False)
        )
    session.execute(
        insert(OutboxRow),
        [
            {"channel": m.channel, "message_id": m.id, "key": m.key, "value": m.value, "headers": m.headers}
            for m in latest.values()
        ],
    )


def _result(row: ResultRow) -> InspectionResult:
    return InspectionResult(
        message_id=row.message_id,
        topic=row.topic,
        partition=row.partition,
        offset=row.offset,
        camera=row.camera,
        declared_product=row.declared_product,
        task=None if row.task is None else TaskId(row.task),
        detector=row.detector,
        score=row.score,
        p_value=row.p_value,
        threshold=row.threshold,
        verdict=row.verdict,
        bank_version=row.bank_version,
        features=row.features,
        margin=row.margin,
        alarm=row.alarm,
        latency_ms=row.latency_ms,
        scored_at=row.scored_at,
        overlay=row.overlay,
        captured_at=row.captured_at,
        traceparent=row.traceparent,
    )


def _dead_letter(row: DeadLetterRow) -> DeadLetter:
    record = Record(
        topic=row.topic,
        partition=row.partition,
        offset=row.offset,
        key=row.key,
        value=row.value,
        headers=row.headers,
        timestamp=row.timestamp,
    )
    return DeadLetter(
        record=record,
        stage=row.stage,
        error_class=row.error_class,
        reason=row.reason,
        at=row.at,
        trace=row.trace,
        attempts=row.attempts,
    )
