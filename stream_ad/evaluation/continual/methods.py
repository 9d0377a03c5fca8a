"""What a method holds after each task of a sequence.

Whatever its family, a method says which entry a picture of each task is scored by after the tasks so far. Where it
routes, that is the entry of the task that the router finds, or of the true task when it is told; the others have one
entry for all, so there is nothing to be told.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Joined, Subset
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.continual.budget import rows_of, shrunk
from stream_ad.evaluation.continual.ladder import Ladder, carried_over, climbed_down, rungs
from stream_ad.evaluation.continual.learned import Learner
from stream_ad.evaluation.continual.shared import merge
from stream_ad.evaluation.continual.variants import Family, Variant

#: pictures of earlier tasks that PatchCore* keeps, of all tasks together
REPLAYED = 100
#: rows of one memory for all tasks, at most: choosing more takes hours on a small machine
MOST_ROWS = 4096
#: a new task enters the shared memory with so many times the rows that an entry of its own would have
ENTRANCE = 2


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What a method holds after one step."""

    #: by task, the entry that its pictures are scored by when the task is told
    entries: Mapping[TaskId, BankEntry]
    #: the same entries are what a router chooses among; without it every picture is scored by the one entry there is
    routes: bool

    @property
    def rows(self) -> int:
        """Rows kept in all."""
        return sum(rows_of(entry) for entry in self._distinct())

    @property
    def megabytes(self) -> float:
        """Size of all arrays kept, routing keys included."""
        return sum(array.nbytes for entry in self._distinct() for array in entry.arrays.values()) / 1024**2

    def _distinct(self) -> list[BankEntry]:
        return list({entry.sha256: entry for entry in self.entries.values()}.values())


@runtime_checkable
class ContinualMethod(Protocol):
    """A method that is given the tasks one at a time and never sees an earlier one's pictures again.

    What it holds after a step depends on the tasks up to that step, the options and the seed alone.
    """

    variant: Variant
    #: seconds that learning took so far, features computed before for another method not counted
    seconds: float

    def learn(self, task: Task, normals: ImageSet) -> Held:
        """Take in the next task; what is held from now on."""
        ...


def make_method(variant: Variant, learner: Learner, *, tasks: int, budget: int | None, seed: int) -> ContinualMethod:
    """The method behind a variant, with nothing learned yet. `budget`: rows of all tasks, where the variant has one."""
    rows = budget if variant.budgeted and budget is not None else None
    if variant.family is Family.BANK:
        return Bank(variant, learner, seed, rows)
    if variant.family is Family.SEQUENCE:
        return Sequential(variant, learner, seed, rows)
    room = min(rows or tasks * variant.rows, MOST_ROWS)
    if variant.family is Family.REPLAY:
        return Replay(variant, learner, seed, room)
    return Shared(variant, learner, seed, room)


@dataclass(slots=True, eq=False)
class Bank:
    """One entry per task, isolated. Under a budget all entries have equal shares, smaller with every new task.

    A task brings a ladder with it, so that its threshold and its fusion hold for the smaller entry too.
    """

    variant: Variant
    learner: Learner
    seed: int
    budget: int | None
    seconds: float = 0.0
    _entries: dict[TaskId, BankEntry] = field(default_factory=dict)
    _ladders: dict[TaskId, Ladder] = field(default_factory=dict)

    def learn(self, task: Task, normals: ImageSet) -> Held:
        entry, seconds = self.learner.entry(self.variant, task, normals, seed=self.seed)
        self.seconds += seconds
        self._entries[task.id] = entry
        if self.budget is None:
            return Held(dict(self._entries), routes=True)
        started = time.monotonic()
        sizes = rungs(rows_of(entry))
        scales = self.learner.scales(self.variant, [shrunk(entry, size) for size in sizes], normals)
        self._ladders[task.id] = Ladder(sizes, scales)
        self.seconds += time.monotonic() - started
        share = max(1, self.budget // len(self._entries))
        # always from the whole entry: its first rows are the same, and its scales are not interpolated twice
        return Held(
            {task: climbed_down(entry, share, self._ladders[task]) for task, entry in self._entries.items()},
            routes=True,
        )


@dataclass(slots=True, eq=False)
class Sequential:
    """Each task's memory takes the place of the one before."""

    variant: Variant
    learner: Learner
    seed: int
    budget: int | None
    seconds: float = 0.0
    _tasks: list[TaskId] = field(default_factory=list)

    def learn(self, task: Task, normals: ImageSet) -> Held:
        entry, seconds = self.learner.entry(self.variant, task, normals, seed=self.seed)
        self.seconds += seconds
        self._tasks.append(task.id)
        if self.budget is not None:
            entry = shrunk(entry, self.budget)
        return Held(dict.fromkeys(self._tasks, entry), routes=False)


@dataclass(slots=True, eq=False)
class Replay:
    """PatchCore*: at each step one memory of the new task's pictures and a fixed number of earlier ones.

    The kept pictures are shared out evenly among the earlier tasks, drawn by the seed.
    """

    variant: Variant
    learner: Learner
    seed: int
    rows: int
    seconds: float = 0.0
    _kept: dict[TaskId, ImageSet] = field(default_factory=dict)

    def learn(self, task: Task, normals: ImageSet) -> Held:
        together = Joined([normals, *self._kept.values()])
        one = Task(id=TaskId(f"replay-{len(self._kept) + 1}"), class_name="product", false_alarm_rate=0.05)
        entry, seconds = self.learner.entry(self.variant, one, together, seed=self.seed, rows=self.rows, in_folds=False)
        self.seconds += seconds
        order = np.random.default_rng([self.seed, task.seed]).permutation(len(normals))
        self._kept[task.id] = Subset(normals, order[:REPLAYED].tolist())
        share = REPLAYED // len(self._kept)
        self._kept = {task: _first(kept, share) for task, kept in self._kept.items()}
        return Held(dict.fromkeys(self._kept, entry), routes=False)


@dataclass(slots=True, eq=False)
class Shared:
    """One coreset for all tasks: at each step k-center over the old rows and the new task's, down to a fixed number.

    After CADIC (arXiv 2511.08634): no task id, no prompts, no text. The new task enters by its own k-center rows, at
    most `ENTRANCE` times those of an entry, so that no earlier picture is needed. The threshold is the newest task's.
    """

    variant: Variant
    learner: Learner
    seed: int
    rows: int
    seconds: float = 0.0
    _tasks: list[TaskId] = field(default_factory=list)
    _raw: torch.Tensor | None = None

    def learn(self, task: Task, normals: ImageSet) -> Held:
        wanted = min(self.rows, ENTRANCE * self.variant.rows)
        entry, seconds = self.learner.entry(self.variant, task, normals, seed=self.seed, rows=wanted, in_folds=False)
        self.seconds += seconds
        started = time.monotonic()
        merged = merge(self._raw, entry, self.rows, seed=self.seed)
        self._raw = merged.raw
        scales = self.learner.scales(self.variant, [entry, merged.entry], normals)
        self.seconds += time.monotonic() - started
        self._tasks.append(task.id)
        return Held(dict.fromkeys(self._tasks, carried_over(merged.entry, scales)), routes=False)


def _first(images: ImageSet, count: int) -> ImageSet:
    if isinstance(images, Subset):  # a subset of a subset would grow with every task
        return Subset(images.images, list(images.indices)[:count])
    return Subset(images, list(range(min(count, len(images)))))
