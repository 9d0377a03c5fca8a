"""What is published: one JSON document per result, one copy per dead letter.

A result is `stream-ad.result/1`. Fields are only ever added to a schema; one that changes or goes makes it `/2`.

| field | |
|---|---|
| schema | "stream-ad.result/1" |
| id | the same for every repeat of this result; drop repeats by it |
| message_id, topic, partition, offset | which picture |
| subject | what the sender calls it, or null |
| camera, declared_product | what the message said, or null |
| captured_at, traceparent | when the picture was taken, and the sender's trace context, as the message said; or null |
| task, detector, bank_version, features | what scored it; task is the nearest one, also for an unknown product |
| score, threshold | raw score (higher is worse, comparable within a task only), and where NG begins |
| p_value | share of good parts that score at least this |
| verdict | "OK", "NG", "unknown product", "late" |
| margin, alarm | how clear the product was; set when declared product and picture disagree, and when late |
| latency_ms, scored_at | from poll to verdict; UTC, ISO 8601 |
| overlay | file of the overlay, or null |

Numbers that are not finite are null. A dead letter goes out as it came (key, value, headers) with the
`__connect.errors.*` headers of Kafka Connect added.
"""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from stream_ad.domain.message import DeadLetter, OutboxMessage
from stream_ad.domain.result import RESULT_FIELDS, InspectionResult

RESULT_SCHEMA = "stream-ad.result/1"
RESULTS, DEAD_LETTERS = "results", "dead-letters"


def result_document(result: InspectionResult) -> dict[str, Any]:
    """A result as plain JSON values."""
    # not `asdict`, which copies every time and text
    said = {name: _plain(getattr(result, name)) for name in RESULT_FIELDS}
    return {"schema": RESULT_SCHEMA, "id": _id("result", result), **said, "verdict": str(result.verdict)}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def result_message(result: InspectionResult) -> OutboxMessage:
    """A result for the outbox. Keyed by camera, so that one camera's results stay in order."""
    document = result_document(result)
    return OutboxMessage(
        id=document["id"],
        channel=RESULTS,
        key=result.camera.encode() if result.camera else None,
        value=json.dumps(document, ensure_ascii=False, allow_nan=False).encode(),
        headers={
            "ce_specversion": b"1.0",
            "ce_id": document["id"].encode(),
            "ce_type": RESULT_SCHEMA.encode(),
            "ce_source": result.topic.encode(),
            "ce_subject": result.message_id.encode(),
            "ce_time": document["scored_at"].encode(),
            "content-type": b"application/json",
            **({"traceparent": result.traceparent.encode()} if result.traceparent else {}),
        },
        place=(result.topic, result.partition, result.offset),
    )


def dead_letter_message(letter: DeadLetter) -> OutboxMessage:
    """A dead letter for the outbox: the original, with the reason in its headers."""
    record = letter.record
    return OutboxMessage(
        id=_id("dead-letter", record),
        channel=DEAD_LETTERS,
        key=record.key,
        value=record.value or b"",
        headers={
            **record.headers,
            "__connect.errors.topic": record.topic.encode(),
            "__connect.errors.partition": str(record.partition).encode(),
            "__connect.errors.offset": str(record.offset).encode(),
            "__connect.errors.connector.name": b"stream-ad",
            "__connect.errors.task.id": b"0",  # readers of these headers expect a number
            "__connect.errors.stage": letter.stage.encode(),
            "__connect.errors.class.name": f"stream_ad.{letter.stage}".encode(),
            "__connect.errors.exception.class.name": letter.error_class.encode(),
            "__connect.errors.exception.message": _bytes(letter.reason),
            **({"__connect.errors.exception.stacktrace": _bytes(letter.trace)} if letter.trace else {}),
            "stream_ad.id": _id("dead-letter", record).encode(),
            "stream_ad.attempts": str(letter.attempts).encode(),
        },
        place=record.place,
    )


def outbox_of(results: Sequence[InspectionResult], letters: Sequence[DeadLetter]) -> list[OutboxMessage]:
    """Everything one batch has to say."""
    return [*map(result_message, results), *map(dead_letter_message, letters)]


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")


def _id(kind: str, of: Any) -> str:
    return f"{kind}:{of.topic}/{of.partition}/{of.offset}"
