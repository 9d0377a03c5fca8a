"""Learning a known task anew, from more or other pictures.

What earlier patches took in comes along, and what people called a missed defect is looked at: the job says how many of
them are NG now.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.feedback import FeedbackKind, FeedbackState
from stream_ad.domain.images import ImageSet
from stream_ad.domain.wording import counted
from stream_ad.errors import DataError
from stream_ad.services.adaptation import learn_task
from stream_ad.services.changes.marked import Marked, compared, marked
from stream_ad.services.changes.subjects import task_of
from stream_ad.services.publishing import Change
from stream_ad.services.work import Desk, Heldout

log = logging.getLogger(__name__)

MANY = 200  # missed defects that are looked at


def readapt_task(desk: Desk) -> Change:
    """The task of the job, learned again from the pictures that its payload names.

    Raises:
        JobStopped: by `desk.progress`.
        JobError: the active bank has no such task.
        DataError: the pictures are not usable, or one of them was called a missed defect.
    """
    storage = desk.storage
    active = storage.banks.load()
    before = task_of(desk, active)
    change = learn_task(desk)
    assert change.learned is not None, "learning says what was learned"
    said = storage.feedback.recent(MANY, task=before.task.id, kind=FeedbackKind.MISSED, state=FeedbackState.QUARANTINED)
    missed = marked(said, desk)
    _check_missed(missed, change.learned, before)
    candidate = change.apply(active, storage.banks.next_version())
    entry, remarks = _with_patches(candidate.entry(before.task.id), before, change, desk)
    about, found = _about_missed(missed, active, active.with_entry(entry, candidate.version), desk)
    count = len(change.learned)

    def apply(active: MemoryBank, version: int) -> MemoryBank:
        task_of(desk, active)
        return active.with_entry(entry, version)

    return replace(
        change,
        apply=apply,
        told=lambda after: [*change.told(after), f"learned again from {counted(count, 'picture')}"],
        remarks=(*change.remarks, *remarks, *about),
        taken=found,
    )


def _check_missed(missed: Marked, learned: ImageSet, entry: BankEntry) -> None:
    known = set(learned.ids)
    if wrong := [one.id for one in missed.said if one.sha256 in known]:
        raise DataError(
            f"needed pictures of good parts of task {entry.task.id!r}; among them is what feedback {wrong[0]} calls a"
            f" missed defect ({len(wrong)} such pictures): take it out, or `stream-ad feedback withdraw {wrong[0]}`"
        )


def _with_patches(entry: BankEntry, before: BankEntry, change: Change, desk: Desk) -> tuple[BankEntry, list[str]]:
    """The new entry with what the old one was patched with, and what to say of it."""
    if not before.patches:
        return entry, []
    heldout: Heldout = change.heldout[entry.task.id]
    apart = {*heldout.regression.ids, *heldout.test.ids}
    said = {
        one.sha256: one
        for one in desk.storage.feedback.of_pictures(before.patches)
        if one.kind is FeedbackKind.FALSE_ALARM and one.sha256 not in apart
    }
    try:
        pictures = marked(list(said.values()), desk)
        if len(pictures):
            entry = desk.storage.entries.put(desk.work.patch(entry, pictures))
    except DataError as error:
        log.warning("job %s: earlier patches are left out: %s", desk.job.id, error)
        return entry, [f"what {before.task.id!r} was patched with is left out: {error}"]
    return entry, [f"{len(pictures)} of {len(before.patches)} pictures of earlier patches were taken over"]


def _about_missed(
    missed: Marked, active: MemoryBank, candidate: MemoryBank, desk: Desk
) -> tuple[Sequence[str], Mapping[int, str]]:
    """What to say of them, and which are found now, each with a sentence."""
    became = compared(missed, active, candidate, desk)
    if not became:
        return [], {}
    found = {number: sentence for number, (ok, sentence) in became.items() if not ok}
    still = [sentence for ok, sentence in became.values() if ok]
    return [f"of {len(became)} missed defects {len(found)} are found now", *still], found
