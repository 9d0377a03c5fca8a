"""The pool of pictures that are of no known product."""

import json
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from sqlalchemy import BigInteger, ColumnElement, delete, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import KeptImageRow
from stream_ad.domain.discovery import PoolBounds
from stream_ad.domain.proposal import KeptImage

#: two scorers that make room at once must not both count what the other deletes
LOCK = text("SELECT pg_advisory_xact_lock(7242)")
FREE = KeptImageRow.proposal_id.is_(None)


class SqlKeptImageRepository:
    """`domain.discovery.KeptImageRepository` on SQL."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def keep(self, images: Sequence[KeptImage], bounds: PoolBounds) -> list[str]:
        # not durable: a picture of the pool that a loss of power takes is one of many
        with self._transactions.write(durable=False) as session:
            if session.get_bind().dialect.name == "postgresql":
                session.execute(LOCK)
            needless = [image.path for image in images if not _add(session, image)]
            for camera in {image.camera for image in images}:
                needless += _let_go(session, KeptImageRow.camera.is_not_distinct_from(camera), bounds.per_camera, None)
            return needless + _let_go(session, None, bounds.images, bounds.size_bytes)

    def all(self) -> list[KeptImage]:
        with self._transactions.read() as session:
            return [_image_of(row) for row in session.scalars(select(KeptImageRow).order_by(KeptImageRow.id))]

    def of(self, proposal_id: int) -> list[KeptImage]:
        with self._transactions.read() as session:
            return images_of(session, proposal_id)

    def drop(self, ids: Sequence[int]) -> list[str]:
        with self._transactions.write(durable=False) as session:
            return _delete(session, ids)

    def paths(self) -> set[str]:
        with self._transactions.read() as session:
            return set(session.scalars(select(KeptImageRow.path)))

    def count(self) -> tuple[int, datetime | None]:
        """Pictures of no proposal, and when the latest came."""
        with self._transactions.read() as session:
            count, latest = session.execute(select(func.count(), func.max(KeptImageRow.at)).where(FREE)).one()
            return count, latest


def images_of(session: Session, proposal_id: int) -> list[KeptImage]:
    """The pictures of a proposal, oldest first."""
    rows = session.scalars(
        select(KeptImageRow).where(KeptImageRow.proposal_id == proposal_id).order_by(KeptImageRow.id)
    )
    return [_image_of(row) for row in rows]


def forget_images(session: Session, proposal_id: int, only: Sequence[int] | None = None) -> list[str]:
    """Take the pictures of a proposal out of the pool, inside a transaction that does more; their files' paths.

    `only` those, by their numbers: others that it has by now are free again.
    """
    own = KeptImageRow.proposal_id == proposal_id
    plain = {"synchronize_session": False}
    if only is None:
        gone = delete(KeptImageRow).where(own).returning(KeptImageRow.path)
        return list(session.scalars(gone.execution_options(**plain)))
    gone = delete(KeptImageRow).where(own, among(session)).returning(KeptImageRow.path)
    paths = list(session.scalars(gone.execution_options(**plain), {"ids": numbers_in(only)}))
    session.execute(update(KeptImageRow).where(own).values(proposal_id=None).execution_options(**plain))
    return paths


def numbers_in(ids: Sequence[int]) -> str:
    """Any count of numbers as one parameter of `among`."""
    return json.dumps([int(id) for id in ids])


def among(session: Session) -> ColumnElement[bool]:
    """The condition that a picture's id is in the JSON list `:ids`: databases bound how many parameters there are."""
    listed = (
        "SELECT value FROM json_each(:ids)"
        if session.get_bind().dialect.name == "sqlite"
        else "SELECT CAST(value AS bigint) FROM jsonb_array_elements_text(CAST(:ids AS jsonb)) AS value"
    )
    return KeptImageRow.id.in_(text(listed))  # pyright: ignore[reportArgumentType]


def _add(session: Session, image: KeptImage) -> bool:
    """Whether the picture was not there yet."""
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    topic, partition, offset = image.place
    statement = (
        dialect.insert(KeptImageRow)
        .values(
            topic=topic,
            partition=partition,
            offset=offset,
            camera=image.camera,
            path=image.path,
            sha256=image.sha256,
            size_bytes=image.size_bytes,
            embedding=np.asarray(image.embedding, dtype="<f4").tobytes(),
            features=image.features,
            at=image.at,
        )
        .on_conflict_do_nothing(index_elements=["sha256"])
        .returning(KeptImageRow.id)
    )
    return session.scalar(statement) is not None


def _let_go(session: Session, which: ColumnElement[bool] | None, most: int, most_bytes: int | None) -> list[str]:
    """Delete the oldest pictures of no proposal that are too many, or whose files are too large; their paths."""
    free = FREE if which is None else FREE & which
    newer = func.sum(KeptImageRow.size_bytes, type_=BigInteger).over(order_by=KeptImageRow.id.desc())
    rank = func.row_number().over(order_by=KeptImageRow.id.desc())
    ranked = select(KeptImageRow.id, rank.label("rank"), newer.label("newer")).where(free).subquery()
    beyond = ranked.c.rank > most
    if most_bytes is not None:
        beyond |= ranked.c.newer > most_bytes
    return _delete(session, list(session.scalars(select(ranked.c.id).where(beyond))))


def _delete(session: Session, ids: Sequence[int]) -> list[str]:
    if not ids:
        return []
    statement = delete(KeptImageRow).where(among(session), FREE).returning(KeptImageRow.path)
    return list(session.scalars(statement.execution_options(synchronize_session=False), {"ids": numbers_in(ids)}))


def _image_of(row: KeptImageRow) -> KeptImage:
    return KeptImage(
        id=row.id,
        place=(row.topic, row.partition, row.offset),
        camera=row.camera,
        path=row.path,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        embedding=np.frombuffer(row.embedding, dtype="<f4").astype(np.float32),
        features=row.features,
        proposal_id=row.proposal_id,
        at=row.at,
    )
