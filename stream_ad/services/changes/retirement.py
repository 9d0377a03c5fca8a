"""Leaving a task out of the bank. Old versions keep it, and so does its name: it can be added again."""

from stream_ad.services.changes.subjects import task_of
from stream_ad.services.publishing import Change
from stream_ad.services.work import Desk


def retire_task(desk: Desk) -> Change:
    """The bank without the job's task.

    Raises:
        JobError: the active bank has no such task.
    """
    task = task_of(desk, desk.storage.banks.load()).task.id
    return Change(
        apply=lambda active, version: active.without(task_of(desk, active).task.id, version),
        told=lambda after: [f"without {task!r}, which is retired; its pictures are an unknown product from now on"],
    )
