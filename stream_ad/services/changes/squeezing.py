"""Fitting all memories into a budget of rows.

A memory shrinks to its first rows, which are what the sampling would have chosen with fewer; rows of patches stay. Its
scores then rise, so centre and scale of each branch are moved by as much as they move on pictures that the task was
learned from (`evaluation.continual.ladder` says why that is enough), and thresholds keep their meaning.
"""

from collections.abc import Mapping

from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.task import TaskId
from stream_ad.errors import JobError
from stream_ad.evaluation.continual.budget import SMALLEST, rows_of
from stream_ad.services.heldout import learning_job
from stream_ad.services.publishing import Change
from stream_ad.services.work import Desk, Outcome, done

ROWS = "rows"


def squeeze_bank(desk: Desk) -> Change | Outcome:
    """Memories with as many rows as the payload's budget allows, shared out evenly.

    Raises:
        JobError: the budget is too small for so many tasks.
        DataError: the pictures of a task that shrinks are not to be had.
        JobStopped: by `desk.progress`.
    """
    budget = int(desk.job.payload[ROWS])
    made: dict[tuple[str, int], BankEntry] = {}
    sizes: dict[TaskId, tuple[int, int]] = {}

    def apply(active: MemoryBank, version: int) -> MemoryBank:
        sizes.clear()
        candidate = active
        shares = shared_out({task: rows_of(entry) for task, entry in active.entries.items()}, budget)
        for number, (task, entry) in enumerate(active.entries.items()):
            desk.progress("adapt", number, len(active))
            if rows_of(entry) > shares[task]:
                key = entry.sha256, shares[task]
                if key not in made:
                    made[key] = _shrunk(entry, shares[task], active.version, desk)
                sizes[task] = rows_of(entry), shares[task]
                candidate = candidate.with_entry(made[key], version)
        return candidate

    active = desk.storage.banks.load()
    total = sum(rows_of(entry) for entry in active)
    shared_out({task: rows_of(entry) for task, entry in active.entries.items()}, budget)
    if total <= budget:
        return done(desk, f"bank {active.version} has {total} rows, within {budget}: nothing was changed")

    def told() -> str:
        each = ", ".join(f"{task} {before} to {now}" for task, (before, now) in sizes.items())
        return f"within {budget} rows: {each}; a task that is learned again has all its rows again"

    return Change(apply=apply, told=lambda after: [told()])


def shared_out(rows: Mapping[TaskId, int], budget: int) -> dict[TaskId, int]:
    """How many rows each task keeps: all those that have less than an even share keep what they have.

    >>> shared_out({"a": 10, "b": 100, "c": 100}, 110)
    {'a': 10, 'b': 50, 'c': 50}

    Raises:
        JobError: an even share is below 8 rows, with which no memory says anything.
    """
    memories = {task: count for task, count in rows.items() if count}
    shares = dict.fromkeys(rows, 0)
    left = budget
    for place, (task, count) in enumerate(sorted(memories.items(), key=lambda item: (item[1], item[0]))):
        even = left // (len(memories) - place)
        shares[task] = min(count, even)
        if shares[task] < min(count, SMALLEST):
            raise JobError(
                f"needed at least {SMALLEST} rows for each of {len(memories)} tasks, {SMALLEST * len(memories)} in all;"
                f" got a budget of {budget}"
            )
        left -= shares[task]
    return shares


def _shrunk(entry: BankEntry, rows: int, version: int, desk: Desk) -> BankEntry:
    task, storage = entry.task.id, desk.storage
    payload = learning_job(task, storage.jobs, storage.banks, version).payload
    images = desk.work.read(storage.tasks.get(task), payload)
    return storage.entries.put(desk.work.shrink(entry, rows, images.normals))
