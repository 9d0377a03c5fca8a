"""What a long-running command tells its operators: probes and metrics over HTTP, systemd, and its log."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console

from stream_ad.app import App, code_version
from stream_ad.commands.common import log_to_terminal
from stream_ad.domain.result import InspectionResult
from stream_ad.domain.wording import counted
from stream_ad.services.probes import (
    not_alive,
    not_ready,
    scheduler_not_alive,
    worker_not_alive,
    worker_not_ready,
)

if TYPE_CHECKING:
    from stream_ad.adapters.ops_server import Probe
    from stream_ad.adapters.sd_notify import Systemd
    from stream_ad.services.placing import Placing
    from stream_ad.services.scheduling import Scheduler
    from stream_ad.services.streaming import Stream

log = logging.getLogger(__name__)


class Operations:
    """Of one scorer. It answers from the start, while weights and bank are still being read."""

    def __init__(self, app: App, stop: threading.Event) -> None:
        from prometheus_client import CollectorRegistry

        from stream_ad.adapters.patience import WithinSeconds
        from stream_ad.adapters.sd_notify import Systemd
        from stream_ad.adapters.telemetry import StreamMetrics

        settings = app.settings.ops
        self._app, self._stop, self._stuck_s = app, stop, settings.stuck_s
        self._stream: Stream | None = None
        self._ask_database = WithinSeconds(
            app.database.banks.active_version, within_s=settings.database_timeout_s, who="database"
        )
        self.registry = CollectorRegistry()
        self._metrics = StreamMetrics(self.registry, app.clock, max_tasks=settings.metric_tasks)
        self._systemd = Systemd()

    def watch(self, stream: "Stream") -> None:
        """The bank is loaded, and this stream is about to run."""
        self._stream = stream
        self._metrics.watch(stream)
        self._systemd.ready(self.status())

    def on_batch(self, batch: Any) -> None:
        """Note a batch that was committed."""
        self._metrics.on_batch(batch)

    def alive(self) -> list[str]:
        if self._stream is None:
            return []
        return not_alive(self._stream.health, now=self._app.clock.now(), stuck_s=self._stuck_s)

    def ready(self) -> list[str]:
        return not_ready(
            self._stream.health if self._stream else None,
            stopping=self._stop.is_set(),
            ask_database=self._ask_database,
        )

    def status(self) -> str:
        """One line, for `systemctl status`."""
        if self._stream is None:
            return "reading weights and bank"
        health, counters = self._stream.health, self._stream.counters
        letters = sum(counters.dead_letters.values())
        waiting = f", waits for the {health.waiting_for}" if health.waiting_for else ""
        seen = f"{counted(counters.received, 'picture')}, {counted(letters, 'dead letter')}"
        return f"bank {health.bank_version}, {seen}{waiting}"

    @contextmanager
    def open(self) -> Iterator["Operations"]:
        """Answer until the end of the context."""
        with _answering(
            self._app,
            self._app.settings.ops.listen,
            registry=self.registry,
            alive=self.alive,
            ready=self.ready,
            systemd=self._systemd,
            status=self.status,
            stop=self._stop,
        ):
            yield self


@contextmanager
def operating_worker(app: App, worker: "Placing", stop: threading.Event) -> Iterator["WorkerOperations"]:
    """The same for a worker; its `ended` is told of every job's end."""
    operations = WorkerOperations(app, worker)
    with _answering(
        app,
        app.settings.ops.worker_listen,
        registry=operations.registry,
        alive=operations.alive,
        ready=operations.ready,
        systemd=operations.systemd,
        status=operations.status,
        stop=stop,
    ):
        operations.systemd.ready(operations.status())
        yield operations


class WorkerOperations:
    def __init__(self, app: App, worker: "Placing") -> None:
        from prometheus_client import CollectorRegistry

        from stream_ad.adapters.patience import WithinSeconds
        from stream_ad.adapters.sd_notify import Systemd
        from stream_ad.adapters.telemetry import WorkerMetrics

        self._app, self._worker = app, worker
        self._count_jobs = WithinSeconds(
            app.database.jobs.counts, within_s=app.settings.ops.database_timeout_s, who="database"
        )
        self.registry = CollectorRegistry()
        self.metrics = WorkerMetrics(self.registry, app.clock, count_jobs=self._count_jobs)
        self.metrics.watch(worker)
        self.systemd = Systemd()

    def alive(self) -> list[str]:
        return worker_not_alive(
            ticked_at=self._worker.ticked_at,
            busy_since=self._worker.busy_since,
            now=self._app.clock.now(),
            stuck_s=self._app.settings.ops.stuck_s,
        )

    def ready(self) -> list[str]:
        return worker_not_ready(stopping=self._worker.stopping, ask_database=self._count_jobs)

    def status(self) -> str:
        return "works on a job" if self._worker.busy_since else "waits for a job"


@contextmanager
def operating_scheduler(app: App, scheduler: "Scheduler", stop: threading.Event) -> Iterator[None]:
    """The same for a scheduler."""
    operations = SchedulerOperations(app, scheduler)
    with _answering(
        app,
        app.settings.ops.scheduler_listen,
        registry=operations.registry,
        alive=operations.alive,
        ready=operations.ready,
        systemd=operations.systemd,
        status=operations.status,
        stop=stop,
    ):
        operations.systemd.ready(operations.status())
        yield


class SchedulerOperations:
    def __init__(self, app: App, scheduler: "Scheduler") -> None:
        from prometheus_client import CollectorRegistry

        from stream_ad.adapters.patience import WithinSeconds
        from stream_ad.adapters.sd_notify import Systemd
        from stream_ad.adapters.telemetry import SchedulerMetrics

        settings = app.settings.ops
        self._app, self._scheduler = app, scheduler
        self._standing = WithinSeconds(app.duties_standing, within_s=settings.database_timeout_s, who="database")
        self.registry = CollectorRegistry()
        SchedulerMetrics(self.registry, app.clock, scheduler, standing=self._standing, max_tasks=settings.metric_tasks)
        self.systemd = Systemd()

    def alive(self) -> list[str]:
        return scheduler_not_alive(
            ticked_at=self._scheduler.ticked_at, now=self._app.clock.now(), stuck_s=self._app.settings.ops.stuck_s
        )

    def ready(self) -> list[str]:
        return worker_not_ready(stopping=self._scheduler.stopping, ask_database=self._standing)

    def status(self) -> str:
        if not self._scheduler.leads:
            return f"stands by; {self._scheduler.leadership.leader or 'nobody'} leads"
        busy = self._scheduler.busy
        return f"leads, at work on {', '.join(busy)}" if busy else "leads, nothing is due"


@contextmanager
def _answering(
    app: App,
    listen: str | None,
    *,
    registry: Any,
    alive: "Probe",
    ready: "Probe",
    systemd: "Systemd",
    status: Any,
    stop: threading.Event,
) -> Iterator[None]:
    from stream_ad.adapters.ops_server import OpsServer
    from stream_ad.adapters.telemetry import ProcessMetrics

    ProcessMetrics(registry, version=code_version(), data_dir=app.settings.data_dir)

    def say_stopping() -> None:
        stop.wait()
        systemd.stopping()

    with ExitStack() as opened:
        if listen is not None:
            server = OpsServer(listen, registry=registry, alive=alive, ready=ready)
            opened.callback(server.close)
            log.info("answering /livez, /readyz and /metrics at %s", server.address)
        systemd.keep_alive(alive, status)
        opened.callback(systemd.close)
        if systemd.listens:
            threading.Thread(target=say_stopping, name="tells systemd", daemon=True).start()
        yield


def start_log(app: App, console: Console | None = None, stream: IO[str] | None = None) -> None:
    """Log as `ops.log` says; to `stream` instead of stderr, if given."""
    if app.settings.ops.log == "json":
        from stream_ad.adapters.json_log import log_as_json

        log_as_json(stream)
    else:
        log_to_terminal(console, stream)


def say(app: App, message: str, console: Console) -> None:
    """A message for people on the console; where the log is for machines, a line of it."""
    if app.settings.ops.log == "json":
        log.info("%s", message)
    else:
        console.print(message, markup=False)


def log_results(results: Sequence[InspectionResult]) -> None:
    """A log line per verdict, with fields to search by."""
    for result in results:
        log.info("%s: %s", result.verdict, result.subject or result.message_id, extra=fields_of(result))


def fields_of(result: InspectionResult) -> Mapping[str, Any]:
    """What a log line tells of a verdict."""
    return {
        "message_id": result.message_id,
        "subject": result.subject,
        "topic": result.topic,
        "partition": result.partition,
        "offset": result.offset,
        "camera": result.camera,
        "task": result.task,
        "verdict": str(result.verdict),
        "score": result.score,
        "threshold": result.threshold,
        "bank_version": result.bank_version,
        "alarm": result.alarm,
        "traceparent": result.traceparent,
    }
