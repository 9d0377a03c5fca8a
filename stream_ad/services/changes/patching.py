"""Taking pictures of good parts that were called NG into the memory of their task.

Only places that no good part had so far are added. What is added can hide a defect that looks like it, so the gate
refuses a patch by which a single held-out defect is no longer NG. A picture that is held out for any task judges banks
and is never learned.

What becomes of the feedback is written in the transaction that ends the job: an attempt that dies has said nothing.
"""

import logging
from collections.abc import Mapping, Sequence

from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.feedback import Became, Feedback, FeedbackKind, FeedbackState
from stream_ad.domain.result import Verdict
from stream_ad.errors import JobError
from stream_ad.services.changes.marked import Marked, compared, marked
from stream_ad.services.changes.subjects import task_of
from stream_ad.services.heldout import heldout_of
from stream_ad.services.publishing import Change
from stream_ad.services.work import Desk, Outcome, done

log = logging.getLogger(__name__)


def patch_task(desk: Desk) -> Change | Outcome:
    """The job's task with the false alarms that the job has taken on itself. Done where none is an alarm any more.

    Raises:
        JobError: the job has no feedback (any more), or the bank has no such task.
        DataError: a picture is gone, or so different that it is no false alarm.
    """
    storage = desk.storage
    active = storage.banks.load()
    entry = task_of(desk, active)
    desk.progress("read", 0, 1)
    said = _false_alarms(desk)
    refused = _held_out(said, active, desk)
    pictures = marked([one for one in said if one.id not in refused], desk)
    fine = _fine(pictures, active, desk)
    alarms = _without(pictures, fine)
    settled = {**refused, **fine}
    desk.progress("read", 1, 1)
    if not len(alarms):
        return done(
            desk,
            f"nothing to patch in bank {active.version}: what was marked is OK there already or is held out; see"
            " `stream-ad feedback list`",
            settled,
        )
    made: dict[str, BankEntry] = {}

    def apply(active: MemoryBank, version: int) -> MemoryBank:
        base = task_of(desk, active)
        if base.sha256 not in made:
            made[base.sha256] = storage.entries.put(desk.work.patch(base, alarms))
        return active.with_entry(made[base.sha256], version)

    desk.progress("adapt", 0, 1)
    became = compared(alarms, active, apply(active, storage.banks.next_version()), desk)
    sentences = {number: sentence for number, (_, sentence) in became.items()}
    better = sum(ok for ok, _ in became.values())
    desk.progress("adapt", 1, 1)
    if not better:
        useless = {number: Became(FeedbackState.REFUSED, sentence) for number, sentence in sentences.items()}
        text = f"a patch of {entry.task.id!r} would end no alarm: " + "; ".join(sentences.values())
        return done(desk, text, {**settled, **useless})
    return Change(
        apply=apply,
        told=lambda after: [f"with {entry.task.id!r} patched: {better} of {len(alarms)} false alarms are OK now"],
        learned=alarms,
        remarks=tuple(sentences.values()),
        taken=sentences,
        settled=settled,
    )


def _false_alarms(desk: Desk) -> list[Feedback]:
    said = [one for one in desk.storage.feedback.of_job(desk.job.id) if one.kind is FeedbackKind.FALSE_ALARM]
    if not said:
        raise JobError(
            f"job {desk.job.id} has no false alarms to take in: another job took them, or they were withdrawn; see"
            f" `stream-ad feedback list`, then `stream-ad tasks patch {desk.job.task}`"
        )
    return said


def _held_out(said: Sequence[Feedback], active: MemoryBank, desk: Desk) -> Mapping[int, Became]:
    """Those whose pictures judge banks, refused."""
    held: set[str] = set()
    for task in active.entries:
        both = heldout_of(task, desk.storage, desk.work, active.version)
        held |= {*both.regression.ids, *both.test.ids}
    why = "its picture is a held-out one: those judge banks and are never learned"
    refused = {one.id: Became(FeedbackState.REFUSED, why) for one in said if one.sha256 in held}
    for number in refused:
        log.warning("job %s: feedback %s is refused: %s", desk.job.id, number, why)
    return refused


def _fine(pictures: Marked, active: MemoryBank, desk: Desk) -> Mapping[int, Became]:
    """Those that are OK in the active bank, applied."""
    judged = desk.work.judge(active, pictures.pictures) if len(pictures) else []
    became = Became(FeedbackState.APPLIED, f"OK in bank {active.version} already")
    return {one.id: became for one, now in zip(pictures.said, judged, strict=True) if now.verdict is Verdict.OK}


def _without(pictures: Marked, fine: Mapping[int, Became]) -> Marked:
    left = [place for place, one in enumerate(pictures.said) if one.id not in fine]
    return Marked([pictures.said[place] for place in left], [pictures.pictures[place] for place in left])
