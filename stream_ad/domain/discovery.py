"""What the discovery of new products needs from the world: a pool of kept pictures, and proposals made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from stream_ad.domain.images import Picture
from stream_ad.domain.job import Job
from stream_ad.domain.proposal import KeptImage, Proposal, ProposalKind, ProposalState
from stream_ad.domain.task import Task, TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBounds:
    """How much the pool holds at most. Pictures of a proposal are counted for themselves."""

    #: pictures of one camera; those without a camera count as of one
    per_camera: int = 1000
    #: pictures in all
    images: int = 3000
    #: bytes of their files
    size_bytes: int = 2 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Pictures of the pool that look alike and are to be proposed."""

    #: of `KeptImage.id`
    images: Sequence[int]
    center: Float32[np.ndarray, " joint"]
    #: cosine distance from the center within which nearly all of them lie
    radius: float
    #: what `center` is made of
    features: str
    reason: str
    details: Mapping[str, Any]


@runtime_checkable
class KeptImageRepository(Protocol):
    def keep(self, images: Sequence[KeptImage], bounds: PoolBounds) -> list[str]:
        """Take pictures in, and let the oldest go that are beyond the bounds; paths of files that nobody needs now.

        A picture (its pixels) that is there already is not taken in again, and its new file is among those paths.
        """
        ...

    def all(self) -> list[KeptImage]:
        """Every kept picture, oldest first; those of proposals too."""
        ...

    def of(self, proposal_id: int) -> list[KeptImage]:
        """The pictures of a proposal, oldest first."""
        ...

    def drop(self, ids: Sequence[int]) -> list[str]:
        """Let pictures go that are of no proposal; the paths of their files."""
        ...

    def paths(self) -> set[str]:
        """Every file that a row names."""
        ...


@runtime_checkable
class ProposalRepository(Protocol):
    def get(self, proposal_id: int) -> Proposal:
        """Raises: DataError: there is none of that number."""
        ...

    def all(self, kind: ProposalKind | None = None, state: ProposalState | None = None) -> list[Proposal]:
        """Oldest first."""
        ...

    def propose(self, group: Group, at: datetime) -> Proposal | None:
        """A new product; None: some of the pictures have gone, or another proposal has them by now."""
        ...

    def grow(self, proposal_id: int, group: Group, at: datetime) -> int:
        """Give further pictures to an open proposal, and the rest of the group's values; how many it got."""
        ...

    def approve(
        self,
        proposal_id: int,
        task: Task,
        payload: Mapping[str, Any],
        *,
        who: str,
        remark: str,
        at: datetime,
        given: Sequence[int] | None = None,
    ) -> tuple[Job, list[str]]:
        """Task, queued job and the proposal's end in one transaction; its pictures leave the pool.

        `given`: those that the job learns, by `KeptImage.id`; others that joined the proposal since are free again.
        None: all that it has.

        Returns the job and the paths of the pool's files that nobody needs any more.

        Raises:
            DataError: there is no such proposal, or it is not open.
            TaskExists: the name is taken.
        """
        ...

    def approve_into(
        self,
        proposal_id: int,
        task: TaskId,
        payload: Mapping[str, Any],
        *,
        who: str,
        remark: str,
        at: datetime,
        given: Sequence[int] | None = None,
    ) -> tuple[Job, list[str]]:
        """As `approve`, for a task that is there: a job that adapts it again.

        Raises:
            DataError: there is no such proposal, or it is not open.
            UnknownTask: there is no such task.
            JobError: the task has an open job.
        """
        ...

    def reject(self, proposal_id: int, *, who: str, reason: str, at: datetime) -> list[str]:
        """End a proposal; its pictures leave the pool, and what they look like is remembered.

        Returns the paths of the pool's files that nobody needs any more.

        Raises:
            DataError: there is no such proposal, or it is not open.
        """
        ...


@runtime_checkable
class KeptFiles(Protocol):
    """The pictures themselves."""

    def write(self, encoded: bytes | None, picture: Picture) -> tuple[str, str, int]:
        """Keep a picture, as it came if its encoded bytes are at hand; its path, the sha256 of its pixels, its size.

        Raises:
            OSError: it cannot be written.
        """
        ...

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files; one that is gone already is no error."""
        ...

    def give(self, images: Sequence[KeptImage], folder: str) -> str:
        """Copies of pictures in a new folder, out of the pool's reach; that folder, called so or with a number more.

        Raises:
            DataError: one of the files is gone, or is not what it was; no folder is left.
        """
        ...

    def take_back(self, folder: str) -> None:
        """Delete what `give` made, which nobody needs after all."""
        ...

    def sweep(self, known: set[str], *, before: datetime) -> int:
        """Delete pictures older than `before` that no row names; how many."""
        ...

    def sheet(self, path: str, images: Sequence[KeptImage], title: str) -> str | None:
        """Draw pictures on one sheet, at `path` within the folder of kept pictures; the whole path.

        None: none of them can be read.

        Raises:
            OSError: it cannot be written.
        """
        ...
