"""All that is kept, opened in one call."""

from pathlib import Path
from types import TracebackType

from sqlalchemy import Engine

from stream_ad.adapters.arrays import FileEntryStore
from stream_ad.adapters.database import Transactions, open_database
from stream_ad.adapters.repositories import (
    SqlAuditRepository,
    SqlBankRepository,
    SqlDriftRepository,
    SqlDutyRepository,
    SqlEvaluationRepository,
    SqlFeedbackRepository,
    SqlFileLedger,
    SqlJobRepository,
    SqlKeptImageRepository,
    SqlLeaseRepository,
    SqlProposalRepository,
    SqlResultRepository,
    SqlTaskRepository,
)
from stream_ad.adapters.repositories.jobs import MAX_ATTEMPTS


class Database:
    """Every repository on one database and one folder of entries. Threads may share it, processes may not.

    `max_attempts` is given to the jobs of new tasks.

    Raises:
        DatabaseError: as `open_database`.
    """

    def __init__(self, url: str, entries: Path, *, create: bool = False, max_attempts: int = MAX_ATTEMPTS) -> None:
        self.engine: Engine = open_database(url, create=create)
        transactions = Transactions(self.engine)
        self.entries = FileEntryStore(entries)
        self.tasks = SqlTaskRepository(transactions, max_attempts=max_attempts)
        self.jobs = SqlJobRepository(transactions)
        self.banks = SqlBankRepository(transactions, self.entries)
        self.evaluations = SqlEvaluationRepository(transactions)
        self.results = SqlResultRepository(transactions)
        self.feedback = SqlFeedbackRepository(transactions)
        self.files = SqlFileLedger(transactions)
        self.kept_images = SqlKeptImageRepository(transactions)
        self.proposals = SqlProposalRepository(transactions, max_attempts=max_attempts)
        self.audit = SqlAuditRepository(transactions)
        self.leases = SqlLeaseRepository(transactions)
        self.duties = SqlDutyRepository(transactions)
        self.drift = SqlDriftRepository(transactions)

    def close(self) -> None:
        self.results.close()
        self.engine.dispose()

    def __enter__(self) -> "Database":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
