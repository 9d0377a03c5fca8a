"""Learning a task: from the pictures of one product line to its stored entry.

read -> adapt -> calibrate, then as any change of the bank (`services.publishing`). Everything is deterministic, so that
a second worker that takes the job up again makes the very same entry; where the first one had stored it, the second
takes that.
"""

import logging
import math
from pathlib import PurePath

from stream_ad.domain.bank import BankEntry
from stream_ad.domain.evaluation import TaskEvaluation
from stream_ad.domain.images import ImageSet, Joined, Subset
from stream_ad.domain.job import FEW, THEN, learned_of
from stream_ad.domain.product import Named
from stream_ad.services.heldout import check_disjoint
from stream_ad.services.once_learned import entry_of
from stream_ad.services.publishing import Change, Evaluations
from stream_ad.services.work import Desk

log = logging.getLogger(__name__)

SHOWN = 10  # pictures that a message names


def learn_task(desk: Desk) -> Change:
    """The task of the job, learned from the pictures that its payload names.

    Raises:
        JobStopped: by `desk.progress`.
        StreamAdError: the pictures are not usable; the message is for the person who asked.
    """
    job, progress = desk.job, desk.progress
    assert job.task is not None, "a job that learns is of one task"
    task = desk.storage.tasks.get(job.task)
    progress("read", 0, 1)
    images = desk.work.read(task, job.payload)
    check_disjoint(task.id, images)
    progress("read", 1, 1)
    entry = entry_of(task, images, job.payload, desk)
    progress("calibrate", 1, 1)
    remark = suspects_remark(entry, images.normals)
    if remark:
        log.warning("job %s, task %r: %s", job.id, task.id, remark)
    remarks = [remark] if remark else []
    if FEW in job.payload:
        count = len(images.normals)
        remarks.append(
            f"{entry.detector} learned {learned_of(count, job.payload[FEW])} of {count} pictures; the job after this"
            f" one learns with {job.payload[THEN]}"
        )

    def told(after: Evaluations) -> list[str]:
        return _about(entry, after[task.id])

    return Change(
        apply=lambda active, version: active.with_entry(entry, version),
        told=told,
        heldout={task.id: images.heldout},
        learned=images.normals,
        remarks=tuple(remarks),
    )


def _about(entry: BankEntry, new: TaskEvaluation) -> list[str]:
    auroc = new.routed.get("image_auroc", math.nan)
    measured = "not measured" if math.isnan(auroc) else f"{auroc:.3f}{' (synthetic defects)' if new.synthetic else ''}"
    parts = [f"with {entry.task.id!r}: image AUROC {measured}"]
    if not entry.calibration.can_promise(entry.task.false_alarm_rate):
        n, rate = len(entry.calibration.scores), entry.task.false_alarm_rate
        parts.append(
            f"a false-alarm rate of {rate:g} cannot be promised with {n} pictures, it takes {1 / rate - 1:.0f}"
        )
    return parts


def suspects_remark(entry: BankEntry, normals: ImageSet) -> str:
    """Which training pictures were left out because they look defective, for the person who can look at them."""
    if not entry.suspects:
        return ""
    files = _files(normals)
    names = [files.get(id, id[:12]) for id in entry.suspects]
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    count = f"{len(names)} training picture{'' if len(names) == 1 else 's'}"
    return f"{count} looked defective and {'was' if len(names) == 1 else 'were'} not learned: {shown}"


def _files(images: ImageSet) -> dict[str, str]:
    """The name of each picture's file, by its id, as far as sets know them."""
    if isinstance(images, Subset):
        return _files(images.images)
    if isinstance(images, Joined):
        return {id: name for part in images.sets for id, name in _files(part).items()}
    return {id: PurePath(file).name for file, id in images.named_ids.items()} if isinstance(images, Named) else {}
