"""Verdicts, dead letters and what is still to be sent: all of one batch in one transaction.

Each record is in the database exactly once, as a result or as a dead letter, however often it comes, and the first
verdict stays. Every method costs the same number of statements whatever the batch's size.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, Table, Text, and_, bindparam, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.relay_lock import RelayLock
from stream_ad.adapters.repositories.places import Identity, identity, identity_of, known, serialise
from stream_ad.adapters.tables import AttemptRow, Base, DeadLetterRow, OutboxRow, ResultRow
from stream_ad.domain.message import DeadLetter, OutboxMessage, Place, Record, Standing
from stream_ad.domain.result import RESULT_FIELDS, InspectionResult
from stream_ad.domain.task import TaskId

PLACE = ("topic", "partition", "offset")
Fate = InspectionResult | DeadLetter
"""What a record came to."""


def _table(row: type[Base]) -> Table:
    """The bare table: going past the mapped classes halves the time of a batch."""
    table = row.__table__
    assert isinstance(table, Table)
    return table


RESULTS, LETTERS, ATTEMPTS, OUTBOX = map(_table, (ResultRow, DeadLetterRow, AttemptRow, OutboxRow))


def _at(table: Table) -> ColumnElement[bool]:
    """The row at the place that `_key` gives: one statement that searches the primary key for each of many."""
    return and_(*(table.c[name] == bindparam(f"of_{name}", type_=table.c[name].type) for name in PLACE))


# made once: making a statement takes as long as running it
DELETE = {table: delete(table).where(_at(table)) for table in (RESULTS, LETTERS, ATTEMPTS)}
INSERT = {table: insert(table) for table in (RESULTS, LETTERS)}
END_LAST_TRY = DELETE[ATTEMPTS].where(ATTEMPTS.c.tries == 1)
TAKE_ONE_TRY = update(ATTEMPTS).where(_at(ATTEMPTS), ATTEMPTS.c.tries > 1).values(tries=ATTEMPTS.c.tries - 1)


def _add_tries_statement(dialect: Any) -> Any:
    statement = dialect.insert(ATTEMPTS)
    more = {"tries": ATTEMPTS.c.tries + statement.excluded.tries, "at": statement.excluded.at}
    return statement.on_conflict_do_update(index_elements=PLACE, set_=more)


def _add_outbox_statement() -> Any:
    statement = postgresql.insert(OUTBOX)
    new = {name: statement.excluded[name] for name in ("row", "key", "value", "headers", "has")}
    return statement.on_conflict_do_update(index_elements=("channel", "message_id"), set_=new)


ADD_TRIES = {"sqlite": _add_tries_statement(sqlite), "postgresql": _add_tries_statement(postgresql)}
#: a repeat replaces its message under a new row number, so a relay of the old row cannot delete it unsent
ADD_OUTBOX = {"sqlite": insert(OUTBOX).prefix_with("OR REPLACE"), "postgresql": _add_outbox_statement()}

OLDEST = (
    select(*(OUTBOX.c[name] for name in ("row", "message_id", "channel", "key", "value", "headers", "has")))
    .order_by(OUTBOX.c.row)
    .limit(bindparam("limit", type_=Integer))
)
UNTOUCHED = OLDEST.where(text("has = ''"))  # as the index says it
LACKING = OLDEST.where(~OUTBOX.c.has.contains(bindparam("mark", type_=Text)))
PARTLY_RELAYED = (
    update(OUTBOX)
    .where(OUTBOX.c.row == bindparam("relayed", type_=OUTBOX.c.row.type))
    .values(has=bindparam("names", type_=OUTBOX.c.has.type))
)
RELAYED = delete(OUTBOX).where(OUTBOX.c.row == bindparam("relayed", type_=OUTBOX.c.row.type))


class SqlResultRepository:
    """`domain.ports.ResultRepository` on SQL."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._relay_lock = RelayLock(transactions.engine)

    def close(self) -> None:
        """Let another process relay."""
        self._relay_lock.close()

    def begin(self, records: Sequence[Record], at: datetime) -> list[Standing]:
        if not records:
            return []
        # a try that a loss of power takes back cannot have been what killed the process
        with self._transactions.write(durable=False) as session:
            places = {record.place for record in records}
            serialise(session, places)
            there = known(session, places)
            standings, begun = list[Standing](), Counter[Place]()
            for record in records:
                here = there[record.place]
                done = here.told(identity_of(record))
                standings.append(Standing(done=done, tries=here.tries + begun[record.place]))
                if not done:
                    begun[record.place] += 1
            _add_tries(session, begun, at)
        return standings

    def release(self, places: Sequence[Place]) -> None:
        if not places:
            return
        with self._transactions.write(durable=False) as session:
            serialise(session, places)
            rows = [_key(place) for place in places]
            session.connection().execute(END_LAST_TRY, rows)
            session.connection().execute(TAKE_ONE_TRY, rows)

    def save_batch(
        self,
        results: Sequence[InspectionResult],
        dead_letters: Sequence[DeadLetter],
        outbox: Sequence[OutboxMessage],
    ) -> None:
        fates: dict[Place, Fate] = {}
        for fate in (*results, *dead_letters):
            fates.setdefault(_place(fate), fate)
        with self._transactions.write() as session:
            told = _make_room(session, fates)
            new = [fate for place, fate in fates.items() if place not in told]
            _insert(session, RESULTS, [_result_values(fate) for fate in new if isinstance(fate, InspectionResult)])
            _insert(session, LETTERS, [_dead_values(fate) for fate in new if isinstance(fate, DeadLetter)])
            _add_outbox(session, [message for message in outbox if message.place not in told])

    def may_relay(self) -> bool:
        return self._relay_lock.held()

    def outbox(
        self, limit: int, *, untouched: bool = False, lacking: str | None = None
    ) -> list[tuple[int, OutboxMessage]]:
        statement = UNTOUCHED if untouched else OLDEST if lacking is None else LACKING
        with self._transactions.read() as session:
            rows: Iterable[Any] = session.connection().execute(statement, {"limit": limit, "mark": f"|{lacking}|"})
            return [
                (
                    row,
                    OutboxMessage(
                        id=message_id,
                        channel=channel,
                        key=key,
                        value=value,
                        headers=headers,
                        has=frozenset(filter(None, has.split("|"))),
                    ),
                )
                for row, message_id, channel, key, value, headers, has in rows
            ]

    def relayed(self, rows: Sequence[int]) -> None:
        if rows:
            # undone by a loss of power, it is sent again: at least once
            with self._transactions.write(durable=False) as session:
                session.connection().execute(RELAYED, [{"relayed": row} for row in rows])

    def partly_relayed(self, has: Mapping[int, frozenset[str]]) -> None:
        if has:
            rows = [{"relayed": row, "names": f"|{'|'.join(sorted(names))}|"} for row, names in has.items()]
            with self._transactions.write(durable=False) as session:
                session.connection().execute(PARTLY_RELAYED, rows)

    def recent(self, limit: int) -> list[InspectionResult]:
        newest = select(ResultRow).order_by(
            ResultRow.scored_at.desc(), ResultRow.topic, ResultRow.partition, ResultRow.offset.desc()
        )
        with self._transactions.read() as session:
            return [result_of(row) for row in session.scalars(newest.limit(limit))]

    def dead_letters(self, limit: int, *, open_only: bool = False, stage: str | None = None) -> list[DeadLetter]:
        newest = select(DeadLetterRow).order_by(
            DeadLetterRow.at.desc(), DeadLetterRow.topic, DeadLetterRow.partition, DeadLetterRow.offset.desc()
        )
        if open_only:
            newest = newest.where(DeadLetterRow.retried_at.is_(None))
        if stage is not None:
            newest = newest.where(DeadLetterRow.stage == stage)
        with self._transactions.read() as session:
            return [_dead_letter(row) for row in session.scalars(newest.limit(limit))]

    def open_dead_letters(self, stage: str | None = None) -> list[Place]:
        row = DeadLetterRow
        oldest = select(row.topic, row.partition, row.offset).where(row.retried_at.is_(None))
        if stage is not None:
            oldest = oldest.where(row.stage == stage)
        with self._transactions.read() as session:
            rows = session.execute(oldest.order_by(row.at, row.topic, row.partition, row.offset))
            return [(topic, partition, offset) for topic, partition, offset in rows]

    def dead_letter(self, place: Place) -> DeadLetter | None:
        with self._transactions.read() as session:
            row = session.get(DeadLetterRow, place)
            return None if row is None else _dead_letter(row)

    def retried(self, place: Place, at: datetime) -> bool:
        with self._transactions.write() as session:
            serialise(session, [place])
            row = session.get(DeadLetterRow, place)
            if row is None or row.retried_at is not None:
                return False
            row.retried_at = at
            return True


def _make_room(session: Session, fates: Mapping[Place, Fate]) -> set[Place]:
    """Places whose verdict stays. What stands at the others is deleted, and the tries of all end."""
    if not fates:
        return set()
    serialise(session, fates.keys())
    there = known(session, fates.keys())
    told = {place for place, fate in fates.items() if there[place].told(_identity(fate))}
    others = fates.keys() - told
    _delete(session, ATTEMPTS, [place for place in fates if there[place].tries])
    _delete(session, RESULTS, [place for place in others if there[place].result])
    _delete(session, LETTERS, [place for place in others if there[place].letter])
    return told


def _add_tries(session: Session, begun: Mapping[Place, int], at: datetime) -> None:
    rows = [
        {"topic": topic, "partition": partition, "offset": offset, "tries": tries, "at": at}
        for (topic, partition, offset), tries in begun.items()
    ]
    if rows:
        session.connection().execute(ADD_TRIES[session.get_bind().dialect.name], rows)


def _add_outbox(session: Session, messages: Sequence[OutboxMessage]) -> None:
    latest = {(message.channel, message.id): message for message in messages}
    rows = [
        {"channel": m.channel, "message_id": m.id, "key": m.key, "value": m.value, "headers": m.headers}
        for m in latest.values()
    ]
    if rows:
        session.connection().execute(ADD_OUTBOX[session.get_bind().dialect.name], rows)


def _insert(session: Session, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        session.connection().execute(INSERT[table], rows)


def _delete(session: Session, table: Table, places: Sequence[Place]) -> None:
    if places:
        session.connection().execute(DELETE[table], [_key(place) for place in places])


def _key(place: Place) -> dict[str, Any]:
    return {f"of_{name}": value for name, value in zip(PLACE, place, strict=True)}


def _place(fate: Fate) -> Place:
    return fate.record.place if isinstance(fate, DeadLetter) else (fate.topic, fate.partition, fate.offset)


def _identity(fate: Fate) -> Identity:
    if isinstance(fate, DeadLetter):
        return identity_of(fate.record)
    return identity(fate.message_id, fate.captured_at)


def _result_values(result: InspectionResult) -> dict[str, Any]:
    # not `asdict`, which copies every time and text: half the time of a batch
    return {name: getattr(result, name) for name in RESULT_FIELDS}


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
        "retried_at": letter.retried_at,
    }


def result_of(row: ResultRow) -> InspectionResult:
    """The value of a row."""
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
        subject=row.subject,
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
        retried_at=row.retried_at,
    )
