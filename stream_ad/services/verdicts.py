"""From inspections to rows: what is kept of each picture, and what is told of a late one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from stream_ad.domain.message import DeadLetter, ImageMessage
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
    at: datetime,
) -> tuple[list[InspectionResult], list[DeadLetter]]:
    """Results and dead letters. One outcome per arrival, None for a dead letter."""
    results: list[InspectionResult] = []
    letters: list[DeadLetter] = []
    for arrival, outcome, overlay in zip(batch, outcomes, overlays, strict=True):
        if isinstance(arrival.outcome, DeadLetter):
            letters.append(arrival.outcome)
        elif isinstance(outcome, Exception):
            letters.append(dead_letter(arrival.record, "score", outcome, at=at))
        elif isinstance(arrival.outcome, Prepared) and outcome is not None:
            results.append(result_of(arrival.outcome.message, outcome, at=at, since=arrival.at, overlay=overlay))
    return results, letters


def as_told(result: InspectionResult, deadlines: Deadlines, now: datetime) -> InspectionResult:
    """The result as it is told now: after its deadline nothing may pass for OK. NG stays NG."""
    if result.captured_at is None or not deadlines.late(result.camera, result.captured_at, now):
        return result
    alarm = f"late: {(now - result.captured_at).total_seconds():.1f} s after its capture"
    verdict = result.verdict if result.verdict is Verdict.NG else deadlines.told
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
