"""The one place that knows every concrete class: from settings to what the commands use.

Nothing is opened or imported before it is needed, so a command that only reads the database starts without torch.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_ad.adapters.clock import SystemClock
from stream_ad.config import Settings
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.evaluation import Evaluation, Half, TaskEvaluation
from stream_ad.domain.images import HeldoutSet, ImageSet, Mask
from stream_ad.domain.job import Job, JobState
from stream_ad.domain.ports import Progress, Sink, Source
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import StreamAdError
from stream_ad.services.adaptation import Outcome, Storage, TaskImages, Work, published_job
from stream_ad.services.gate import GateBudgets

if TYPE_CHECKING:
    from stream_ad.adapters.disk import DiskGuard
    from stream_ad.adapters.kafka_security import KafkaSecurity
    from stream_ad.adapters.overlay import OverlayFolder
    from stream_ad.adapters.storage import Database
    from stream_ad.backbones.cached import CachedBackbone
    from stream_ad.detectors.base import Detector
    from stream_ad.evaluation.findings import ForgettingReport
    from stream_ad.inspection import BankModel
    from stream_ad.services.retention import Retention
    from stream_ad.services.scoring import Scorer
    from stream_ad.services.streaming import OnBatch, Stream
    from stream_ad.services.worker import Worker
    from stream_ad.task_images import Checked, TaskImageReader

#: settings that change what a picture scores; figures are compared only when these are the same
SCORING_SECTIONS = ("detector", "routing", "calibration", "heldout")


class App:
    """Everything, built on demand from one set of settings. Close it, or use it as a context manager."""

    def __init__(self, settings: Settings, *, backbone: "CachedBackbone | None" = None) -> None:
        """With a `backbone` that is loaded already, the one that the settings name is not."""
        self.settings = settings
        self.clock = SystemClock()
        if backbone is not None:
            self.backbone = backbone

    def close(self) -> None:
        if "database" in self.__dict__:
            self.database.close()

    def __enter__(self) -> "App":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @cached_property
    def database(self) -> "Database":
        """Raises: DatabaseError: missing, or of another revision; `stream-ad init` makes or upgrades it."""
        from stream_ad.adapters.storage import Database

        settings = self.settings
        return Database(settings.database_url, settings.entries_dir, max_attempts=settings.jobs.max_attempts)

    @property
    def shown_database(self) -> str:
        """The database's address without its password."""
        from stream_ad.adapters.database import shown

        return shown(self.database.engine.url)

    def make_database(self) -> None:
        """Make the embedded database, if it is not there yet: a first product needs no `stream-ad init`.

        A database that settings name is never made on the side; `init` does that.
        """
        from stream_ad.adapters.database import open_database

        if self.settings.database.url is None:
            self.settings.data_dir.mkdir(parents=True, exist_ok=True)
            open_database(self.settings.database_url, create=True).dispose()

    @cached_property
    def storage(self) -> Storage:
        database = self.database
        return Storage(
            tasks=database.tasks,
            jobs=database.jobs,
            banks=database.banks,
            evaluations=database.evaluations,
            entries=database.entries,
        )

    @property
    def decoding(self) -> dict[str, Any]:
        """How every picture is decoded, to learn from as to judge."""
        return {"max_pixels": self.settings.stream.max_pixels, "grey_bits": self.settings.backbone.grey_bits}

    @cached_property
    def backbone(self) -> "CachedBackbone":
        """Raises: WeightsError: its weights are missing or do not fit; ConfigError: no such device."""
        from stream_ad.adapters.decode import decoder_name
        from stream_ad.backbones.cached import CachedBackbone
        from stream_ad.backbones.registry import load_backbone

        wanted = self.settings.backbone
        if wanted.threads:
            import torch

            torch.set_num_threads(wanted.threads)
        loaded = load_backbone(
            wanted.id, image_size=wanted.image_size, weights_dir=self.settings.weights_dir, device=wanted.device
        )
        loaded.spec = replace(loaded.spec, decoder=decoder_name(wanted.grey_bits))
        return CachedBackbone(loaded)

    @cached_property
    def detectors(self) -> Mapping[str, "Detector"]:
        from stream_ad.detectors.registry import make_detectors

        return make_detectors(self.backbone, self.settings.detector.options())

    def model(self, bank: MemoryBank, *, remember: bool = True) -> "BankModel":
        """A bank ready to score; `remember` features of pictures for when they come again: a stream's never do.

        Raises:
            BankError: it does not fit the backbone or the detectors.
        """
        from stream_ad.inspection import BankModel

        return BankModel(
            self.backbone if remember else self.backbone.backbone,
            self.detectors,
            bank,
            feature_block=self.settings.detector.feature_block,
            shortlist=self.settings.routing.shortlist,
            refuse=self.settings.routing.refuse,
        )

    def scorer(self, bank: MemoryBank | None = None) -> "Scorer":
        """What judges pictures, on the active bank by default."""
        from stream_ad.services.scoring import Scorer

        bank = self.database.banks.load() if bank is None else bank
        return Scorer(partial(self.model, remember=False), bank, sticky_checks=self.settings.routing.sticky_checks)

    # --- jobs -------------------------------------------------------------------------------------

    @cached_property
    def task_images(self) -> "TaskImageReader":
        """Opens the pictures of tasks."""
        from stream_ad.task_images import TaskImageReader

        return TaskImageReader(
            share=self.settings.heldout.share,
            per_image=self.settings.heldout.synthetic_per_image,
            **self.decoding,
        )

    def check_folders(
        self, task: Task, *, images: Path, heldout: Path | None, roi: Path | None, detector: str | None
    ) -> "Checked":
        """The payload of a new task's job, when its folders are fit for it. Raises: DataError."""
        return self.task_images.check(
            task, images=images, heldout=heldout, roi=roi, detector=detector or self.settings.detector.name
        )

    def learn(
        self, task: Task, normals: ImageSet, *, detector: str | None, roi: Mask | None, progress: Progress
    ) -> BankEntry:
        """A task's entry, by the settings; `detector` by its name, None: the one that settings name.

        Raises:
            ConfigError: there is no such detector.
            TooFewImages, UndecodableImage: the pictures do not serve.
        """
        from stream_ad.detectors.registry import make_detector
        from stream_ad.services.learning import learn

        name = detector or self.settings.detector.name
        known = self.detectors.get(name)
        return learn(
            task,
            normals,
            known or make_detector(name, self.backbone),
            self.backbone,
            roi=roi,
            feature_block=self.settings.detector.feature_block,
            folds=self.settings.calibration.folds,
            split_from=self.settings.calibration.split_from,
            max_suspects=self.settings.calibration.max_suspects,
            progress=progress,
        )

    def _learn(self, task: Task, images: TaskImages, payload: Mapping[str, Any], progress: Progress) -> BankEntry:
        return self.learn(task, images.normals, detector=payload.get("detector"), roi=images.roi, progress=progress)

    def _evaluate(
        self, bank: MemoryBank, heldout: Mapping[TaskId, HeldoutSet], progress: Progress
    ) -> Mapping[TaskId, TaskEvaluation]:
        from stream_ad.evaluation.protocol import evaluate

        return evaluate(self.model(bank), heldout, progress)

    def work(self) -> Work:
        """What a job does, bound to folders, detectors and the backbone."""
        gate = self.settings.gate
        return Work(
            read=self.task_images.read,
            learn=self._learn,
            evaluate=self._evaluate,
            budgets=GateBudgets(
                max_forgetting=gate.max_forgetting,
                max_flips=gate.max_flips,
                max_routing_loss=gate.max_routing_loss,
                max_false_alarm_rise=gate.max_false_alarm_rise,
                min_routing_accuracy=gate.min_routing_accuracy,
            ),
            provenance=self.provenance(),
        )

    def provenance(self) -> Mapping[str, Any]:
        """What every figure carries."""
        import torch

        return {
            "code": code_version(),
            "features": str(self.backbone.spec),
            "weights_sha256": self.backbone.spec.weights_sha256,
            "configuration": configuration_hash(self.settings),
            "seed": "derived from each task's name",
            "device": str(self.backbone.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            **({"caveat": self.backbone.caveat} if self.backbone.caveat else {}),
        }

    def worker(
        self,
        *,
        watch: Callable[[Job], Progress] | None = None,
        ended: Callable[[Job, Outcome], None] | None = None,
    ) -> "Worker":
        """A worker with the backbone loaded, so that wrong weights show before a job is taken."""
        from stream_ad.services.worker import Worker

        return Worker(
            self.storage,
            self.work(),
            self.clock,
            device=str(self.backbone.device),
            lease_s=self.settings.jobs.lease_s,
            poll_s=self.settings.jobs.poll_s,
            watch=watch,
            ended=ended,
        )

    # --- the stream -------------------------------------------------------------------------------

    def source(self) -> Source:
        """Where images come from, as `stream.source` says."""
        stream = self.settings.stream
        if stream.source == "kafka":
            from stream_ad.adapters.kafka_source import KafkaSource, KafkaSourceOptions

            kafka = self.settings.kafka
            return KafkaSource(
                KafkaSourceOptions(
                    bootstrap=kafka.bootstrap,
                    topics=(kafka.topic,),
                    group=kafka.group,
                    max_poll_interval_ms=kafka.max_poll_interval_ms,
                    session_timeout_ms=kafka.session_timeout_ms,
                    heartbeat_interval_ms=kafka.heartbeat_interval_ms,
                    max_partition_fetch_bytes=round(kafka.max_request_mb * 1024**2),
                    instance=kafka.instance,
                    stalled_s=kafka.stalled_s,
                    security=self.kafka_security(),
                )
            )
        from stream_ad.adapters.folder_source import FolderSource

        self.settings.inbox.mkdir(parents=True, exist_ok=True)
        return FolderSource(
            self.settings.inbox,
            self.database.files,
            self.clock,
            topic=folder_topic(self.settings.inbox),
            settle_s=stream.settle_s,
        )

    def sinks(self) -> Sequence[Sink]:
        """Where results go beside the database."""
        sinks: list[Sink] = []
        if self.settings.results_jsonl is not None:
            from stream_ad.adapters.jsonl_sink import JsonLinesSink

            sinks.append(JsonLinesSink(self.settings.results_jsonl, clock=self.clock))
        if self.settings.stream.source == "kafka":
            from stream_ad.adapters.kafka_sink import KafkaSink

            sinks.append(
                KafkaSink(
                    self.kafka_producer_options(),
                    results_topic=self.settings.kafka.results_topic,
                    dead_letter_topic=self.settings.dead_letter_topic,
                )
            )
        if self.settings.mqtt.host is not None:
            from stream_ad.adapters.mqtt_sink import MqttOptions, MqttSink

            sinks.append(MqttSink(MqttOptions(**dict(self.settings.mqtt))))
        if self.settings.webhook.url is not None:
            from stream_ad.adapters.webhook_sink import WebhookOptions, WebhookSink

            sinks.append(WebhookSink(WebhookOptions(**dict(self.settings.webhook)), clock=self.clock))
        return sinks

    def references(self) -> Callable[[str, str | None], bytes] | None:
        """What reads the pictures behind references; None: none are allowed."""
        from stream_ad.adapters.references import FileReferences, References

        stream = self.settings.stream
        if not stream.reference_roots:
            return None
        largest = round(stream.max_reference_mb * 1024**2)
        stores = [root for root in stream.reference_roots if isinstance(root, str)]
        folders = [root for root in stream.reference_roots if isinstance(root, Path)]
        objects = None
        if stores:
            from stream_ad.adapters.object_references import ObjectReferences, S3Options

            objects = ObjectReferences(stores, S3Options(**dict(self.settings.s3)), max_bytes=largest)
        return References(FileReferences(folders, max_bytes=largest), objects)

    def kafka_producer_options(self) -> Any:
        from stream_ad.adapters.kafka_producer import KafkaProducerOptions

        kafka = self.settings.kafka
        return KafkaProducerOptions(
            bootstrap=kafka.bootstrap,
            max_message_bytes=round(kafka.max_request_mb * 1024**2),
            security=self.kafka_security(),
        )

    def kafka_security(self) -> "KafkaSecurity":
        """How to connect to Kafka."""
        from stream_ad.adapters.kafka_security import KafkaSecurity

        kafka = self.settings.kafka
        return KafkaSecurity(
            protocol=kafka.security,
            ca_file=kafka.ca_file,
            cert_file=kafka.cert_file,
            key_file=kafka.key_file,
            key_password_file=kafka.key_password_file,
            check_hostname=kafka.check_hostname,
            mechanism=kafka.mechanism,
            username=kafka.username,
            password_file=kafka.password_file,
        )

    @contextmanager
    def stream(self, on_batch: "OnBatch | None" = None) -> Iterator["Stream"]:
        """A scorer on its source, closed at the end."""
        from stream_ad.adapters.decode import decode, pixels
        from stream_ad.services.deadlines import Deadlines
        from stream_ad.services.streaming import Stream, StreamOptions

        settings = self.settings.stream
        scorer, source, sinks = self.scorer(), self.source(), self.sinks()
        try:
            yield Stream(
                source=source,
                inspector=scorer,
                banks=self.database.banks,
                results=self.database.results,
                decode=partial(decode, **self.decoding),
                measure=partial(pixels, max_pixels=settings.max_pixels),
                clock=self.clock,
                sinks=sinks,
                references=self.references(),
                overlays=self._overlays(),
                guard=self.disk_guard(),
                on_batch=on_batch,
                deadlines=Deadlines(
                    default_s=settings.deadline_s,
                    by_camera=settings.camera_deadlines_s,
                    told=Verdict(settings.late_verdict),
                    skip=settings.skip_late,
                ),
                options=StreamOptions(
                    batch_size=settings.batch_size,
                    linger_s=settings.linger_ms / 1000,
                    decode_threads=settings.decode_threads or min(4, os.cpu_count() or 1),
                    buffer_records=max(settings.buffer_pictures, 2 * settings.batch_size),
                    buffer_bytes=round(settings.buffer_mb * 1024**2),
                    picture_bytes=round(settings.picture_mb * 1024**2),
                    max_attempts=settings.max_attempts,
                    drain_s=settings.drain_s,
                    key_names=settings.key_names,
                ),
            )
        finally:
            source.close()
            for sink in sinks:
                sink.close()

    def disk_guard(self) -> "DiskGuard":
        """Raises when a disk that a stream writes to is nearly full."""
        from stream_ad.adapters.database import sqlite_file
        from stream_ad.adapters.disk import DiskGuard

        results = self.settings.results_jsonl
        written = (
            self.settings.data_dir,
            self.settings.overlays_dir,
            *([results.parent] if results else []),
            *([file.parent] if (file := sqlite_file(self.settings.database_url)) else []),
        )
        return DiskGuard(written, min_free_mb=self.settings.stream.min_free_mb)

    def retention(self) -> "Retention":
        """What deletes old pictures, overlays, results and dead letters, as `retention` says."""
        from stream_ad.adapters.database import Transactions
        from stream_ad.adapters.retention_files import InboxPictures, Overlays
        from stream_ad.adapters.retention_rows import DeadLetterRows, DoneFiles, ResultRows
        from stream_ad.services.retention import Retention, Rule

        bounds, inbox = self.settings.retention, self.settings.inbox
        transactions = Transactions(self.database.engine)
        pictures = InboxPictures(inbox, DoneFiles(transactions, folder_topic(inbox)))
        watched = self.settings.stream.source == "folder"
        return Retention(
            [
                *([Rule(pictures, bounds.images_days, bounds.images_gb)] if watched else []),
                Rule(Overlays(self.settings.overlays_dir), bounds.overlays_days, bounds.overlays_gb),
                Rule(ResultRows(transactions), bounds.results_days, bounds.results_rows and float(bounds.results_rows)),
                Rule(DeadLetterRows(transactions), bounds.dead_letters_days, bounds.dead_letters_mb),
            ],
            self.clock,
        )

    def _overlays(self) -> "OverlayFolder | None":
        if self.settings.stream.overlays == "none":
            return None
        from stream_ad.adapters.overlay import OverlayFolder

        return OverlayFolder(self.settings.overlays_dir, of_ok=self.settings.stream.overlays == "all")

    # --- reports ----------------------------------------------------------------------------------

    def forgetting_report(
        self, *, first: int | None = None, last: int | None = None, pictures: bool = False
    ) -> "ForgettingReport":
        """What was forgotten, from all evaluations or those of bank versions `first` to `last`.

        With `pictures`, examples are inspected again and drawn; that takes the backbone.
        """
        from stream_ad.evaluation.report import Promise, forgetting_report

        def chosen(half: Half) -> list[Evaluation]:
            # which pictures were held out differs with every new task; it is for comparing, not for reading
            return [
                replace(evaluation, provenance={k: v for k, v in evaluation.provenance.items() if k != "heldout"})
                for evaluation in self.database.evaluations.all(half)
                if (first or 0) <= evaluation.bank_version <= (last if last is not None else evaluation.bank_version)
            ]

        bank = self.database.banks.load()
        evaluations = {half: chosen(half) for half in Half}
        report = forgetting_report(
            evaluations[Half.TEST],
            evaluations[Half.REGRESSION],
            made_at=self.clock.now(),
            promises={entry.task.id: Promise.of(entry) for entry in bank},
            reasons={
                job.id: (job.message or "").partition(": ")[2]
                for job in self.database.jobs.all()
                if job.state is JobState.REJECTED
            },
            active_version=bank.version,
            max_forgetting=self.settings.gate.max_forgetting,
        )
        return self._with_pictures(report, evaluations[report.half]) if pictures else report

    def _with_pictures(self, report: "ForgettingReport", evaluations: Sequence[Evaluation]) -> "ForgettingReport":
        from stream_ad.report_pictures import with_pictures

        measured = {e.bank_version: e.tasks for e in evaluations if e.published}  # the later one counts
        if report.version is None:
            return report

        def heldout(task: TaskId) -> HeldoutSet:
            payload = published_job(task, self.database.jobs).payload
            return self.task_images.heldout(self.database.tasks.get(task), payload)

        try:
            scorer = self.scorer(self.database.banks.load(report.version))
        except StreamAdError as error:  # the report needs no weights, its pictures do
            return replace(report, notes=(*report.notes, f"No example pictures: {error}."))
        return with_pictures(report, measured[report.version], heldout, scorer)


def folder_topic(folder: Path) -> str:
    """What a watched folder is called in the database."""
    return f"folder:{folder.name}"


def code_version() -> str:
    """The version of this program."""
    try:
        return version("stream-ad")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unreleased"


def configuration_hash(settings: Settings) -> str:
    """One hash for all settings that change what a picture scores."""
    chosen = {name: getattr(settings, name).model_dump(mode="json") for name in SCORING_SECTIONS}
    del chosen["routing"]["sticky_checks"]  # no figure is measured with it
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]
