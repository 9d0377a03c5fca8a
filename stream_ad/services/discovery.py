"""New products from pictures that no known product explains: grouped, proposed, and learned once somebody approves.

A picture of no known product leaves its bytes and its final embedding in a pool. `Discovery.run` groups the pool. A
group that is large, and that is found again in random parts of the pool, is proposed; later pictures like it join it.
Embeddings are stored, so neither a backbone nor torch is needed here.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from stream_ad.domain.discovery import Group, KeptFiles, KeptImageRepository, ProposalRepository
from stream_ad.domain.duty import Found
from stream_ad.domain.feedback import FeedbackKind, FeedbackState
from stream_ad.domain.job import Job
from stream_ad.domain.ports import BankRepository, Clock, FeedbackRepository, JobRepository
from stream_ad.domain.proposal import KeptImage, Proposal, ProposalKind, ProposalState
from stream_ad.domain.task import Task, TaskId
from stream_ad.domain.wording import counted
from stream_ad.errors import DataError, StreamAdError, TaskExists, Unavailable
from stream_ad.functional.grouping import Ball, ball, group, same_place, spread_over, steadiness
from stream_ad.services.known_looks import KnownLooks
from stream_ad.services.scheduling import Still

log = logging.getLogger(__name__)

#: mean Jaccard index above which a group is no accident (Hennig 2007)
STEADY = 0.75
SHOWN = 18  # pictures of a sheet
ORPHANED = timedelta(hours=1)
SEED = 0
POLICY = "policy"

Check = Callable[[Task, str], Mapping[str, Any]]
"""The payload of the job that learns a task from a folder. Raises: DataError: the folder is not fit for it."""

CheckMore = Callable[[TaskId, str, Path | None], Mapping[str, Any]]
"""The payload of the job that learns a known task again with a folder, and held-out pictures, more.

Raises: StreamAdError.
"""


@dataclass(frozen=True, kw_only=True)
class DiscoveryOptions:
    #: a group of at least so many pictures is proposed
    min_images: int = 25
    #: pictures that an open proposal takes at most
    per_proposal: int = 300
    #: approve without a person what is large and unlike every known task
    by_itself: bool = False
    #: pictures that such a group needs
    by_itself_images: int = 50
    #: for tasks that are approved so
    false_alarm_rate: float = 0.05


@dataclass(slots=True)
class _Done:
    """What a run did."""

    proposed: list[Proposal] = field(default_factory=list)
    grown: int = 0
    dropped: int = 0
    waiting: int = 0
    unsteady: int = 0
    approved: list[Job] = field(default_factory=list)


class Discovery:
    def __init__(
        self,
        *,
        images: KeptImageRepository,
        proposals: ProposalRepository,
        files: KeptFiles,
        banks: BankRepository,
        jobs: JobRepository,
        feedback: FeedbackRepository,
        clock: Clock,
        check: Check,
        check_more: CheckMore,
        options: DiscoveryOptions = DiscoveryOptions(),
    ) -> None:
        self._images, self._proposals, self._files = images, proposals, files
        self._banks, self._jobs, self._feedback, self._clock = banks, jobs, feedback, clock
        self._check, self._check_more, self._options = check, check_more, options

    def run(self, still: Still = lambda: None) -> Found:
        """Look at the pool once: propose, let proposals grow, forget what is known by now.

        `still` is asked before each kind of features is looked at, and before each approval without a person.

        Raises:
            BankError, Unavailable: the bank cannot be had, or the database is away; nothing is half done.
            LeadershipLost: by `still`; what was done so far stays.
        """
        now, done = self._clock.now(), _Done()
        self._files.sweep(self._images.paths(), before=now - ORPHANED)
        pool = self._images.all()
        bank, learned = self._banks.load(), _learned_at(self._banks)
        for features in sorted({image.features for image in pool}):
            still()
            of_one_kind = [image for image in pool if image.features == features]
            known = KnownLooks(bank, features)
            self._group(self._without_known(of_one_kind, known, learned, done), known, now, done)
        if self._options.by_itself:
            self._approve_by_itself(still, done)
        figures = {
            "pool_pictures": float(sum(image.proposal_id is None for image in pool)),
            "proposed": float(len(done.proposed)),
            "open_proposals": float(len(self._proposals.all(ProposalKind.PRODUCT, ProposalState.OPEN))),
        }
        return Found(_told(pool, done), figures, news=bool(done.proposed or done.approved))

    def approve(self, proposal_id: int, task: Task, *, who: str, remark: str) -> Job:
        """A product that has a name now; its pictures get a folder of their own, and a job learns it.

        Raises:
            DataError: the proposal is not open, none of a product, or its pictures do not serve.
            TaskExists: the name is taken.
        """
        self._open_one(proposal_id)
        if task.id in self._banks.contents(self._banks.active_version()):  # before any picture is copied for it
            raise TaskExists(
                task.id, f"or, if it is that product, `stream-ad tasks approve {proposal_id} --into {task.id}`"
            )
        with self._given(proposal_id, task.id) as (folder, given):
            payload = self._check(task, folder)
            job, needless = self._proposals.approve(
                proposal_id, task, payload, who=who, remark=remark, at=self._clock.now(), given=given
            )
        self._files.remove([*needless, sheet_path(proposal_id)])
        return job

    def approve_into(self, proposal_id: int, task: TaskId, *, who: str, remark: str) -> Job:
        """The pictures are of a known task, which is learned again with them.

        Raises:
            DataError: as `approve`.
            UnknownTask, JobError: there is no such task, or it has an open job.
        """
        with self._given(proposal_id, task) as (folder, given):
            payload = self._check_more(task, folder, None)
            job, needless = self._proposals.approve_into(
                proposal_id, task, payload, who=who, remark=remark, at=self._clock.now(), given=given
            )
        self._files.remove([*needless, sheet_path(proposal_id)])
        return job

    def approve_readapt(self, proposal: Proposal, images: Path, heldout: Path | None, *, who: str, remark: str) -> Job:
        """A known task that no longer looks as it did is learned again, with new pictures.

        Raises:
            DataError: the proposal is not open, or the folders do not serve.
            JobError: the task has an open job.
        """
        if proposal.task is None:
            raise DataError(f"proposal {proposal.id} names no task to adapt again; approve it with a name")
        payload = self._check_more(proposal.task, str(images), heldout)
        job, _ = self._proposals.approve_into(
            proposal.id, proposal.task, payload, who=who, remark=remark, at=self._clock.now()
        )
        return job

    def reject(self, proposal_id: int, *, who: str, reason: str) -> None:
        """No product. Its pictures go, and what looks like them is not proposed again.

        Raises:
            DataError: the proposal is not open.
        """
        needless = self._proposals.reject(proposal_id, who=who, reason=reason, at=self._clock.now())
        self._files.remove([*needless, sheet_path(proposal_id)])

    def draw(self, proposal: Proposal) -> str | None:
        """A sheet of a proposal's pictures, the most typical one first; its path. None: there are none to be shown."""
        images = self._images.of(proposal.id)
        if not images:
            return None
        shown = [images[row] for row in spread_over(_embeddings(images), SHOWN)]
        title = f"proposal {proposal.id}: {len(images)} pictures that look alike; the most typical one first"
        return self._files.sheet(sheet_path(proposal.id), shown, title)

    def _open_one(self, proposal_id: int) -> Proposal:
        proposal = self._proposals.get(proposal_id)
        if proposal.state is not ProposalState.OPEN:
            by = f" by {proposal.decided_by}" if proposal.decided_by else ""
            became = f" as task {proposal.task!r}" if proposal.task else ""
            raise DataError(
                f"proposal {proposal_id} was {proposal.state}{by}{became} already; see `stream-ad tasks proposals`"
            )
        return proposal

    @contextmanager
    def _given(self, proposal_id: int, task: TaskId) -> Iterator[tuple[str, list[int]]]:
        """A folder with the pictures of an open proposal, and which these are; gone again if the block refuses."""
        proposal, images = self._open_one(proposal_id), self._images.of(proposal_id)
        if proposal.kind is not ProposalKind.PRODUCT or not images:
            raise DataError(
                f"needed a proposal of a product with its pictures, but {proposal_id} is of a {proposal.kind}, with"
                f" {len(images)} pictures; see `stream-ad tasks proposals`"
            )
        folder = self._files.give(images, f"{task}-proposal-{proposal_id}")
        try:
            yield folder, [image.id for image in images]
        except Unavailable:  # the connection may have broken in the very commit, and then the job needs it
            raise
        except StreamAdError:
            self._files.take_back(folder)
            raise

    def _without_known(
        self, pool: Sequence[KeptImage], known: KnownLooks, learned: Mapping[TaskId, datetime], done: _Done
    ) -> list[KeptImage]:
        """The pool without pictures of a task that was not known yet when they came.

        A picture that somebody said is not of that task stays: that it looks like it is why it was said.
        """
        near = known.nearest(_embeddings(pool))
        explained = {
            image.id: (image.sha256, found.task)
            for image, found in zip(pool, near, strict=True)
            if image.proposal_id is None
            and found is not None
            and found.times <= 1
            and (at := learned.get(found.task)) is not None
            and image.at < at
        }
        denied = {
            (one.sha256, one.task)
            for one in self._feedback.of_pictures([sha256 for sha256, _ in explained.values()])
            if one.kind is FeedbackKind.WRONG_PRODUCT and one.state is not FeedbackState.REFUSED
        }
        gone = {id for id, looks in explained.items() if looks not in denied}
        if gone:
            self._drop(gone, done)
        return [image for image in pool if image.id not in gone]

    def _group(self, pool: Sequence[KeptImage], known: KnownLooks, now: datetime, done: _Done) -> None:
        embeddings, smallest = _embeddings(pool), self._options.min_images
        groups = group(embeddings, smallest=smallest)
        steady = steadiness(embeddings, groups, smallest=smallest, seed=SEED)
        open_ones = {one.id: one for one in self._proposals.all(ProposalKind.PRODUCT, ProposalState.OPEN)}
        unwanted = _balls(self._proposals.all(ProposalKind.PRODUCT, ProposalState.REJECTED), pool)
        coming = _balls(self._being_learned(), pool)
        for members, found_again in zip(groups, steady, strict=True):
            images, points = [pool[row] for row in members], embeddings[members]
            owners = Counter(image.proposal_id for image in images if image.proposal_id in open_ones)
            free = [image for image in images if image.proposal_id is None]
            if owners:
                owner = open_ones[owners.most_common(1)[0][0] or 0]
                self._grow(owner, free, self._described(images, points, found_again, known), now, done)
            elif found_again < STEADY:
                done.unsteady += 1
            elif any(same_place(where, ball(points)) for where in unwanted):
                self._drop({image.id for image in free}, done)
            elif any(same_place(where, ball(points)) for where in coming):
                done.waiting += len(free)
            else:
                self._propose(self._described(images, points, found_again, known), now, done)

    def _described(
        self, images: Sequence[KeptImage], points: Float32[np.ndarray, "n joint"], found_again: float, known: KnownLooks
    ) -> Group:
        """What is told of a group."""
        where = ball(points)
        cameras = Counter(image.camera or "no camera" for image in images)
        near = known.near(points)
        reason = f"{len(images)} pictures of no known product look alike"
        details: dict[str, Any] = {
            "cameras": dict(cameras.most_common(10)),
            "steadiness": round(found_again, 3),
            "first_at": min(image.at for image in images),
            "last_at": max(image.at for image in images),
        }
        if near is not None:
            details["nearest"] = {"task": near.task, "times": round(near.times, 2), "near": near.is_near}
            if near.is_near:
                reason += f"; they may be of task {near.task!r}"
        return Group(
            images=[image.id for image in images if image.proposal_id is None][: self._options.per_proposal],
            center=where.center.astype(np.float32),
            radius=where.radius,
            features=images[0].features,
            reason=reason,
            details=details,
        )

    def _propose(self, found: Group, now: datetime, done: _Done) -> None:
        proposal = self._proposals.propose(found, now)
        if proposal is not None:  # else somebody else looks at the pool at this moment
            done.proposed.append(proposal)
            self._try_to_draw(proposal)

    def _grow(self, owner: Proposal, free: Sequence[KeptImage], found: Group, now: datetime, done: _Done) -> None:
        room = max(0, self._options.per_proposal - owner.size)
        if not free or not room:
            return
        wanted = [image.id for image in free[:room]]
        try:
            got = self._proposals.grow(owner.id, replace(found, images=wanted), now)
        except DataError:  # decided at this moment
            return
        done.grown += got
        if got:
            self._try_to_draw(owner)

    def _try_to_draw(self, proposal: Proposal) -> None:
        try:
            self.draw(proposal)
        except OSError as error:  # a proposal without a sheet is one still
            log.warning("no sheet for proposal %d: %s", proposal.id, error)

    def _drop(self, ids: set[int], done: _Done) -> None:
        self._files.remove(self._images.drop(sorted(ids)))
        done.dropped += len(ids)

    def _being_learned(self) -> list[Proposal]:
        """Approved ones whose task is on its way into a bank."""
        busy = {job.task for job in self._jobs.all() if job.state.open}
        return [one for one in self._proposals.all(ProposalKind.PRODUCT, ProposalState.APPROVED) if one.task in busy]

    def _approve_by_itself(self, still: Still, done: _Done) -> None:
        for proposal in self._proposals.all(ProposalKind.PRODUCT, ProposalState.OPEN):
            near = proposal.details.get("nearest", {}).get("near", False)
            if near or proposal.size < self._options.by_itself_images:
                continue  # a person should look
            still()
            task = Task(
                id=TaskId(f"product-{proposal.id}"),
                class_name="product",
                false_alarm_rate=self._options.false_alarm_rate,
            )
            try:
                done.approved.append(self.approve(proposal.id, task, who=POLICY, remark="discovery.approve: by itself"))
            except StreamAdError as error:
                log.warning("proposal %d waits for a person: %s", proposal.id, error)


def sheet_path(proposal_id: int) -> str:
    """Where a proposal's sheet lies, within the folder of kept pictures."""
    return f"sheets/proposal-{proposal_id}.jpg"


def _learned_at(banks: BankRepository) -> dict[TaskId, datetime]:
    """When each task was published last."""
    return {TaskId(row["task"]): row["created_at"] for row in banks.versions() if row["task"]}


def _balls(proposals: Sequence[Proposal], pool: Sequence[KeptImage]) -> list[Ball]:
    features = pool[0].features if pool else None
    return [
        Ball(one.center.astype(np.float64), one.radius)
        for one in proposals
        if one.center is not None and one.radius is not None and one.features == features
    ]


def _embeddings(images: Sequence[KeptImage]) -> Float32[np.ndarray, "n joint"]:
    return np.stack([image.embedding for image in images]) if images else np.zeros((0, 1), np.float32)


def _told(pool: Sequence[KeptImage], done: _Done) -> str:
    parts = [f"{counted(len(pool), 'picture')} of no known product"]
    if done.proposed:
        parts.append(f"proposed: {', '.join(f'{one.id} ({one.size} pictures)' for one in done.proposed)}")
    if done.approved:
        parts.append(f"approved by policy: {', '.join(str(job.task) for job in done.approved)}")
    if done.grown:
        parts.append(f"{done.grown} joined open proposals")
    if done.dropped:
        parts.append(f"{done.dropped} forgotten, known or unwanted by now")
    if done.waiting:
        parts.append(f"{done.waiting} of products that are being learned")
    if done.unsteady:
        parts.append(f"{done.unsteady} groups not steady yet")
    return "; ".join(parts)
