"""The held-out pictures of every task, by which banks are judged: found again, and kept apart from what is learned."""

from stream_ad.domain.bank import BankEntry
from stream_ad.domain.evaluation import Half
from stream_ad.domain.images import ImageSet, split_hash
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.ports import BankRepository, JobRepository
from stream_ad.domain.task import TaskId
from stream_ad.errors import DataError, OverlappingSplits, StreamAdError
from stream_ad.services.work import Heldout, Storage, TaskImages, Work

LEARNS = (JobKind.ADAPT, JobKind.READAPT)


def heldout_of(task: TaskId, storage: Storage, work: Work, version: int | None = None) -> Heldout:
    """The held-out pictures of a task of a bank (None: the active one), from where its own job read them.

    Raises:
        DataError: they cannot be read any more.
    """
    job = learning_job(task, storage.jobs, storage.banks, version)
    try:
        heldout = work.read(storage.tasks.get(task), job.payload).heldout
        if len(heldout.regression.ids) == 0:
            raise DataError("no picture is left of them")
    except StreamAdError as error:
        raise DataError(
            f"the held-out pictures of task {task!r} are needed to show that it is not forgotten, and cannot be read:"
            f" {error}. Bring them back, then `stream-ad jobs retry`"
        ) from error
    return heldout


def learning_job(task: TaskId, jobs: JobRepository, banks: BankRepository, version: int | None = None) -> Job:
    """The job that learned this task as a bank (None: the active one) has it; its payload names the task's pictures.

    Not the newest one: after a rollback the bank may hold what an earlier job learned.

    Raises:
        DataError: there is none.
    """
    parents = {row["version"]: row["parent"] for row in banks.versions()}
    at: int | None = banks.active_version() if version is None else version
    lineage = set()
    while at:
        lineage.add(at)
        at = parents.get(at)
    for job in jobs.all():  # newest first
        learned = job.kind in LEARNS and job.state is JobState.PUBLISHED
        if job.task == task and learned and job.bank_version in lineage:
            return job
    raise DataError(f"the bank has task {task!r}, but no published job says where its held-out pictures are")


def check_disjoint(task: TaskId, images: TaskImages) -> None:
    """Nothing learned is also held out, and no picture is in both halves.

    Raises:
        OverlappingSplits: a picture (its decoded pixels) is in two sets.
    """
    regression, test = set(images.heldout.regression.ids), set(images.heldout.test.ids)
    held = regression | test
    if both := [index for index, id in enumerate(images.normals.ids) if id in held]:
        raise OverlappingSplits(
            f"task {task!r}: {len(both)} of {len(images.normals)} training pictures are held-out pictures too (the"
            f" first is number {both[0] + 1}); figures on pictures that were learned mean nothing, so take them out of"
            " one of the two folders"
        )
    if regression & test:
        raise OverlappingSplits(f"task {task!r}: {len(regression & test)} held-out pictures are in both halves")


def check_apart(who: str, learned: ImageSet, other: TaskId, heldout: Heldout) -> None:
    """Nothing that a new task learns is held out for an old one.

    Raises:
        OverlappingSplits: a picture (its decoded pixels) is in both.
    """
    if shared := set(learned.ids) & {*heldout.regression.ids, *heldout.test.ids}:
        raise OverlappingSplits(
            f"{len(shared)} of the {len(learned)} training pictures of {who} are held-out pictures of {other!r};"
            " take them out of the training folder: they are another product, or that product's figures would flatter"
        )


def check_unmoved(entry: BankEntry, heldout: Heldout) -> None:
    """The held-out pictures of an old task are still those of its own job.

    They are divided and, without --heldout, set apart by rank: one picture more or less in the folder moves others,
    and a picture that was learned could become one that judges.

    Raises:
        DataError: they are others.
    """
    for half, pictures in ((Half.REGRESSION, heldout.regression), (Half.TEST, heldout.test)):
        if entry.splits.get(half.value) != split_hash(pictures.ids):
            raise DataError(
                f"the held-out pictures of task {entry.task.id!r} are not those that it was judged by when it was "
                "learned: its folders have changed. Put back what was removed, take out what was added, then "
                "`stream-ad jobs retry`"
            )
