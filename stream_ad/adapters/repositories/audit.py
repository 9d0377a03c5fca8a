"""Who did what, and why."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import AuditRow


class SqlAuditRepository:
    """The record of people's and workers' decisions, only ever added to."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def write(
        self, *, at: datetime, who: str, action: str, subject: str, reason: str, details: Mapping[str, Any]
    ) -> None:
        with self._transactions.write() as session:
            write_audit(session, at=at, who=who, action=action, subject=subject, reason=reason, details=details)

    def recent(self, limit: int) -> list[Mapping[str, Any]]:
        """The latest rows, newest first: at, who, action, subject, reason, details."""
        with self._transactions.read() as session:
            return [
                {
                    "at": row.at,
                    "who": row.who,
                    "action": row.action,
                    "subject": row.subject,
                    "reason": row.reason,
                    "details": row.details,
                }
                for row in session.scalars(select(AuditRow).order_by(AuditRow.id.desc()).limit(limit))
            ]


def write_audit(
    session: Session,
    *,
    at: datetime,
    who: str,
    action: str,
    subject: str,
    reason: str,
    details: Mapping[str, Any],
) -> None:
    """Add a row within the transaction that does what it tells of."""
    session.add(AuditRow(at=at, who=who, action=action, subject=subject, reason=reason, details=dict(details)))
    session.flush()
