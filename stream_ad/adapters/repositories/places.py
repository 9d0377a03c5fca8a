"""What is known of places (topic, partition, offset), asked for a whole batch in one statement.

`(topic, partition, offset) IN (...)` makes SQLite read the whole table. So places go in as one JSON parameter, and the
tables are joined to it: the text of the statement never changes, and each place is one search in a primary key.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Integer, TextualSelect, text
from sqlalchemy.orm import Session

from stream_ad.adapters.column_types import FreeText, Headers, PathText, UtcDateTime
from stream_ad.domain.message import Place, Record, captured_at, message_id

Identity = tuple[str, datetime | None]
"""What a record is called and when its picture was taken: together with its place, which record it is."""

WANTED = {
    "sqlite": """
        SELECT key + 1 AS number, json_extract(value, '$[0]') AS topic, json_extract(value, '$[1]') AS "partition",
               json_extract(value, '$[2]') AS "offset"
        FROM json_each(:places)""",
    "postgresql": """
        SELECT number, value->>0 AS topic, CAST(value->>1 AS integer) AS "partition",
               CAST(value->>2 AS bigint) AS "offset"
        FROM jsonb_array_elements(CAST(:places AS jsonb)) WITH ORDINALITY AS given(value, number)""",
}


def _known_statement(dialect: str) -> TextualSelect:
    joined = "\n".join(
        f'LEFT JOIN {table} AS {name} ON {name}.topic = w.topic AND {name}."partition" = w."partition"'
        f' AND {name}."offset" = w."offset"'
        for table, name in (("results", "r"), ("dead_letters", "d"), ("attempts", "a"))
    )
    return text(
        f"""
        SELECT w.number, r.message_id, r.captured_at, d.stage, d.headers, d.timestamp, a.tries
        FROM ({WANTED[dialect]}) AS w
        {joined}"""
    ).columns(
        number=Integer,
        message_id=FreeText,
        captured_at=UtcDateTime,
        stage=FreeText,
        headers=Headers,
        timestamp=UtcDateTime,
        tries=Integer,
    )


KNOWN = {dialect: _known_statement(dialect) for dialect in WANTED}
LOCK = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")


@dataclass(frozen=True, slots=True)
class Known:
    """What is at one place."""

    result: Identity | None = None
    letter: Identity | None = None
    tries: int = 0

    def told(self, identity: Identity) -> bool:
        """Whether this very record has its verdict: a result, or a dead letter."""
        return is_same(identity, self.result) or is_same(identity, self.letter)


def identity(called: str, taken: datetime | None) -> Identity:
    """As the database gives it back."""
    return FreeText.stored(called), taken


def is_same(came: Identity, there: Identity | None) -> bool:
    """Whether both are one record. One whose time nobody knows any more, because its file is gone, goes by its name."""
    return there is not None and came[0] == there[0] and came[1] in (None, there[1])


def identity_of(record: Record) -> Identity:
    return identity(message_id(record), captured_at(record))


def serialise(session: Session, places: Collection[Place]) -> None:
    """Until this transaction ends, no other one is at these partitions.

    SQLite has one writer anyway. In PostgreSQL two scorers that have the same records, as in a rebalance, would both
    see no verdict and both write theirs. The locks are taken in one order, so that nobody waits in a circle.
    """
    if session.get_bind().dialect.name == "postgresql":
        partitions = {f"{topic}/{partition}" for topic, partition, _ in places}
        session.execute(LOCK, {"keys": sorted(map(_lock_key, partitions))})


def known(session: Session, places: Collection[Place]) -> dict[Place, Known]:
    """What is at each of the places."""
    wanted = list(places)
    statement = KNOWN[session.get_bind().dialect.name]
    given = json.dumps([(PathText.stored(topic), partition, offset) for topic, partition, offset in wanted])
    found: dict[Place, Known] = {}
    for number, called, taken, stage, headers, timestamp, tries in session.execute(statement, {"places": given}):
        topic, partition, offset = place = wanted[number - 1]
        letter = None
        if stage is not None:
            record = Record(
                topic=topic,
                partition=partition,
                offset=offset,
                key=None,
                value=None,
                headers=headers,
                timestamp=timestamp,
            )
            letter = identity_of(record)
        found[place] = Known(
            result=None if called is None else (called, taken),
            letter=letter,
            tries=tries or 0,
        )
    return found


def _lock_key(partition: str) -> int:
    digest = hashlib.sha256(partition.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], signed=True)
