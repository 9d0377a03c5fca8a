"""A line of work without pictures or networks: what the tests of jobs and workers share.

A "picture" is a number; a task's pictures are known by the payload; scores are always right unless told otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from stream_ad.adapters.storage import Database
from stream_ad.domain.bank import PATCHES, BankEntry, MemoryBank
from stream_ad.domain.evaluation import METRICS, TaskEvaluation
from stream_ad.domain.images import HeldoutImage, HeldoutSet, ImageSet, Picture
from stream_ad.domain.job import Job, JobKind
from stream_ad.domain.ports import Progress
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.domain.task import Task, TaskId
from stream_ad.services.gate import GateBudgets
from stream_ad.services.work import Heldout, Storage, TaskImages, Work
from tests import storage_kit

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class HandClock:
    """Time that moves when told."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> float:
        return self._now.timestamp()

    def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class Numbers:
    """Black pictures known by their ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = list(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> Picture:
        return np.zeros((4, 4, 3), np.uint8)

    @property
    def ids(self) -> Sequence[str]:
        return self._ids


class HeldNumbers:
    """The same with a truth: every second one is defective."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = list(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> HeldoutImage:
        bad = self.defective[index]
        return HeldoutImage(
            self._ids[index], np.zeros((4, 4, 3), np.uint8), bad, None, kind="scratch" if bad else "good"
        )

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    @property
    def defective(self) -> Sequence[bool]:
        return [bool(i % 2) for i in range(len(self._ids))]


def pictures(task: Task, payload: Mapping[str, Any]) -> TaskImages:
    """Ten pictures to learn from, twenty in each half; named after the payload's folder."""
    name = payload["images"]
    halves = Heldout(HeldNumbers([f"{name}-r{i}" for i in range(20)]), HeldNumbers([f"{name}-t{i}" for i in range(20)]))
    return TaskImages(Numbers([f"{name}-n{i}" for i in range(10)]), halves)


def learned(task: Task, images: TaskImages, payload: Mapping[str, Any], progress: Progress) -> BankEntry:
    for step in range(3):
        progress("adapt", step, 3)
    progress("calibrate", 0, 1)
    return replace(storage_kit.entry(task.id, seed=task.seed % 1000), task=task, sha256="")


def perfect(
    bank: MemoryBank, heldout: Mapping[TaskId, HeldoutSet], progress: Progress
) -> Mapping[TaskId, TaskEvaluation]:
    """Every picture recognised and judged rightly."""
    measured = {}
    for done, (task, images) in enumerate(heldout.items()):
        progress("evaluate", done, len(heldout))
        outcomes = [
            replace(
                storage_kit.outcome(task, 0),
                image_id=id,
                defective=bad,
                margin=1.0,
                routed_score=float(bad),
                routed_verdict=storage_kit.Verdict.NG if bad else storage_kit.Verdict.OK,
            )
            for id, bad in zip(images.ids, images.defective, strict=True)
        ]
        measured[task] = TaskEvaluation(
            task=task,
            routed=dict.fromkeys(METRICS, 0.9),
            oracle=dict.fromkeys(METRICS, 0.9),
            routing_accuracy=1.0,
            refused_rate=0.0,
            false_alarm_rate=0.0,
            detection_rate=1.0,
            n_normal=10,
            n_defective=10,
            synthetic=False,
            outcomes=outcomes,
        )
    return measured


def stealing(
    thief: str,
) -> Callable[[MemoryBank, Mapping[TaskId, HeldoutSet], Progress], Mapping[TaskId, TaskEvaluation]]:
    """`perfect`, but a bank that holds `thief` takes half of every other task's pictures for it."""

    def evaluate(
        bank: MemoryBank, heldout: Mapping[TaskId, HeldoutSet], progress: Progress
    ) -> Mapping[TaskId, TaskEvaluation]:
        measured = dict(perfect(bank, heldout, progress))
        if thief not in bank.entries:
            return measured
        for task, evaluation in measured.items():
            outcomes = [
                replace(outcome, routed_task=TaskId(thief)) if number < 10 else outcome
                for number, outcome in enumerate(evaluation.outcomes)
            ]
            measured[task] = replace(evaluation, outcomes=outcomes)
        return measured

    return evaluate


def patched(entry: BankEntry, marked: ImageSet) -> BankEntry:
    ids = sorted({*entry.patches, *marked.ids})
    return replace(entry, splits={**entry.splits, PATCHES: " ".join(ids)}, sha256="")


def shrunk(entry: BankEntry, rows: int, normals: ImageSet) -> BankEntry:
    return replace(entry, arrays={**entry.arrays, "coreset": entry.arrays["coreset"][:rows]}, sha256="")


def marked_picture(name: str) -> Picture:
    """A grey picture; its grey is the number that its file is named by."""
    return np.full((4, 4, 3), int(name.partition(".")[0]), np.uint8)


def marked_id(number: int) -> str:
    return f"{number:064x}"


def judged(bank: MemoryBank, marked: Sequence[Picture]) -> list[Inspection]:
    """Of the first task; NG until it is patched with the picture."""
    entry = next(iter(bank))
    scores = [0.5 if marked_id(int(picture[0, 0, 0])) in entry.patches else 3.0 for picture in marked]
    return [inspection(entry, score) for score in scores]


def inspection(entry: BankEntry, score: float) -> Inspection:
    """By a threshold of 1."""
    return Inspection(
        task=entry.task.id,
        detector=entry.detector,
        score=score,
        p_value=0.5,
        threshold=1.0,
        verdict=Verdict.NG if score > 1 else Verdict.OK,
        bank_version=1,
        features=str(entry.features),
        margin=None,
    )


def work(**changes: Any) -> Work:
    plain = Work(
        read=pictures,
        learn=learned,
        evaluate=perfect,
        patch=patched,
        shrink=shrunk,
        judge=judged,
        marked=marked_picture,
        budgets=GateBudgets(),
        provenance={"code": "0", "threads": 1},
    )
    return replace(plain, **changes)


def storage(database: Database) -> Storage:
    return Storage(
        tasks=database.tasks,
        jobs=database.jobs,
        banks=database.banks,
        evaluations=database.evaluations,
        entries=database.entries,
        feedback=database.feedback,
    )


def open_storage(directory: Path) -> Database:
    return Database(f"sqlite:///{directory / 'stream-ad.db'}", directory / "entries", create=True)


def queue(database: Database, name: str, at: datetime = NOON) -> Job:
    task = Task(id=TaskId(name), class_name=name)
    return database.tasks.add(task, JobKind.ADAPT, {"images": name}, at)
