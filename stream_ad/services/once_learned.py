"""Learning that need not be done twice: an attempt that died while it was judged had its entry stored already.

The job's checkpoint names that entry beside a key of all that it was learned from. Another attempt with the same key
takes it; the file's content is checked against its name, so a damaged or missing one is learned anew.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from stream_ad.domain.bank import BankEntry
from stream_ad.domain.evaluation import Half
from stream_ad.domain.images import split_hash
from stream_ad.domain.task import Task
from stream_ad.errors import BankError
from stream_ad.services.work import Desk, TaskImages

log = logging.getLogger(__name__)

CHECKPOINT = "entry"
#: of what every figure carries, that in which two machines of one plant may differ
MACHINE = ("device", "threads")


def entry_of(task: Task, images: TaskImages, payload: Mapping[str, Any], desk: Desk) -> BankEntry:
    """The stored entry of these pictures: that of an earlier attempt, or learned now.

    Raises:
        JobStopped: by `desk.progress`.
        StreamAdError: the pictures are not usable.
    """
    key = _key(task, images, payload, desk.work.provenance)
    known = desk.job.checkpoint.get(CHECKPOINT, {})
    if known.get("key") == key:
        try:
            entry = desk.storage.entries.get(known["sha256"])
        except BankError as error:
            log.info("job %s: what an earlier attempt learned is not to be had, learning again: %s", desk.job.id, error)
        else:
            log.info("job %s: an earlier attempt had learned %s already", desk.job.id, desk.job.about)
            return entry
    entry = desk.work.learn(task, images, payload, desk.progress)
    entry = desk.storage.entries.put(replace(entry, splits={**entry.splits, **_splits(images)}))
    # the file first: a checkpoint never names an entry that is not there
    learned = {CHECKPOINT: {"key": key, "sha256": entry.sha256}}
    desk.storage.jobs.write_checkpoint(desk.job.id, desk.worker, desk.job.attempts, learned)
    return entry


def _splits(images: TaskImages) -> Mapping[str, str]:
    halves = {Half.REGRESSION: images.heldout.regression, Half.TEST: images.heldout.test}
    return {half.value: split_hash(pictures.ids) for half, pictures in halves.items()}


def _key(task: Task, images: TaskImages, payload: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    made_of = {
        "task": asdict(task),
        "payload": payload,
        "pictures": split_hash(images.normals.ids),
        "heldout": _splits(images),
        "roi": None if images.roi is None else hashlib.sha256(images.roi.tobytes()).hexdigest(),
        "program": {name: value for name, value in provenance.items() if name not in MACHINE},
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()
