"""The entry that a job is about."""

from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.errors import JobError
from stream_ad.services.work import Desk


def task_of(desk: Desk, active: MemoryBank) -> BankEntry:
    """The entry of the job's task in a bank.

    Raises:
        JobError: the bank has none.
    """
    task = desk.job.task
    entry = active.entries.get(task) if task is not None else None
    if entry is None:
        raise JobError(
            f"a job of kind {desk.job.kind} needs a task of the active bank, and bank {active.version} has no {task!r};"
            " see `stream-ad tasks`"
        )
    return entry
