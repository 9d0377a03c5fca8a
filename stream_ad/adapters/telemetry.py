"""What a process tells Prometheus.

Counters and gauges are read from the stream's own at every scrape; only what has to be seen as it passes (seconds of
the stages, sizes, scores) is observed, once a batch. Labels have few values: never a picture, and at most `max_tasks`
tasks.
"""

import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream_ad.domain.duty import DutyRun
from stream_ad.domain.job import JobState
from stream_ad.domain.message import DeadLetter
from stream_ad.domain.ports import Clock
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.errors import StreamAdError

#: scores that a task's quantiles are of, the latest ones
WINDOW = 512
QUANTILES = (0.05, 0.5, 0.95, 0.99)
#: the label of all tasks past the first `max_tasks`, and of pictures of no task
OTHER, NONE = "other", "none"
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

#: counters of a stream: attribute, name, what it counts, label and its known values. A counter by label starts at 0 for
#: these, since Prometheus sees no rise from nothing to one
COUNTERS: tuple[tuple[str, str, str, str | None, Sequence[str]], ...] = (
    ("received", "records", "Records with a verdict or a dead letter.", None, ()),
    ("scored", "scored", "Pictures with a verdict.", None, ()),
    ("batches", "batches", "Batches written to the database.", None, ()),
    ("repeated", "repeated", "Records that came again though they had their row; nothing was said twice.", None, ()),
    ("late", "late", "Verdicts that came after their camera's deadline.", None, ()),
    ("relayed", "relayed", "Messages that the sinks took from the outbox.", None, ()),
    ("verdicts", "verdicts", "Pictures by verdict.", "verdict", tuple(Verdict)),
    (
        "dead_letters",
        "dead_letters",
        "Records put aside, by the stage that they failed in.",
        "stage",
        ("source", "message", "reference", "decode", "score", "store", "crash"),
    ),
    (
        "retries",
        "retries",
        "Waits for what was away, by what it was.",
        "what",
        ("source", "reference", "database", "disk", "commit", "bank"),
    ),
    ("overlays_failed", "overlays_failed", "Overlays that could not be drawn or kept; their verdicts stand.", None, ()),
    (
        "stalls",
        "source_stalls",
        "Times that the source, silent while records waited, was opened anew.",
        None,
        (),
    ),
    ("left_out", "left_out", "Messages that a sink will never get, by sink.", "sink", ()),
    ("bank_swaps", "bank_swaps", "Banks taken while running.", None, ()),
)
AWAY = ("source", "database", "disk", "reference")


@runtime_checkable
class StreamHealth(Protocol):
    """`services.health.Health`."""

    @property
    def ticked_at(self) -> datetime: ...
    @property
    def batch_since(self) -> datetime | None: ...
    @property
    def waiting_for(self) -> str | None: ...
    @property
    def assigned(self) -> bool: ...
    @property
    def bank_version(self) -> int: ...
    @property
    def buffered(self) -> int: ...
    @property
    def buffered_bytes(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def lag(self) -> Mapping[tuple[str, int], int]: ...
    @property
    def sinks_away(self) -> Mapping[str, datetime]: ...
    @property
    def draining(self) -> bool: ...


@runtime_checkable
class Watched(Protocol):
    """A running stream; `services.streaming.Stream`."""

    @property
    def counters(self) -> Any:
        """With the attributes that `COUNTERS` names, and `last_commit_at`."""
        ...

    @property
    def health(self) -> Any:
        """`StreamHealth`."""
        ...


@runtime_checkable
class ObservedBatch(Protocol):
    """A batch that was committed."""

    @property
    def results(self) -> Sequence[InspectionResult]: ...
    @property
    def dead_letters(self) -> Sequence[DeadLetter]: ...
    @property
    def seconds(self) -> Mapping[str, float]:
        """By stage."""
        ...


class StreamMetrics(Collector):
    """Of one scorer. Give `on_batch` to the stream, and the stream to `watch`."""

    def __init__(self, registry: CollectorRegistry, clock: Clock, *, max_tasks: int) -> None:
        self._clock, self._max_tasks = clock, max_tasks
        self._watched: Watched | None = None
        self._since = clock.now()
        self._lock = threading.Lock()
        self._tasks: set[str] = set()
        self._scores: dict[str, deque[float]] = {}
        #: how many scores, and their sum
        self._totals: dict[str, tuple[int, float]] = {}
        self._thresholds: dict[str, float] = {}
        self._images: dict[tuple[str, str], int] = {}
        self._stage_seconds = Histogram(
            "stream_ad_stage_seconds",
            "Seconds that a batch spent in a stage.",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_size = Histogram("stream_ad_batch_size", "Records of a batch.", buckets=SIZES, registry=registry)
        self._latency = Histogram(
            "stream_ad_latency_seconds", "From poll to verdict.", buckets=SECONDS, registry=registry
        )
        self._age = Histogram(
            "stream_ad_capture_to_verdict_seconds",
            "From the time that the message says the picture was taken at, to the verdict.",
            buckets=SECONDS,
            registry=registry,
        )
        registry.register(self)

    def watch(self, stream: Watched) -> None:
        """Tell of this stream from now on."""
        self._watched = stream

    def on_batch(self, batch: ObservedBatch) -> None:
        """Note a batch. Cheap: nothing is computed before somebody asks."""
        for stage, seconds in batch.seconds.items():
            self._stage_seconds.labels(stage).observe(seconds)
        self._batch_size.observe(len(batch.results) + len(batch.dead_letters))
        with self._lock:
            for result in batch.results:
                self._note(result)

    def _note(self, result: InspectionResult) -> None:
        self._latency.observe(result.latency_ms / 1000)
        if result.captured_at is not None:
            # clocks of cameras run ahead, too
            self._age.observe(max(0.0, (result.scored_at - result.captured_at).total_seconds()))
        task = self._label(result.task)
        self._images[task, result.verdict] = self._images.get((task, result.verdict), 0) + 1
        # scores compare within a task only; of an unknown product it is the distance from somebody else's
        if task in (OTHER, NONE) or result.score is None or result.verdict is Verdict.UNKNOWN:
            return
        self._scores.setdefault(task, deque(maxlen=WINDOW)).append(result.score)
        count, total = self._totals.get(task, (0, 0.0))
        self._totals[task] = count + 1, total + result.score
        if result.threshold is not None:
            self._thresholds[task] = result.threshold

    def _label(self, task: str | None) -> str:
        if task is None:
            return NONE
        if task not in self._tasks and len(self._tasks) < self._max_tasks:
            self._tasks.add(task)
        return task if task in self._tasks else OTHER

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        if self._watched is not None:
            yield from self._of_counters(self._watched.counters)
            yield from self._of_health(self._watched.health, self._watched.counters.left_out)
        yield from self._of_tasks()

    def _of_counters(self, counters: Any) -> Iterator[Metric]:
        for attribute, name, what, label, known in COUNTERS:
            family = CounterMetricFamily(f"stream_ad_{name}", what, labels=(label,) if label else None)
            value = getattr(counters, attribute)
            for key, count in ({str(one): 0 for one in known} | dict(value)).items() if label else [(None, value)]:
                family.add_metric([str(key)] if label else [], count)
            yield family
        committed = counters.last_commit_at or self._since
        yield _gauge(
            "last_commit_age_seconds",
            "Since offsets were last committed, or since the start; it also grows while no picture comes.",
            (self._clock.now() - committed).total_seconds(),
        )

    def _of_health(self, health: StreamHealth, sinks: Iterable[str]) -> Iterator[Metric]:
        now, batch_since = self._clock.now(), health.batch_since
        yield _gauge("loop_age_seconds", "Since the loop last went round.", (now - health.ticked_at).total_seconds())
        yield _gauge(
            "batch_running_seconds",
            "For how long the model has worked on its present batch; 0: it has none.",
            (now - batch_since).total_seconds() if batch_since else 0,
        )
        waiting = GaugeMetricFamily("stream_ad_waiting", "1 while this is away and waited for.", labels=("what",))
        for what in AWAY:
            waiting.add_metric([what], what == health.waiting_for)
        yield waiting
        gone = GaugeMetricFamily("stream_ad_sink_away", "1 while a sink takes nothing.", labels=("sink",))
        for sink in [*sinks]:
            gone.add_metric([sink], sink in health.sinks_away)
        yield gone
        yield _gauge("assigned", "1 while the source gives this scorer something to read.", health.assigned)
        yield _gauge("bank_version", "The bank that judges.", health.bank_version)
        yield _gauge("buffered_records", "Records fetched and not yet with the model.", health.buffered)
        yield _gauge("buffered_bytes", "Their encoded bytes.", health.buffered_bytes)
        yield _gauge("in_flight_records", "Records that the model or the writer has.", health.in_flight)
        yield _gauge("draining", "1 once it was asked to stop.", health.draining)
        lag = GaugeMetricFamily(
            "stream_ad_lag_records", "Records waiting in the source.", labels=("topic", "partition")
        )
        for (topic, partition), records in dict(health.lag).items():
            lag.add_metric([topic, str(partition)], records)
        yield lag

    def _of_tasks(self) -> Iterator[Metric]:
        with self._lock:
            scores = {task: np.array(window) for task, window in self._scores.items()}
            thresholds, images, totals = dict(self._thresholds), dict(self._images), dict(self._totals)
        counted = CounterMetricFamily(
            "stream_ad_images",
            f"Pictures by task and verdict; past the first {self._max_tasks} tasks all are {OTHER!r}.",
            labels=("task", "verdict"),
        )
        for key, count in images.items():
            counted.add_metric(key, count)
        yield counted
        summary = Metric(
            "stream_ad_score",
            f"A task's scores, unknown products left out; quantiles of the latest {WINDOW}. Compare within a task.",
            "summary",
        )
        for task, window in scores.items():
            for quantile, value in zip(QUANTILES, np.quantile(window, QUANTILES), strict=True):
                summary.add_sample(summary.name, {"task": task, "quantile": str(quantile)}, float(value))
            summary.add_sample(f"{summary.name}_count", {"task": task}, totals[task][0])
            summary.add_sample(f"{summary.name}_sum", {"task": task}, totals[task][1])
        yield summary
        bounds = GaugeMetricFamily("stream_ad_score_threshold", "The score above which a part is NG.", labels=("task",))
        for task, threshold in thresholds.items():
            bounds.add_metric([task], threshold)
        yield bounds


@runtime_checkable
class WatchedWorker(Protocol):
    """`services.placing.Placing`."""

    @property
    def busy_since(self) -> datetime | None: ...


class WorkerMetrics(Collector):
    """Of one worker, and of the queue that all workers share."""

    def __init__(
        self, registry: CollectorRegistry, clock: Clock, *, count_jobs: Callable[[], Mapping[JobState, int]]
    ) -> None:
        self._clock, self._count_jobs = clock, count_jobs
        self._watched: WatchedWorker | None = None
        self._seconds = Histogram(
            "stream_ad_job_seconds",
            "From taking a job to its end, by the state that it ended in.",
            ("state",),
            buckets=(1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600),
            registry=registry,
        )
        registry.register(self)

    def watch(self, worker: WatchedWorker) -> None:
        """Tell of this worker from now on."""
        self._watched = worker

    def ended(self, state: JobState, seconds: float | None = None) -> None:
        """A job ended, after so many seconds; None: since it was taken."""
        self._seconds.labels(state).observe(self._busy_s() if seconds is None else seconds)

    def _busy_s(self) -> float:
        since = self._watched.busy_since if self._watched else None
        return (self._clock.now() - since).total_seconds() if since else 0.0

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield _gauge("job_running_seconds", "For how long it has had its present job; 0: it has none.", self._busy_s())
        jobs = GaugeMetricFamily("stream_ad_jobs", "Jobs by state, of all workers.", labels=("state",))
        try:
            counts = self._count_jobs()
        except StreamAdError:  # the scrape must not fail with the database
            yield _gauge("database_up", "1 while the database answers.", 0)
            return
        for state in JobState:
            jobs.add_metric([state], counts.get(state, 0))
        yield jobs
        yield _gauge("database_up", "1 while the database answers.", 1)


@runtime_checkable
class WatchedScheduler(Protocol):
    """`services.scheduling.Scheduler`."""

    @property
    def leads(self) -> bool: ...
    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """Duties done here, by name and how they ended."""
        ...


class SchedulerMetrics(Collector):
    """Of one scheduler, and of the duties that all schedulers share: whoever leads, each tells the same of those."""

    def __init__(
        self,
        registry: CollectorRegistry,
        clock: Clock,
        scheduler: WatchedScheduler,
        *,
        standing: Callable[[], tuple[Mapping[str, DutyRun], Sequence[str]]],
        max_tasks: int,
    ) -> None:
        """`standing`: how each duty went the last time, and the tasks that no longer look as they did."""
        self._clock, self._scheduler, self._standing, self._max_tasks = clock, scheduler, standing, max_tasks
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield _gauge("scheduler_leading", "1 while this scheduler leads.", self._scheduler.leads)
        done = CounterMetricFamily(
            "stream_ad_duties", "Duties that this scheduler did, by how they ended.", labels=("duty", "outcome")
        )
        for (duty, outcome), count in dict(self._scheduler.counts).items():
            done.add_metric([duty, outcome], count)
        yield done
        try:
            runs, drifting = self._standing()
        except StreamAdError:  # the scrape must not fail with the database
            yield _gauge("database_up", "1 while the database answers.", 0)
            return
        yield from self._of_runs(runs)
        drifts = GaugeMetricFamily(
            "stream_ad_drifting", "1 for a task that no longer looks as it did.", labels=("task",)
        )
        for task in list(drifting)[: self._max_tasks]:
            drifts.add_metric([task], 1)
        yield drifts
        yield _gauge("drifting_tasks", "Tasks that look otherwise than they did.", len(drifting))
        yield _gauge("database_up", "1 while the database answers.", 1)

    def _of_runs(self, runs: Mapping[str, DutyRun]) -> Iterator[Metric]:
        failed = GaugeMetricFamily("stream_ad_duty_failed", "1 when the last run failed.", labels=("duty",))
        age = GaugeMetricFamily("stream_ad_duty_age_seconds", "Since it last ended well.", labels=("duty",))
        found = GaugeMetricFamily(
            "stream_ad_duty_found", "Numbers of the last run that ended well.", labels=("duty", "what")
        )
        for name, run in runs.items():
            failed.add_metric([name], run.failed)
            if run.good_at is not None:
                age.add_metric([name], (self._clock.now() - run.good_at).total_seconds())
            for what, number in run.figures.items():
                found.add_metric([name, what], number)
        yield from (failed, age, found)


class ProcessMetrics(Collector):
    """What every process of ours tells: its version, memory, file handles, and room on its disk."""

    def __init__(self, registry: CollectorRegistry, *, version: str, data_dir: Path) -> None:
        self._version, self._data_dir = version, data_dir
        ProcessCollector(registry=registry)
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("stream_ad_build_info", "1; its label is the program's version.", labels=("version",))
        build.add_metric([self._version], 1)
        yield build
        try:
            usage = shutil.disk_usage(self._data_dir)
        except OSError:  # unmounted: a series that ends is what the alert looks for
            return
        yield _gauge("disk_free_bytes", "Room on the disk of data_dir.", usage.free)
        yield _gauge("disk_bytes", "Size of that disk.", usage.total)


def _gauge(name: str, what: str, value: int | float) -> Metric:
    return GaugeMetricFamily(f"stream_ad_{name}", what, value=value)
