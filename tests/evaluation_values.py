"""Made-up evaluations, as the protocol would return them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from stream_ad.domain.evaluation import METRICS, Evaluation, Half, ImageOutcome, TaskEvaluation
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId

START = datetime(2026, 3, 2, 7, 30, tzinfo=UTC)
NAN = float("nan")


def outcome(
    image_id: str,
    task: str,
    *,
    defective: bool = False,
    verdict: Verdict = Verdict.OK,
    routed_task: str | None = None,
    refused: bool = False,
    synthetic: bool = False,
) -> ImageOutcome:
    return ImageOutcome(
        image_id=image_id,
        task=TaskId(task),
        defective=defective,
        kind="scratch" if defective else "good",
        synthetic=synthetic and defective,
        routed_task=TaskId(routed_task or task),
        refused=refused,
        margin=0.4,
        routed_score=1.0,
        oracle_score=1.0,
        routed_verdict=Verdict.UNKNOWN if refused else verdict,
        oracle_verdict=verdict,
    )


def outcomes(
    task: str, *, good: int, bad: int, false_alarms: int = 0, missed: int = 0, refused: int = 0, synthetic: bool = False
) -> list[ImageOutcome]:
    """The first `false_alarms` good pictures alarm, the first `missed` defects pass, the last `refused` are refused."""
    made = [
        outcome(
            f"{task}-good-{i}",
            task,
            verdict=Verdict.NG if i < false_alarms else Verdict.OK,
            refused=i >= good - refused,
        )
        for i in range(good)
    ]
    return made + [
        outcome(
            f"{task}-bad-{i}",
            task,
            defective=True,
            verdict=Verdict.OK if i < missed else Verdict.NG,
            synthetic=synthetic,
        )
        for i in range(bad)
    ]


def task_evaluation(
    task: str,
    auroc: float,
    *,
    oracle: float | None = None,
    pixel_ap: float | None = None,
    judged: Sequence[ImageOutcome] = (),
    synthetic: bool = False,
    notes: tuple[str, ...] = (),
) -> TaskEvaluation:
    """Rates follow from the outcomes."""
    good = [o for o in judged if not o.defective]
    bad = [o for o in judged if o.defective]

    def numbers(value: float) -> Mapping[str, float]:
        pixel = value - 0.3 if pixel_ap is None else pixel_ap
        return dict(zip(METRICS, (value, value, value, pixel, value), strict=True))

    def share(hits: Sequence[bool]) -> float:
        return float(np.mean(hits)) if hits else NAN

    return TaskEvaluation(
        task=TaskId(task),
        routed=numbers(auroc),
        oracle=numbers(auroc if oracle is None else oracle),
        routing_accuracy=share([o.routed_task == o.task for o in judged]),
        refused_rate=share([o.refused for o in judged]),
        false_alarm_rate=share([o.routed_verdict != Verdict.OK for o in good]),
        detection_rate=share([o.routed_verdict != Verdict.OK for o in bad]),
        n_normal=len(good),
        n_defective=len(bad),
        synthetic=synthetic,
        outcomes=tuple(judged),
        notes=notes,
    )


def evaluation(
    version: int,
    learned: str | None,
    tasks: Sequence[TaskEvaluation],
    *,
    published: bool = True,
    job_id: int | None = None,
    half: Half = Half.TEST,
    **provenance: str,
) -> Evaluation:
    return Evaluation(
        half=half,
        bank_version=version,
        published=published,
        job_id=version if job_id is None else job_id,
        learned_task=None if learned is None else TaskId(learned),
        tasks={t.task: t for t in tasks},
        provenance={"code": "0.1.0", "weights": "9f2c1e7a", "device": "cpu", "threads": "2", "seed": "0", **provenance},
        at=START + timedelta(minutes=7 * version),
    )


def a_job(job_id: int, task: str | None, state: JobState, kind: JobKind = JobKind.ADAPT, **more: Any) -> Job:
    """A job that ended, seven minutes a number after the start."""
    return Job(
        id=job_id,
        kind=kind,
        task=None if task is None else TaskId(task),
        state=state,
        payload={},
        attempts=1,
        max_attempts=3,
        created_at=START,
        finished_at=START + timedelta(minutes=7 * job_id),
        bank_version=more.pop("bank_version", job_id if state is JobState.PUBLISHED else None),
        **more,
    )


def sequence(rows: Sequence[Sequence[float]], names: Sequence[str], *, half: Half = Half.TEST) -> list[Evaluation]:
    """One published version per row; row k holds tasks 0 to k, each with 20 good and 10 defective pictures."""
    return [
        evaluation(
            version,
            names[version - 1],
            [
                task_evaluation(name, value, judged=outcomes(name, good=20, bad=10))
                for name, value in zip(names, row, strict=False)
            ],
            half=half,
        )
        for version, row in enumerate(rows, start=1)
    ]
