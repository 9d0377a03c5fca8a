"""The ports of `domain.ports` on SQL, one noun a file."""

from stream_ad.adapters.repositories.audit import SqlAuditRepository
from stream_ad.adapters.repositories.banks import SqlBankRepository
from stream_ad.adapters.repositories.drift import SqlDriftRepository
from stream_ad.adapters.repositories.evaluations import SqlEvaluationRepository
from stream_ad.adapters.repositories.feedback import SqlFeedbackRepository
from stream_ad.adapters.repositories.files import SqlFileLedger
from stream_ad.adapters.repositories.jobs import SqlJobRepository
from stream_ad.adapters.repositories.kept_images import SqlKeptImageRepository
from stream_ad.adapters.repositories.leases import SqlDutyRepository, SqlLeaseRepository
from stream_ad.adapters.repositories.proposals import SqlProposalRepository
from stream_ad.adapters.repositories.results import SqlResultRepository
from stream_ad.adapters.repositories.tasks import SqlTaskRepository

__all__ = [
    "SqlAuditRepository",
    "SqlBankRepository",
    "SqlDriftRepository",
    "SqlDutyRepository",
    "SqlEvaluationRepository",
    "SqlFeedbackRepository",
    "SqlFileLedger",
    "SqlJobRepository",
    "SqlKeptImageRepository",
    "SqlLeaseRepository",
    "SqlProposalRepository",
    "SqlResultRepository",
    "SqlTaskRepository",
]
