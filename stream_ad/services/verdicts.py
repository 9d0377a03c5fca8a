"""From inspections to rows: what is kept of each picture, and what is told of a late one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from stream_ad.domain.message import DeadLetter, ImageMessage
from stream_ad.domain.ports import Clock
from stream_ad.domain.result import Inspection, InspectionResult, Verdict
from stream_ad.services.deadlines import Deadlines
from stream_ad.services.intake import Arrival, Prepared
from stream_ad.services.messages import dead_letter


def not_scored(told: Verdict, bank_version: int) -> Inspection:
    """What is said of a picture that was late before the model could look at it."""
    return Inspection(
        task=None,
        detector=None,
        score=None,
        p_value=None,
        threshold=None,
        verdict=told,
        bank_version=bank_version,
        features="not scored",
        margin=None,
        alarm="late before it was scored",
    )


def rows_of(
    batch: Sequence[Arrival],
    outcomes: Sequence[Inspection | Exception | None],
    *,
    overlays: Sequence[str | None],
    deadlines: Deadlines,
    clock: Clock,
) -> tuple[list[InspectionResult], list[DeadLetter], int]:
    """Results, dead letters and how many came after their deadline. One outcome per arrival, None for a dead letter."""
    at = clock.now()
    results: list[InspectionResult] = []
    letters: list[DeadLetter] = []
    late = 0
    for arrival, outcome, overlay in zip(batch, outcomes, overlays, strict=True):
        if isinstance(arrival.outcome, DeadLetter):
            letters.append(arrival.outcome)
        elif isinstance(outcome, Exception):
            letters.append(dead_letter(arrival.record, "score", outcome, at=at))
        elif isinstance(arrival.outcome, Prepared) and outcome is not None:
            message = arrival.outcome.message
            result = result_of(message, outcome, at=at, since=arrival.at, overlay=overlay)
            if deadlines.late(message.camera, message.captured_at, at):
                late += 1
                result = told_late(result, deadlines.told)
            results.append(result)
    return results, letters, late


def told_late(result: InspectionResult, told: Verdict) -> InspectionResult:
    """The result as it is told after its deadline: what nobody waited for must not pass for OK. NG stays NG."""
    captured = result.captured_at or result.scored_at
    alarm = f"late: {(result.scored_at - captured).total_seconds():.1f} s after its capture"
    verdict = result.verdict if result.verdict is Verdict.NG else told
    return replace(result, verdict=verdict, alarm="; ".join(filter(None, (result.alarm, alarm))))


def result_of(
    message: ImageMessage, inspection: Inspection, *, at: datetime, since: datetime, overlay: str | None
) -> InspectionResult:
    """An inspection tied to its message; `since` is when the record was polled."""
    record = message.record
    return InspectionResult(
        message_id=message.message_id,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        camera=message.camera,
        declared_product=message.declared_product,
        task=inspection.task,
        detector=inspection.detector,
        score=inspection.score,
        p_value=inspection.p_value,
        threshold=inspection.threshold,
        verdict=inspection.verdict,
        bank_version=inspection.bank_version,
        features=inspection.features,
        margin=inspection.margin,
        alarm=inspection.alarm,
        latency_ms=(at - since).total_seconds() * 1000,
        scored_at=at,
        overlay=overlay,
        subject=message.subject,
        captured_at=message.captured_at,
        traceparent=message.traceparent,
    )
