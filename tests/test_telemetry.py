"""What a scorer and a worker tell Prometheus, read over HTTP as Prometheus reads it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from stream_ad.adapters.in_memory import InMemorySink, ManualClock
from stream_ad.adapters.ops_server import OpsServer
from stream_ad.adapters.telemetry import COUNTERS, ProcessMetrics, StreamMetrics, WorkerMetrics
from stream_ad.domain.job import JobState
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import Unavailable
from stream_ad.services.streaming import Counters
from tests.ops_kit import NOON, Batch, Scorer, result, scrape
from tests.stream_kit import Line


@contextmanager
def served(registry: CollectorRegistry) -> Iterator[str]:
    server = OpsServer("127.0.0.1:0", registry=registry, alive=lambda: [], ready=lambda: [])
    try:
        yield server.address
    finally:
        server.close()


class Plant:
    """A scorer whose metrics can be asked for."""

    def __init__(self, max_tasks: int = 200) -> None:
        self.clock = ManualClock(NOON)
        self.registry = CollectorRegistry()
        self.metrics = StreamMetrics(self.registry, self.clock, max_tasks=max_tasks)
        self.scorer = Scorer()
        self.metrics.watch(self.scorer)

    def samples(self) -> dict[str, float]:
        with served(self.registry) as address:
            return scrape(address)


@pytest.fixture
def plant() -> Plant:
    return Plant()


def test_every_counter_of_a_stream_is_told():
    told = {attribute for attribute, *_ in COUNTERS} | {"last_commit_at"}
    # a stream that left work behind is about to end: nobody will read it
    assert {field.name for field in fields(Counters)} - {"abandoned"} == told


def test_counts_are_those_of_the_stream_and_known_kinds_start_at_none(plant):
    counters = plant.scorer.counters
    counters.received, counters.batches = 7, 2
    counters.verdicts.update([Verdict.NG, Verdict.NG, Verdict.LATE])
    counters.dead_letters["decode"] += 4
    counters.retries["a thing of tomorrow"] += 1
    samples = plant.samples()
    assert samples["stream_ad_records_total"] == 7
    assert samples['stream_ad_verdicts_total{verdict="NG"}'] == 2
    assert samples['stream_ad_verdicts_total{verdict="late"}'] == 1
    assert samples['stream_ad_verdicts_total{verdict="unknown product"}'] == 0
    assert samples['stream_ad_dead_letters_total{stage="decode"}'] == 4
    assert samples['stream_ad_dead_letters_total{stage="crash"}'] == 0
    assert samples['stream_ad_retries_total{what="database"}'] == 0
    assert samples['stream_ad_retries_total{what="a thing of tomorrow"}'] == 1


def test_the_age_of_the_last_commit_grows_until_the_next_one(plant):
    plant.clock.sleep(30.0)
    assert plant.samples()["stream_ad_last_commit_age_seconds"] == 30  # since the start
    plant.scorer.counters.last_commit_at = plant.clock.now()
    plant.clock.sleep(5.0)
    assert plant.samples()["stream_ad_last_commit_age_seconds"] == 5


def test_health_is_told_as_it_is_now(plant):
    health = plant.scorer.health
    health.ticked_at, health.batch_since = NOON - timedelta(seconds=2), NOON - timedelta(seconds=9)
    health.waiting_for, health.bank_version, health.draining = "source", 5, True
    health.lag = {("images", 0): 120, ("images", 7): 3}
    samples = plant.samples()
    assert samples["stream_ad_loop_age_seconds"] == 2
    assert samples["stream_ad_batch_running_seconds"] == 9
    assert (samples["stream_ad_bank_version"], samples["stream_ad_draining"]) == (5, 1)
    assert samples["stream_ad_assigned"] == 0
    assert samples['stream_ad_waiting{what="source"}'] == 1
    assert samples['stream_ad_waiting{what="database"}'] == 0
    assert samples['stream_ad_lag_records{partition="7",topic="images"}'] == 3


def test_the_lag_of_a_partition_that_went_to_another_scorer_is_no_longer_told(plant):
    plant.scorer.health.lag = {("images", 0): 120}
    assert 'stream_ad_lag_records{partition="0",topic="images"}' in plant.samples()
    plant.scorer.health.lag = {}
    assert not [name for name in plant.samples() if name.startswith("stream_ad_lag_records")]


def test_a_sink_that_takes_nothing_is_told_by_its_name():
    line, stop = Line(), threading.Event()
    line.put(200)
    mqtt, topic = InMemorySink("mqtt"), InMemorySink("kafka")
    mqtt.away = True
    stream = line.stream(sinks=[mqtt, topic])
    stream.run(stop, idle_s=3.0)
    plant = Plant()
    plant.metrics.watch(stream)
    samples = plant.samples()
    assert samples['stream_ad_sink_away{sink="mqtt"}'] == 1
    assert samples['stream_ad_sink_away{sink="kafka"}'] == 0
    assert samples['stream_ad_left_out_total{sink="mqtt"}'] == 0
    assert samples["stream_ad_scored_total"] == 1


def test_stages_batches_and_latencies_are_timed(plant):
    taken = NOON - timedelta(seconds=3)
    batch = Batch([result(1.0, captured_at=taken), result(2.0)], seconds={"model": 0.3, "write": 0.004})
    plant.metrics.on_batch(batch)
    samples = plant.samples()
    assert samples['stream_ad_stage_seconds_sum{stage="model"}'] == 0.3
    assert samples['stream_ad_stage_seconds_count{stage="write"}'] == 1
    assert samples['stream_ad_batch_size_bucket{le="2.0"}'] == 1
    assert samples['stream_ad_batch_size_bucket{le="1.0"}'] == 0
    assert samples["stream_ad_latency_seconds_sum"] == pytest.approx(0.08)
    assert samples["stream_ad_capture_to_verdict_seconds_sum"] == 3
    assert samples["stream_ad_capture_to_verdict_seconds_count"] == 1


def test_a_camera_whose_clock_runs_ahead_makes_no_negative_age(plant):
    plant.metrics.on_batch(Batch([result(1.0, captured_at=NOON + timedelta(hours=1))]))
    assert plant.samples()["stream_ad_capture_to_verdict_seconds_sum"] == 0


def test_scores_are_told_by_task_as_quantiles_of_the_latest(plant):
    plant.metrics.on_batch(Batch([result(9999.0) for _ in range(40)]))
    plant.metrics.on_batch(Batch([result(float(score)) for score in range(512)]))
    samples = plant.samples()
    assert samples['stream_ad_score{quantile="0.5",task="nut"}'] == 255.5
    assert samples['stream_ad_score{quantile="0.95",task="nut"}'] == pytest.approx(485.45)
    assert samples['stream_ad_score_count{task="nut"}'] == 552
    assert samples['stream_ad_score_threshold{task="nut"}'] == 100


def test_an_unknown_product_counts_as_refused_and_not_into_the_scores_of_its_neighbour(plant):
    plant.metrics.on_batch(Batch([result(5.0), result(9e9, Verdict.UNKNOWN), result(None, Verdict.UNKNOWN, task=None)]))
    samples = plant.samples()
    assert samples['stream_ad_images_total{task="nut",verdict="unknown product"}'] == 1
    assert samples['stream_ad_images_total{task="none",verdict="unknown product"}'] == 1
    assert samples['stream_ad_score{quantile="0.99",task="nut"}'] == 5


def test_ten_thousand_tasks_make_no_ten_thousand_series():
    plant = Plant(max_tasks=3)
    plant.metrics.on_batch(Batch([result(1.0, task=TaskId(f"task-{number}")) for number in range(10_000)]))
    samples = plant.samples()
    counts = {name: value for name, value in samples.items() if name.startswith("stream_ad_images_total")}
    assert len(counts) == 4
    assert counts['stream_ad_images_total{task="other",verdict="OK"}'] == 9_997
    assert len([name for name in samples if name.startswith("stream_ad_score_threshold")]) == 3


def test_before_the_bank_is_loaded_there_is_an_answer_already():
    registry = CollectorRegistry()
    StreamMetrics(registry, ManualClock(NOON), max_tasks=1)
    with served(registry) as address:
        assert "stream_ad_records_total" not in scrape(address)


@dataclass
class Busy:
    busy_since: datetime | None = None


def test_a_worker_tells_jobs_by_state_and_how_long_they_took():
    clock, registry, worker = ManualClock(NOON), CollectorRegistry(), Busy(NOON)
    metrics = WorkerMetrics(registry, clock, count_jobs=lambda: {JobState.QUEUED: 4})
    metrics.watch(worker)
    clock.sleep(90.0)
    with served(registry) as address:
        assert scrape(address)["stream_ad_job_running_seconds"] == 90
        metrics.ended(JobState.REJECTED)
        worker.busy_since = None
        samples = scrape(address)
    assert samples["stream_ad_job_running_seconds"] == 0
    assert samples['stream_ad_job_seconds_sum{state="rejected"}'] == 90
    assert samples['stream_ad_jobs{state="queued"}'] == 4
    assert samples['stream_ad_jobs{state="failed"}'] == 0


def test_metrics_are_told_also_while_the_database_is_away():
    def away() -> dict[JobState, int]:
        raise Unavailable("the database is away")

    registry = CollectorRegistry()
    WorkerMetrics(registry, ManualClock(NOON), count_jobs=away)
    with served(registry) as address:
        samples = scrape(address)
    assert samples["stream_ad_database_up"] == 0
    assert 'stream_ad_jobs{state="queued"}' not in samples


def test_every_process_tells_its_version_its_memory_its_handles_and_its_disk(tmp_path):
    registry = CollectorRegistry()
    ProcessMetrics(registry, version="1.2.3", data_dir=tmp_path)
    with served(registry) as address:
        samples = scrape(address)
    assert samples['stream_ad_build_info{version="1.2.3"}'] == 1
    assert samples["process_resident_memory_bytes"] > 1e6
    assert samples["process_open_fds"] > 3
    assert 0 < samples["stream_ad_disk_free_bytes"] < samples["stream_ad_disk_bytes"]


def test_a_disk_that_is_gone_has_no_room_to_tell_of(tmp_path):
    registry = CollectorRegistry()
    ProcessMetrics(registry, version="1", data_dir=tmp_path / "unmounted")
    with served(registry) as address:
        assert "stream_ad_disk_free_bytes" not in scrape(address)
