"""A scorer as its operators see it: what it counts, how it is, and how to ask it over HTTP."""

import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from stream_ad.domain.message import DeadLetter
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.domain.task import TaskId
from stream_ad.services.health import Health
from stream_ad.services.streaming import Counters

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


@dataclass
class Scorer:
    """What `Stream` shows to its operators."""

    counters: Counters = field(default_factory=Counters)
    health: Health = field(default_factory=lambda: Health(ticked_at=NOON))


@dataclass(frozen=True)
class Batch:
    results: Sequence[InspectionResult] = ()
    dead_letters: Sequence[DeadLetter] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def result(score: float | None, verdict: Verdict = Verdict.OK, **changes: Any) -> InspectionResult:
    values: dict[str, Any] = {
        "message_id": "a",
        "topic": "images",
        "partition": 0,
        "offset": 0,
        "camera": "cam-1",
        "declared_product": None,
        "task": TaskId("nut"),
        "detector": "grey/1",
        "score": score,
        "p_value": 0.5,
        "threshold": 100.0,
        "verdict": verdict,
        "bank_version": 3,
        "features": "grey",
        "margin": None,
        "alarm": None,
        "latency_ms": 40.0,
        "scored_at": NOON,
    }
    return InspectionResult(**values | changes)


def ask(address: str, path: str) -> tuple[int, str]:
    """Status and text of an answer."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def scrape(address: str) -> dict[str, float]:
    """Every sample as Prometheus reads it, by name and labels, those by alphabet: `name{a="b",c="d"}`."""
    status, text = ask(address, "/metrics")
    assert status == 200
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples
