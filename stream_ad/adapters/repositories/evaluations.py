"""What was measured of every bank and every refused candidate."""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import EvaluationRow, ImageOutcomeRow, TaskEvaluationRow
from stream_ad.domain.evaluation import Evaluation, Half, ImageOutcome, TaskEvaluation
from stream_ad.domain.task import TaskId


class SqlEvaluationRepository:
    """`domain.ports.EvaluationRepository` on SQL."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def save(self, evaluation: Evaluation) -> None:
        with self._transactions.write() as session:
            save_evaluation(session, evaluation)

    def all(self, half: Half) -> list[Evaluation]:
        chosen = select(EvaluationRow.id).where(EvaluationRow.half == half)
        with self._transactions.read() as session:
            tasks: dict[int, dict[TaskId, TaskEvaluation]] = defaultdict(dict)
            outcomes = _outcomes(session, chosen)
            for row in session.scalars(
                select(TaskEvaluationRow)
                .where(TaskEvaluationRow.evaluation_id.in_(chosen))
                .order_by(TaskEvaluationRow.evaluation_id, TaskEvaluationRow.position)
            ):
                task = TaskId(row.task_id)
                tasks[row.evaluation_id][task] = _task_evaluation(row, outcomes[row.evaluation_id, row.task_id])
            return [
                Evaluation(
                    half=row.half,
                    bank_version=row.bank_version,
                    published=row.published,
                    job_id=row.job_id,
                    learned_task=None if row.learned_task is None else TaskId(row.learned_task),
                    tasks=tasks[row.id],
                    provenance=row.provenance,
                    at=row.at,
                )
                for row in session.scalars(
                    select(EvaluationRow).where(EvaluationRow.half == half).order_by(EvaluationRow.id)
                )
            ]

    def thin(self, bank_version: int, keep: Collection[int | None]) -> None:
        others = select(EvaluationRow.id).where(
            EvaluationRow.bank_version == bank_version,
            EvaluationRow.published.is_(True),
            EvaluationRow.job_id.not_in([job for job in keep if job is not None]),
        )
        with self._transactions.write() as session:
            session.execute(delete(ImageOutcomeRow).where(ImageOutcomeRow.evaluation_id.in_(others)))


def save_evaluation(session: Session, evaluation: Evaluation) -> None:
    """Add an evaluation, in place of what an earlier attempt of the same job measured, maybe of an earlier bank."""
    if evaluation.job_id is not None:
        session.execute(
            delete(EvaluationRow).where(
                EvaluationRow.job_id == evaluation.job_id,
                EvaluationRow.half == evaluation.half,
            )
        )
    row = EvaluationRow(
        half=evaluation.half,
        bank_version=evaluation.bank_version,
        published=evaluation.published,
        job_id=evaluation.job_id,
        learned_task=evaluation.learned_task,
        provenance=dict(evaluation.provenance),
        at=evaluation.at,
    )
    session.add(row)
    session.flush()
    for position, measured in enumerate(evaluation.tasks.values()):
        session.add(
            TaskEvaluationRow(
                evaluation_id=row.id,
                task_id=measured.task,
                position=position,
                routed=dict(measured.routed),
                oracle=dict(measured.oracle),
                routing_accuracy=measured.routing_accuracy,
                refused_rate=measured.refused_rate,
                false_alarm_rate=measured.false_alarm_rate,
                detection_rate=measured.detection_rate,
                n_normal=measured.n_normal,
                n_defective=measured.n_defective,
                synthetic=measured.synthetic,
                notes=list(measured.notes),
            )
        )
        session.flush()
        if measured.outcomes:
            session.execute(
                insert(ImageOutcomeRow),
                [_outcome_values(row.id, measured.task, i, outcome) for i, outcome in enumerate(measured.outcomes)],
            )


def _outcome_values(evaluation_id: int, task: TaskId, position: int, outcome: ImageOutcome) -> dict[str, Any]:
    return {
        "evaluation_id": evaluation_id,
        "task_id": task,
        "position": position,
        "image_id": outcome.image_id,
        "defective": bool(outcome.defective),
        "kind": outcome.kind,
        "synthetic": bool(outcome.synthetic),
        "routed_task": outcome.routed_task,
        "refused": bool(outcome.refused),
        "margin": outcome.margin,
        "routed_score": outcome.routed_score,
        "oracle_score": outcome.oracle_score,
        "routed_verdict": outcome.routed_verdict,
        "oracle_verdict": outcome.oracle_verdict,
    }


def _outcomes(session: Session, chosen: Any) -> dict[tuple[int, str], list[ImageOutcome]]:
    found: dict[tuple[int, str], list[ImageOutcome]] = defaultdict(list)
    # columns, not objects: there are as many rows as images times versions
    columns = ImageOutcomeRow.__table__.columns
    rows = session.execute(
        select(*columns)
        .where(columns.evaluation_id.in_(chosen))
        .order_by(columns.evaluation_id, columns.task_id, columns.position)
    )
    for row in rows:
        found[row.evaluation_id, row.task_id].append(
            ImageOutcome(
                image_id=row.image_id,
                task=TaskId(row.task_id),
                defective=row.defective,
                kind=row.kind,
                synthetic=row.synthetic,
                routed_task=TaskId(row.routed_task),
                refused=row.refused,
                margin=row.margin,
                routed_score=_measured(row.routed_score),
                oracle_score=_measured(row.oracle_score),
                routed_verdict=row.routed_verdict,
                oracle_verdict=row.oracle_verdict,
            )
        )
    return found


def _task_evaluation(row: TaskEvaluationRow, outcomes: list[ImageOutcome]) -> TaskEvaluation:
    return TaskEvaluation(
        task=TaskId(row.task_id),
        routed=_metrics(row.routed),
        oracle=_metrics(row.oracle),
        routing_accuracy=_measured(row.routing_accuracy),
        refused_rate=_measured(row.refused_rate),
        false_alarm_rate=_measured(row.false_alarm_rate),
        detection_rate=_measured(row.detection_rate),
        n_normal=row.n_normal,
        n_defective=row.n_defective,
        synthetic=row.synthetic,
        outcomes=tuple(outcomes),
        notes=tuple(row.notes),
    )


def _metrics(stored: Mapping[str, float | None]) -> dict[str, float]:
    return {name: _measured(value) for name, value in stored.items()}


def _measured(value: float | None) -> float:
    """NULL is NaN: not measured."""
    return math.nan if value is None else float(value)
