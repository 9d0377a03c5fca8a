"""From a pool of unknown pictures to proposals, tasks and what is remembered. Pictures are real files, tiny ones."""

# ruff: noqa: F811 (a fixture is imported, then named as an argument)

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptation_kit import HandClock
from discovery_kit import FEATURES, ROOMY, around
from storage_kit import NOON, claim, database, entry, evaluation, publish, queue, task, url  # noqa: F401
from stream_kit import png

from stream_ad.adapters.decode import decode, pixel_sha256
from stream_ad.adapters.kept_pictures import KeptPictures
from stream_ad.adapters.storage import Database
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.feedback import FeedbackKind
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.proposal import KeptImage, ProposalKind, ProposalState
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import DataError, LeadershipLost, StreamAdError, TaskExists, TooFewImages
from stream_ad.services.discovery import Discovery, DiscoveryOptions, sheet_path
from stream_ad.services.known_looks import KnownLooks


class Plant:
    """A pool with its files, and what looks at it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.clock = database, HandClock()
        self.files = KeptPictures(folder / "unknown", folder / "tasks", max_pixels=10_000)
        self.folder = folder
        self._offset = 0

    def discovery(self, **options: Any) -> Discovery:
        def check(task: Task, folder: str) -> Mapping[str, Any]:
            if len(list(Path(folder).iterdir())) < 6:
                raise TooFewImages(task.id, 6, len(list(Path(folder).iterdir())))
            return {"images": folder}

        def check_more(task: TaskId, folder: str, heldout: Path | None) -> Mapping[str, Any]:
            return {"images": "/first", "more": [{"images": folder}], "heldout": heldout and str(heldout)}

        return Discovery(
            images=self.database.kept_images,
            proposals=self.database.proposals,
            files=self.files,
            banks=self.database.banks,
            jobs=self.database.jobs,
            feedback=self.database.feedback,
            clock=self.clock,
            check=check,
            check_more=check_more,
            options=DiscoveryOptions(**{"min_images": 20, **options}),
        )

    def see(self, axis: int, count: int, *, camera: str | None = "cam1", features: str = FEATURES) -> None:
        """Pictures of a product come and are unknown."""
        self.clock.sleep(60.0)
        images = []
        for point in around(axis, count, seed=self._offset):
            picture = np.full((4, 4, 3), axis * 20, np.uint8)
            picture[0, 0] = (self._offset % 256, self._offset // 256, 0)
            path, sha256, size = self.files.write(None, picture)
            images.append(
                KeptImage(
                    id=0,
                    place=("images", 0, self._offset),
                    camera=camera,
                    path=path,
                    sha256=sha256,
                    size_bytes=size,
                    embedding=point,
                    features=features,
                    at=self.clock.now(),
                )
            )
            self._offset += 1
        self.files.remove(self.database.kept_images.keep(images, ROOMY))

    def learn(self, name: str, axis: int) -> None:
        """A job publishes a task whose pictures lie around that axis."""
        parent, version = self.database.banks.active_version(), self.database.banks.next_version()
        job = claim(self.database, at=self.clock.now())
        learned = entry(name)
        spec = replace(learned.features, backbone="tiny")
        made = replace(
            learned,
            arrays={"embeddings": around(axis, 30, seed=99)},
            calibration=replace(learned.calibration, embedding_distances=np.full(9, 0.05)),
            features=spec,
        )
        bank = self.database.banks.load().with_entry(self.database.entries.put(made), version)
        self.database.banks.publish(
            bank,
            parent=parent,
            job=job,
            worker="w1",
            evaluations=[evaluation(*bank.entries, version=version, job_id=job.id)],
            message=f"learned {name}",
            at=self.clock.now(),
        )

    def race(self, approvals: Sequence[tuple[int, str]]) -> list[StreamAdError]:
        """Approve proposals by these names, all at once from the moment that their pictures are copied; who loses."""
        together = threading.Barrier(len(approvals))

        def approve(wanted: tuple[int, str]) -> StreamAdError | None:
            discovery = self.discovery()
            check = discovery._check

            def checked(task: Task, folder: str) -> Mapping[str, Any]:
                together.wait(10)
                return check(task, folder)

            discovery._check = checked
            try:
                discovery.approve(wanted[0], task(wanted[1]), who="ada", remark="")
            except StreamAdError as error:
                return error
            return None

        with ThreadPoolExecutor(len(approvals)) as pool:
            return [error for error in pool.map(approve, approvals) if error is not None]

    @property
    def open(self) -> list[int]:
        return [one.size for one in self.database.proposals.all(ProposalKind.PRODUCT, ProposalState.OPEN)]

    @property
    def pictures(self) -> int:
        """Files of the pool."""
        return len(list((self.folder / "unknown").glob("??/*")))


@pytest.fixture
def plant(database: Database, tmp_path: Path) -> Plant:
    return Plant(database, tmp_path)


ENTRY_FEATURES = str(entry().features)


def test_products_of_one_mixed_stream_are_proposed_each_with_its_pictures(plant: Plant) -> None:
    plant.see(0, 30)
    plant.see(1, 25, camera="cam2")
    found = plant.discovery().run()
    assert sorted(plant.open) == [25, 30]
    assert found.news
    assert "proposed: 1 (30 pictures), 2 (25 pictures)" in found.text
    assert [one.details["cameras"] for one in plant.database.proposals.all()] == [{"cam1": 30}, {"cam2": 25}]
    assert (plant.folder / "unknown" / sheet_path(1)).is_file()


def test_looking_again_proposes_nothing_twice_and_lets_proposals_grow(plant: Plant) -> None:
    plant.see(0, 30)
    plant.discovery().run()
    assert not plant.discovery().run().news
    plant.see(0, 10)
    assert "10 joined open proposals" in plant.discovery().run().text
    assert plant.open == [40]


def test_a_plant_may_ask_for_small_groups(plant: Plant) -> None:
    plant.see(0, 8)
    plant.discovery().run()
    assert plant.open == []
    plant.discovery(min_images=6).run()
    assert plant.open == [8]


def test_an_open_proposal_takes_no_more_pictures_than_it_may(plant: Plant) -> None:
    plant.see(0, 30)
    plant.discovery(per_proposal=25).run()
    plant.see(0, 30)
    plant.discovery(per_proposal=40).run()
    assert plant.open == [40]


def test_pictures_of_other_features_are_never_grouped_together(plant: Plant) -> None:
    plant.see(0, 15)
    plant.see(0, 15, features="another backbone")
    plant.discovery().run()
    assert plant.open == []


def test_an_approved_product_has_its_pictures_in_a_folder_of_its_own(plant: Plant) -> None:
    plant.see(0, 30)
    plant.discovery().run()
    job = plant.discovery().approve(1, task("bolt"), who="ada", remark="")
    folder = plant.folder / "tasks" / "bolt-proposal-1"
    assert (job.kind, job.payload) == (JobKind.ADAPT, {"images": str(folder)})
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 30
    assert names[0].startswith("cam1-images-0-000000000-")
    assert plant.pictures == 0
    assert not (plant.folder / "unknown" / sheet_path(1)).exists()


def test_pictures_that_join_while_their_product_is_approved_stay_in_the_pool(plant: Plant) -> None:
    plant.see(0, 30)
    plant.discovery().run()

    class Slow(KeptPictures):
        def give(self, images, folder):
            given = super().give(images, folder)
            plant.see(0, 10)
            assert "10 joined open proposals" in plant.discovery().run().text
            return given

    approving = plant.discovery()
    approving._files = Slow(plant.folder / "unknown", plant.folder / "tasks", max_pixels=10_000)
    approving.approve(1, task("bolt"), who="ada", remark="")
    assert len(list((plant.folder / "tasks" / "bolt-proposal-1").iterdir())) == 30
    assert [one.proposal_id for one in plant.database.kept_images.all()] == [None] * 10
    assert plant.database.proposals.get(1).size == 30
    assert plant.pictures == 10


@pytest.mark.parametrize("names", [("bolt", "bolt"), ("bolt", "screw")])
def test_of_two_who_approve_a_proposal_at_once_one_wins_and_of_the_other_nothing_is_left(
    plant: Plant, names: tuple[str, str]
) -> None:
    plant.see(0, 30)
    plant.discovery().run()
    assert len(plant.race([(1, name) for name in names])) == 1
    [made] = plant.database.tasks.all()
    [job] = plant.database.jobs.all()
    assert [path for path in (plant.folder / "tasks").iterdir()] == [Path(job.payload["images"])]
    assert len(list(Path(job.payload["images"]).iterdir())) == 30
    assert (job.task, plant.database.proposals.get(1).task) == (made.id, made.id)


def test_of_two_products_that_are_given_one_name_at_once_one_gets_it(plant: Plant) -> None:
    plant.see(0, 30)
    plant.see(1, 30)
    plant.discovery().run()
    [error] = plant.race([(1, "bolt"), (2, "bolt")])
    assert isinstance(error, TaskExists)
    [job] = plant.database.jobs.all()
    assert list((plant.folder / "tasks").iterdir()) == [Path(job.payload["images"])]
    assert (plant.open, plant.pictures) == ([30], 30)


def test_approval_can_be_tried_again_after_it_failed(plant: Plant) -> None:
    queue(plant.database, "bolt")
    plant.see(0, 30)
    plant.discovery().run()
    with pytest.raises(TaskExists):
        plant.discovery().approve(1, task("bolt"), who="ada", remark="")
    assert plant.pictures == 30
    assert list((plant.folder / "tasks").iterdir()) == []
    plant.discovery().approve(1, task("screw"), who="ada", remark="")
    assert plant.database.proposals.get(1).task == "screw"


def test_a_name_of_the_bank_or_a_decided_proposal_is_refused_before_pictures_are_copied(plant: Plant) -> None:
    publish(plant.database)
    plant.see(0, 30)
    plant.discovery().run()
    with pytest.raises(TaskExists, match="tasks approve 1 --into nut"):
        plant.discovery().approve(1, task("nut"), who="ada", remark="")
    assert not (plant.folder / "tasks" / "nut-proposal-1").exists()
    plant.discovery().approve(1, task("bolt"), who="ada", remark="")
    with pytest.raises(DataError, match="proposal 1 was approved by ada as task 'bolt' already"):
        plant.discovery().approve(1, task("washer"), who="bob", remark="")
    assert not (plant.folder / "tasks" / "washer-proposal-1").exists()


def test_a_picture_that_changed_since_it_was_kept_is_not_learned(plant: Plant) -> None:
    plant.see(0, 30)
    plant.discovery().run()
    image = plant.database.kept_images.of(1)[3]
    (plant.folder / "unknown" / image.path).write_bytes(b"\x89PNG damaged")
    with pytest.raises(DataError, match="needed the kept picture"):
        plant.discovery().approve(1, task("bolt"), who="ada", remark="")
    assert plant.database.tasks.all() == []
    assert plant.database.proposals.get(1).state is ProposalState.OPEN
    assert list((plant.folder / "tasks").iterdir()) == []


def test_pictures_of_a_known_task_are_added_to_it(plant: Plant) -> None:
    publish(plant.database)
    plant.see(0, 30)
    plant.discovery().run()
    job = plant.discovery().approve_into(1, TaskId("nut"), who="ada", remark="")
    folder = str(plant.folder / "tasks" / "nut-proposal-1")
    assert (job.kind, job.task, job.payload["more"]) == (JobKind.READAPT, "nut", [{"images": folder}])


def test_a_rejected_group_is_not_proposed_again_and_its_pictures_go(plant: Plant) -> None:
    plant.see(0, 30)
    plant.discovery().run()
    plant.discovery().reject(1, who="ada", reason="empty conveyor")
    assert plant.pictures == 0
    plant.see(0, 30)
    plant.see(1, 30)
    assert "30 forgotten" in plant.discovery().run().text
    assert plant.open == [30]  # the other product is none the worse
    assert plant.pictures == 30


def test_late_pictures_of_a_product_that_is_being_learned_are_not_proposed(plant: Plant) -> None:
    plant.see(0, 30)
    plant.discovery().run()
    plant.discovery().approve(1, task("bolt"), who="ada", remark="")
    plant.see(0, 30)
    assert "30 of products that are being learned" in plant.discovery().run().text
    assert plant.open == []


def test_a_product_whose_job_came_to_nothing_is_proposed_again(plant: Plant) -> None:
    plant.see(0, 30)
    plant.discovery().run()
    job = plant.discovery().approve(1, task("bolt"), who="ada", remark="")
    plant.database.jobs.cancel(job.id, NOON)
    plant.see(0, 30)
    plant.discovery().run()
    assert plant.open == [30]


def test_pictures_that_came_before_their_product_was_learned_are_forgotten(plant: Plant) -> None:
    plant.see(0, 15, features=ENTRY_FEATURES)
    queue(plant.database, "bolt")
    plant.clock.sleep(60.0)
    plant.learn("bolt", 0)
    assert "15 forgotten" in plant.discovery().run().text
    assert plant.pictures == 0


def test_a_picture_that_somebody_said_is_not_of_a_task_stays_when_that_task_is_published_again(plant: Plant) -> None:
    plant.see(0, 15, features=ENTRY_FEATURES)
    for image, kind, judged in zip(
        plant.database.kept_images.all()[:3],
        (FeedbackKind.WRONG_PRODUCT, FeedbackKind.WRONG_PRODUCT, FeedbackKind.MISSED),
        ("bolt", "screw", "bolt"),
        strict=True,
    ):
        plant.database.feedback.add(
            place=image.place,
            kind=kind,
            who="ada",
            reason="a washer",
            task=TaskId(judged),
            path="00/a.png",
            sha256=image.sha256,
            at=NOON,
        )
    queue(plant.database, "bolt")
    plant.clock.sleep(60.0)
    plant.learn("bolt", 0)
    assert "14 forgotten" in plant.discovery().run().text
    assert [image.place[2] for image in plant.database.kept_images.all()] == [0]


def test_a_known_task_whose_pictures_are_refused_is_named_beside_the_proposal(plant: Plant) -> None:
    queue(plant.database, "bolt")
    plant.learn("bolt", 0)
    plant.see(0, 30, features=ENTRY_FEATURES)
    plant.see(1, 30, features=ENTRY_FEATURES)
    plant.discovery().run()
    near = {one.id: one.details["nearest"] for one in plant.database.proposals.all()}
    assert [bool(one["near"]) for one in near.values()] == [True, False]
    assert "they may be of task 'bolt'" in plant.database.proposals.get(1).reason


def test_the_policy_approves_large_groups_that_are_unlike_every_known_task(plant: Plant) -> None:
    queue(plant.database, "bolt")
    plant.learn("bolt", 0)
    for axis, count in ((0, 60), (1, 60), (2, 30)):
        plant.see(axis, count, features=ENTRY_FEATURES)
    found = plant.discovery(by_itself=True, by_itself_images=50, false_alarm_rate=0.02).run()
    [job] = [job for job in plant.database.jobs.all() if job.state is JobState.QUEUED]
    assert f"approved by policy: {job.task}" in found.text
    made = plant.database.tasks.get(str(job.task))
    assert (made.false_alarm_rate, made.class_name) == (0.02, "product")
    assert sorted(plant.open) == [30, 60]  # too small; and too near to what is known
    assert plant.database.audit.recent(1)[0]["who"] == "policy"


def test_the_policy_approves_nothing_once_another_scheduler_leads(plant: Plant) -> None:
    plant.see(0, 60)
    plant.see(1, 60)
    asked: list[int] = []

    def still() -> None:
        asked.append(len(plant.database.jobs.all()))
        if asked[-1] == 1:
            raise LeadershipLost("another one leads")

    with pytest.raises(LeadershipLost):
        plant.discovery(by_itself=True).run(still)
    assert asked == [0, 0, 1]  # before the grouping, before the first approval, before the second
    assert plant.open == [60]


def test_a_proposal_to_adapt_again_is_approved_with_new_pictures(plant: Plant, tmp_path: Path) -> None:
    publish(plant.database)
    plant.database.drift.propose(TaskId("nut"), "scores rise", {}, 500, NOON)
    [proposal] = plant.database.proposals.all(ProposalKind.READAPT)
    with pytest.raises(DataError, match="of a readapt"):
        plant.discovery().approve(proposal.id, task("bolt"), who="ada", remark="")
    job = plant.discovery().approve_readapt(proposal, tmp_path / "new", tmp_path / "held", who="ada", remark="")
    assert (job.kind, job.payload["heldout"]) == (JobKind.READAPT, str(tmp_path / "held"))
    assert plant.database.proposals.get(proposal.id).state is ProposalState.APPROVED


def test_files_that_no_row_names_are_swept_after_an_hour(plant: Plant) -> None:
    plant.see(0, 2)
    path, _, _ = plant.files.write(None, np.full((4, 4, 3), 200, np.uint8))
    assert plant.files.sweep(plant.database.kept_images.paths(), before=NOON - timedelta(days=1)) == 0
    assert plant.files.sweep(plant.database.kept_images.paths(), before=NOON + timedelta(days=3650)) == 1
    assert plant.pictures == 2
    assert not (plant.folder / "unknown" / path).exists()


def test_a_file_is_as_it_came_and_without_its_bytes_it_loses_nothing(plant: Plant) -> None:
    encoded = png(77)
    path, sha256, size = plant.files.write(encoded, decode(encoded))
    assert (plant.folder / "unknown" / path).read_bytes() == encoded
    assert (Path(path).suffix, size) == (".png", len(encoded))
    again, same, _ = plant.files.write(None, decode(encoded))
    assert again != path
    assert sha256 == same == pixel_sha256(decode((plant.folder / "unknown" / again).read_bytes()))


def test_nothing_known_is_near_to_nothing() -> None:
    looks = KnownLooks(MemoryBank(version=0), FEATURES)
    assert looks.near(around(0, 3)) is None
    assert looks.nearest(around(0, 2)) == [None, None]
