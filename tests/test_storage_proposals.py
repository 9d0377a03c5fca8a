"""What the database promises of the pool of unknown pictures, and of the proposals made of it."""

# ruff: noqa: F811 (a fixture is imported, then named as an argument)

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from discovery_kit import FEATURES, ROOMY, fill, group_of, image, proposed
from storage_kit import NOON, after, claim, database, publish, queue, task, url  # noqa: F401

from stream_ad.adapters.storage import Database
from stream_ad.domain.discovery import PoolBounds
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.proposal import ProposalKind, ProposalState
from stream_ad.domain.task import TaskId
from stream_ad.errors import DataError, JobError, TaskExists, UnknownTask


def kept(database: Database) -> list[int]:
    """By their offsets."""
    return [one.place[2] for one in database.kept_images.all()]


def test_a_kept_picture_comes_back_as_it_was(database: Database) -> None:
    given = image(7, camera=None)
    assert database.kept_images.keep([given], ROOMY) == []
    [back] = database.kept_images.all()
    assert (back.place, back.camera, back.path, back.sha256, back.at) == (
        given.place,
        None,
        given.path,
        given.sha256,
        given.at,
    )
    np.testing.assert_array_equal(back.embedding, given.embedding)
    assert (back.features, back.size_bytes, back.proposal_id) == (FEATURES, 1000, None)


def test_the_same_picture_is_kept_once_and_its_second_file_is_not_needed(database: Database) -> None:
    fill(database, 1)
    assert database.kept_images.keep([image(5, sha256=image(0).sha256, path="05/again.png")], ROOMY) == ["05/again.png"]
    assert kept(database) == [0]


def test_the_oldest_of_a_camera_make_room_and_those_of_others_stay(database: Database) -> None:
    bounds = PoolBounds(per_camera=3)
    database.kept_images.keep([image(number, camera="quiet") for number in range(2)], bounds)
    needless = database.kept_images.keep([image(number, camera="busy") for number in range(10, 15)], bounds)
    assert kept(database) == [0, 1, 12, 13, 14]
    assert sorted(needless) == ["00/10.png", "00/11.png"]


def test_pictures_without_a_camera_are_bounded_too(database: Database) -> None:
    database.kept_images.keep([image(number, camera=None) for number in range(5)], PoolBounds(per_camera=2))
    assert kept(database) == [3, 4]


def test_the_pool_is_bounded_in_pictures_whatever_the_cameras_are_called(database: Database) -> None:
    images = [image(number, camera=f"cam{number}") for number in range(6)]
    needless = database.kept_images.keep(images, PoolBounds(images=4))
    assert kept(database) == [2, 3, 4, 5]
    assert len(needless) == 2


def test_the_pool_is_bounded_in_bytes(database: Database) -> None:
    database.kept_images.keep([image(number) for number in range(6)], PoolBounds(size_bytes=2500))
    assert kept(database) == [4, 5]


def test_pictures_of_a_proposal_are_out_of_reach_of_the_pools_bounds(database: Database) -> None:
    proposed(database, 5)
    database.kept_images.keep([image(number) for number in range(10, 14)], PoolBounds(images=2))
    assert kept(database) == [0, 1, 2, 3, 4, 12, 13]


def test_more_pictures_than_a_statement_takes_parameters_leave_at_once(database: Database) -> None:
    database.kept_images.keep([image(number) for number in range(2000)], PoolBounds(per_camera=5000))
    assert len(database.kept_images.drop([one.id for one in database.kept_images.all()])) == 2000
    assert kept(database) == []


def test_pictures_of_a_proposal_are_not_dropped(database: Database) -> None:
    proposed(database, 5)
    assert database.kept_images.drop([one.id for one in database.kept_images.all()]) == []
    assert database.kept_images.paths() == {f"00/{number}.png" for number in range(5)}


def test_a_proposal_has_its_pictures_and_where_they_lie(database: Database) -> None:
    made = proposed(database, 5)
    assert (made.kind, made.state, made.size, made.radius) == (ProposalKind.PRODUCT, ProposalState.OPEN, 5, 0.1)
    assert made.details == {"cameras": {"cam1": 5}}
    assert made.center is not None
    np.testing.assert_array_equal(made.center, database.kept_images.all()[0].embedding)
    assert len(database.kept_images.of(made.id)) == 5
    assert [one.id for one in database.proposals.all(state=ProposalState.OPEN)] == [made.id]


def test_a_picture_is_of_one_proposal_only(database: Database) -> None:
    images = fill(database, 6)
    assert database.proposals.propose(group_of(images[:4]), NOON) is not None
    assert database.proposals.propose(group_of(images[3:]), NOON) is None
    assert len(database.proposals.all()) == 1


def test_a_group_proposed_by_two_at_once_is_proposed_once(database: Database) -> None:
    images = fill(database, 6)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: database.proposals.propose(group_of(images), NOON), range(4)))
    assert sum(one is not None for one in made) == 1
    assert len(database.proposals.all()) == 1


def test_a_proposal_grows_by_the_pictures_that_are_free(database: Database) -> None:
    first = proposed(database, 3)
    fill(database, 4, first=10)
    assert database.proposals.grow(first.id, group_of(database.kept_images.all(), radius=0.3), after(9)) == 4
    grown = database.proposals.get(first.id)
    assert (grown.size, grown.radius, grown.updated_at) == (7, 0.3, after(9))


def test_approval_makes_task_and_job_and_empties_the_pool_in_one_step(database: Database) -> None:
    made = proposed(database, 3)
    job, needless = database.proposals.approve(
        made.id, task("bolt"), {"images": "/data/bolt"}, who="ada", remark="a new bolt", at=after(60)
    )
    assert (job.kind, job.task, job.state, job.payload) == (
        JobKind.ADAPT,
        "bolt",
        JobState.QUEUED,
        {"images": "/data/bolt"},
    )
    assert sorted(needless) == ["00/0.png", "00/1.png", "00/2.png"]
    ended = database.proposals.get(made.id)
    assert (ended.state, ended.task, ended.decided_by, ended.remark) == (
        ProposalState.APPROVED,
        "bolt",
        "ada",
        "a new bolt",
    )
    assert database.tasks.get("bolt").class_name == "metal bolt"
    assert kept(database) == []
    assert database.audit.recent(1)[0]["action"] == "approve"


def test_a_name_that_is_taken_leaves_the_proposal_open(database: Database) -> None:
    queue(database, "bolt")
    made = proposed(database, 3)
    with pytest.raises(TaskExists):
        database.proposals.approve(made.id, task("bolt"), {}, who="ada", remark="", at=NOON)
    assert database.proposals.get(made.id).state is ProposalState.OPEN
    assert len(database.kept_images.of(made.id)) == 3


def test_approval_into_a_known_task_queues_its_readaptation(database: Database) -> None:
    publish(database)
    made = proposed(database, 3)
    job, _ = database.proposals.approve_into(made.id, TaskId("nut"), {"images": "/n"}, who="ada", remark="", at=NOON)
    assert (job.kind, job.task) == (JobKind.READAPT, "nut")
    assert database.proposals.get(made.id).task == "nut"


def test_a_task_that_is_not_there_or_busy_takes_no_proposal(database: Database) -> None:
    made = proposed(database, 3)
    with pytest.raises(UnknownTask):
        database.proposals.approve_into(made.id, TaskId("nut"), {}, who="ada", remark="", at=NOON)
    queue(database)
    with pytest.raises(JobError, match="open job"):
        database.proposals.approve_into(made.id, TaskId("nut"), {}, who="ada", remark="", at=NOON)
    assert database.proposals.get(made.id).state is ProposalState.OPEN


def test_what_was_rejected_is_remembered_without_its_pictures(database: Database) -> None:
    made = proposed(database, 3)
    assert len(database.proposals.reject(made.id, who="ada", reason="empty conveyor", at=after(5))) == 3
    ended = database.proposals.get(made.id)
    assert (ended.state, ended.remark, ended.radius) == (ProposalState.REJECTED, "empty conveyor", 0.1)
    assert ended.center is not None
    assert kept(database) == []
    [row] = database.audit.recent(1)
    assert (row["who"], row["action"], row["reason"]) == ("ada", "reject", "empty conveyor")


def test_what_is_decided_stays_decided(database: Database) -> None:
    made = proposed(database, 3)
    database.proposals.approve(made.id, task("bolt"), {}, who="ada", remark="", at=NOON)
    with pytest.raises(DataError, match=r"needed an open proposal, but 1 was approved by ada as task 'bolt'"):
        database.proposals.reject(made.id, who="bob", reason="no", at=NOON)
    with pytest.raises(DataError, match="there is no proposal 99"):
        database.proposals.get(99)


def test_of_two_who_approve_at_once_one_makes_a_task(database: Database) -> None:
    made = proposed(database, 3)

    def approve(number: int) -> bool:
        try:
            database.proposals.approve(made.id, task(f"bolt{number}"), {}, who="ada", remark="", at=NOON)
        except DataError:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(approve, range(3))) == 1
    assert len(database.tasks.all()) == len(database.jobs.all()) == 1
    assert claim(database).kind is JobKind.ADAPT
