"""What the storage tests share: an open database for every kind under test, and small values to put in."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from stream_ad.adapters.in_memory import InMemoryResults
from stream_ad.adapters.storage import Database
from stream_ad.domain.bank import BankEntry, BranchScale, Calibration, FeatureSpec
from stream_ad.domain.evaluation import METRICS, Evaluation, Half, ImageOutcome, TaskEvaluation
from stream_ad.domain.job import Job, JobKind
from stream_ad.domain.message import DeadLetter, OutboxMessage, Place, Record
from stream_ad.domain.ports import ResultRepository
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.domain.task import Task, TaskId

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: every kind of database
KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)]


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database; beside the fixture `database`, of the one that it opens."""
    return address(request, tmp_path, ready="database" in request.fixturenames)


def address(request: pytest.FixtureRequest, tmp_path: Path, *, ready: bool) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'stream-ad.db'}"
    return request.getfixturevalue("ready_postgres" if ready else "empty_postgres")


@pytest.fixture
def database(url: str, tmp_path: Path) -> Iterator[Database]:
    with Database(url, tmp_path / "entries", create=True) as opened:
        yield opened


@pytest.fixture(params=["in memory", *KINDS])
def results(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResultRepository]:
    """Every kind of result repository."""
    if request.param == "in memory":
        yield InMemoryResults()
    else:
        with Database(address(request, tmp_path, ready=True), tmp_path / "entries", create=True) as opened:
            yield opened.results


def task(name: str = "nut") -> Task:
    return Task(id=TaskId(name), class_name=f"metal {name}", product_ids=("A-1", "A-2"), cameras=("cam1",))


def queue(database: Database, name: str = "nut", at: datetime = NOON) -> Job:
    return database.tasks.add(task(name), JobKind.ADAPT, {"images": f"/data/{name}"}, at)


def claim(database: Database, worker: str = "w1", at: datetime = NOON, lease_s: float = 60.0) -> Job:
    job = database.jobs.claim(worker, "cpu", lease_s, at)
    assert job is not None
    return job


def take_over(database: Database, worker: str, at: datetime) -> Job:
    """A job whose worker has fallen silent: its last call, which nobody answers, and then another worker."""
    assert database.jobs.claim(worker, "cpu", 60.0, at) is None
    return claim(database, worker, at + timedelta(seconds=30))


def entry(name: str = "nut", seed: int = 0) -> BankEntry:
    rng = np.random.default_rng(seed)
    return BankEntry(
        task=task(name),
        detector="patchcore 1",
        arrays=MappingProxyType({"coreset": rng.normal(size=(7, 5)).astype(np.float32), "keys": np.arange(3)}),
        calibration=Calibration(
            score_scales={"memory": BranchScale(0.1, 0.2, 1.0)},
            map_scales={"memory": BranchScale(1 / 3, 1e-300, 0.5)},
            scores=np.sort(rng.normal(size=9)),
            map_peaks=np.sort(rng.normal(size=9)),
            key_distances=rng.normal(size=9),
            embedding_distances=rng.normal(size=9),
            out_of_fold=True,
        ),
        features=FeatureSpec(backbone="tiny", weights_sha256="ab" * 32, image_size=32),
        shared_weights=None,
        splits=MappingProxyType({"fit": "00", "regression": "11"}),
    )


def outcome(name: str, number: int) -> ImageOutcome:
    return ImageOutcome(
        image_id=f"{name}-{number}",
        task=TaskId(name),
        defective=number % 2 == 1,
        kind="scratch" if number % 2 else "good",
        synthetic=False,
        routed_task=TaskId(name),
        refused=False,
        margin=None if number == 0 else 0.1 * number,
        routed_score=float("nan") if number == 0 else number / 3,
        oracle_score=number / 7,
        routed_verdict=Verdict.OK,
        oracle_verdict=Verdict.NG,
    )


def evaluation(
    *names: str, version: int = 1, job_id: int | None = None, half: Half = Half.REGRESSION, published: bool = True
) -> Evaluation:
    tasks = {
        TaskId(name): TaskEvaluation(
            task=TaskId(name),
            routed={metric: 0.9 + i / 100 for i, metric in enumerate(METRICS)},
            oracle={**dict.fromkeys(METRICS, 0.95), "pixel_pro": float("nan")},
            routing_accuracy=1.0,
            refused_rate=0.0,
            false_alarm_rate=0.05,
            detection_rate=float("nan"),
            n_normal=3,
            n_defective=2,
            synthetic=True,
            outcomes=tuple(outcome(name, number) for number in range(5)),
            notes=("no masks",),
        )
        for name in names
    }
    return Evaluation(
        half=half,
        bank_version=version,
        published=published,
        job_id=job_id,
        learned_task=TaskId(names[-1]),
        tasks=tasks,
        provenance={"device": "cpu", "threads": 1},
        at=NOON,
    )


def publish(
    database: Database, name: str = "nut", seed: int = 0, at: datetime = NOON, shared: str | None = None
) -> int:
    """Queue, claim and publish one task; the version. `shared`: of MPA, by weights of this hash."""
    made = replace(entry(name, seed), **({"detector": "mpa/1", "shared_weights": shared} if shared else {}))
    queue(database, name, at)
    job = claim(database, at=at)
    parent, version = database.banks.active_version(), database.banks.next_version()
    bank = database.banks.load().with_entry(database.entries.put(made), version)
    database.banks.publish(
        bank,
        parent=parent,
        job=job,
        worker="w1",
        evaluations=[evaluation(*bank.entries, version=version, job_id=job.id)],
        message=f"learned {name}",
        at=at,
    )
    return version


def result(offset: int = 0, **changes: object) -> InspectionResult:
    plain = InspectionResult(
        message_id=f"m{offset}",
        topic="images",
        partition=0,
        offset=offset,
        camera="cam1",
        declared_product=None,
        task=TaskId("nut"),
        detector="patchcore 1",
        score=1 / 3,
        p_value=0.5,
        threshold=2.0,
        verdict=Verdict.OK,
        bank_version=1,
        features="tiny@32px",
        margin=None,
        alarm=None,
        latency_ms=12.5,
        scored_at=after(offset),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def record(offset: int = 0, **changes: object) -> Record:
    """The record whose result is `result(offset)`."""
    plain = Record(
        topic="images", partition=0, offset=offset, key=b"cam1", value=b"\xff\xd8", headers={"ce_id": b"m%d" % offset}
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def dead_letter(offset: int = 0, reason: str = "truncated", **changes: object) -> DeadLetter:
    """What `record(offset)` may come to instead of `result(offset)`."""
    plain = DeadLetter(
        record=record(offset, key=b"\x00k", value=b"\xff\xd8\x00"),
        stage="decode",
        error_class="UndecodableImage",
        reason=reason,
        at=after(offset),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def outbox_message(name: str, value: bytes = b"{}", place: Place | None = None) -> OutboxMessage:
    headers = {"ce_id": name.encode()}
    return OutboxMessage(id=name, channel="results", key=b"k", value=value, headers=headers, place=place)


def told(offset: int = 0, value: bytes = b"{}") -> OutboxMessage:
    """What is published of `result(offset)`."""
    return outbox_message(f"result:images/0/{offset}", value, ("images", 0, offset))
