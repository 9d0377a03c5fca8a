"""The one place that knows every concrete class, with `stream_parts.py`: from settings to what the commands use.

Nothing is opened or imported before it is needed, so a command that only reads the database starts without torch.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_ad import change_parts, discovery_parts, feedback_parts, job_parts, scheduler_parts, stream_parts
from stream_ad.adapters.clock import SystemClock
from stream_ad.config import Settings
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.duty import DutyRun
from stream_ad.domain.evaluation import TaskEvaluation
from stream_ad.domain.images import HeldoutSet, ImageSet, Mask
from stream_ad.domain.job import FEW, Job, first_few, learned_by, learns_all
from stream_ad.domain.ports import Progress, Sink, Source
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import DataError, NoSharedWeights
from stream_ad.services.gate import GateBudgets
from stream_ad.services.heldout import learning_job
from stream_ad.services.work import Outcome, Storage, TaskImages, Work

if TYPE_CHECKING:
    from stream_ad.adapters.kafka_producer import KafkaProducerOptions
    from stream_ad.adapters.kafka_security import KafkaSecurity
    from stream_ad.adapters.storage import Database
    from stream_ad.backbones.cached import CachedBackbone
    from stream_ad.detectors.base import Detector
    from stream_ad.evaluation.findings import ForgettingReport
    from stream_ad.inspection import BankModel
    from stream_ad.report_parts import Reports
    from stream_ad.services.discovery import Discovery
    from stream_ad.services.feedback import FeedbackOffice
    from stream_ad.services.placing import Placing
    from stream_ad.services.retention import Retention
    from stream_ad.services.scheduling import Duty, Scheduler
    from stream_ad.services.scoring import Scorer, ZeroShot
    from stream_ad.services.streaming import OnBatch, Stream
    from stream_ad.services.worker import Worker
    from stream_ad.task_images import Checked, TaskImageReader

log = logging.getLogger(__name__)

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
            feedback=database.feedback,
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

        return make_detectors(self.backbone, self.settings.detector.options(self.backbone.depth))

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
        wanted = self.settings.discovery
        zero_shot, name = self._zero_shot() if wanted.zero_shot else (None, "")
        return Scorer(
            partial(self.model, remember=False),
            bank,
            sticky_checks=self.settings.routing.sticky_checks,
            embed_unknown=wanted.enabled,
            zero_shot=zero_shot,
            zero_shot_name=name,
        )

    def _zero_shot(self) -> "tuple[ZeroShot, str]":
        """What scores pictures of no known product: trained words where there are weights, else untrained ones."""
        chosen = "zero-shot" if self.settings.detector.mpa.weights is None else "mpa"
        return discovery_parts.zero_shot(self.backbone, self.detectors[chosen])

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

    def require_weights(self, detector: str | None = None) -> None:
        """Nothing, when the detector (None: the one that settings name) can learn: now, not when a worker has the job.

        Raises:
            NoSharedWeights: it needs some, and settings name none.
        """
        chosen = detector or self.settings.detector.name
        shared = self.settings.detector.shared
        if chosen in shared and shared[chosen] is None:
            raise NoSharedWeights(chosen)

    def check_more(
        self, payload: Mapping[str, Any], *, images: Path, heldout: Path | None, detector: str | None = None
    ) -> "Checked":
        """As `task_images.check_more`, for a task whose job can be done; by another `detector`, if one is named.

        Raises:
            NoSharedWeights: it cannot.
        """
        payload = learned_by(learns_all(payload), detector)
        self.require_weights(payload.get("detector"))
        return self.task_images.check_more(payload, images=images, heldout=heldout)

    def check_folders(
        self, task: Task, *, images: Path, heldout: Path | None, roi: Path | None, detector: str | None
    ) -> "Checked":
        """The payload of a new task's job, when its folders are fit for it.

        Raises:
            DataError: they are not.
            NoSharedWeights: the detector needs some, and settings name none.
        """
        chosen = detector or self.settings.detector.name
        self.require_weights(chosen)
        return self.task_images.check(task, images=images, heldout=heldout, roi=roi, detector=chosen)

    def check_new(
        self, task: Task, *, images: Path, heldout: Path | None, roi: Path | None, detector: str | None
    ) -> "Checked":
        """As `check_folders`, of a task that is new: where settings say so, a few pictures are learned first.

        Raises:
            DataError, NoSharedWeights: as `check_folders`.
        """
        wanted = self.settings.detector
        checked = self.check_folders(task, images=images, heldout=heldout, roi=roi, detector=detector)
        if detector is not None or wanted.few_shot in (None, wanted.name):
            return checked
        self.require_weights(wanted.few_shot)
        return replace(checked, payload=first_few(checked.payload, wanted.few_shot, wanted.few_shot_images))

    def learn(
        self,
        task: Task,
        normals: ImageSet,
        *,
        detector: str | None,
        roi: Mask | None,
        progress: Progress,
        few: int = 0,
    ) -> BankEntry:
        """A task's entry, by the settings; `detector` by its name, None: the one that settings name.

        With `few`, only so many of the pictures are learned.

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
            few=few,
            progress=progress,
        )

    def _learn(self, task: Task, images: TaskImages, payload: Mapping[str, Any], progress: Progress) -> BankEntry:
        from stream_ad.detectors.by_weights import ByWeights

        detector = self.detectors.get(payload.get("detector") or self.settings.detector.name)
        if isinstance(detector, ByWeights):
            detector.require_unseen(task.id, [*images.heldout.regression.ids, *images.heldout.test.ids])
        return self.learn(
            task,
            images.normals,
            detector=payload.get("detector"),
            roi=images.roi,
            progress=progress,
            few=payload.get(FEW, 0),
        )

    def _evaluate(
        self, bank: MemoryBank, heldout: Mapping[TaskId, HeldoutSet], progress: Progress
    ) -> Mapping[TaskId, TaskEvaluation]:
        from stream_ad.evaluation.protocol import evaluate

        model = self.model(bank)
        if self.settings.jobs.executor == "ray" and len(heldout) > 1:
            return job_parts.evaluate_with_cluster(
                evaluated_there, self.settings, model, heldout, progress, self.provenance()
            )
        return evaluate(model, heldout, progress)

    def work(self) -> Work:
        """What a job does, bound to folders, detectors and the backbone."""
        gate = self.settings.gate
        return Work(
            read=self.task_images.read,
            learn=self._learn,
            evaluate=self._evaluate,
            patch=partial(change_parts.patched, self.detectors),
            shrink=partial(change_parts.shrunk, self.detectors, self.backbone),
            judge=partial(change_parts.judged, self.scorer),
            marked=partial(change_parts.marked, self.settings, self.decoding),
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

    def placing(
        self,
        config: Path | None = None,
        *,
        watch: Callable[[Job], Progress] | None = None,
        ended: Callable[[Job], None] | None = None,
        show: Callable[[str], None] | None = None,
    ) -> "Placing":
        """A worker that does jobs in processes of their own; these read the same `config`, the same environment.

        `show` is given every line that they write.

        Raises:
            ConfigError: the settings name an executor that is not installed.
        """
        from stream_ad.services.placing import Placing

        jobs = self.settings.jobs
        return Placing(
            self.database.jobs,
            job_parts.executor(self.settings, config, show),
            self.clock,
            lease_s=jobs.lease_s,
            poll_s=jobs.poll_s,
            silent_s=jobs.silent_s,
            watch=watch,
            ended=ended,
        )

    def worker(
        self,
        *,
        name: str | None = None,
        watch: Callable[[Job], Progress] | None = None,
        ended: Callable[[Job, Outcome], None] | None = None,
    ) -> "Worker":
        """A worker in this process, with the backbone loaded, so that wrong weights show before a job is taken."""
        from stream_ad.services.worker import Worker

        return Worker(
            self.storage,
            self.work(),
            self.clock,
            name=name,
            device=str(self.backbone.device),
            lease_s=self.settings.jobs.lease_s,
            silent_s=self.settings.jobs.silent_s,
            poll_s=self.settings.jobs.poll_s,
            watch=watch,
            ended=ended,
        )

    # --- the stream -------------------------------------------------------------------------------

    def source(self) -> Source:
        """Where images come from, as `stream.source` says."""
        if self.settings.stream.source == "kafka":
            return stream_parts.kafka_source(self.settings)
        return stream_parts.folder_source(self.settings, self.database.files, self.clock)

    def sinks(self) -> Sequence[Sink]:
        """Where results go beside the database."""
        return stream_parts.sinks(self.settings, self.clock)

    def kafka_producer_options(self) -> "KafkaProducerOptions":
        """How to send to Kafka."""
        return stream_parts.kafka_producer_options(self.settings)

    def kafka_security(self) -> "KafkaSecurity":
        """How to connect to Kafka."""
        return stream_parts.kafka_security(self.settings)

    @contextmanager
    def stream(self, on_batch: "OnBatch | None" = None) -> Iterator["Stream"]:
        """A scorer on its source, closed at the end."""
        from stream_ad.adapters.decode import decode, memory
        from stream_ad.services.streaming import Stream

        scorer, source, sinks = self.scorer(), self.source(), self.sinks()
        keeper = discovery_parts.keeper(self.settings, self.database, self.clock, self.decoding)
        try:
            yield Stream(
                source=source,
                inspector=scorer,
                banks=self.database.banks,
                results=self.database.results,
                decode=partial(decode, **self.decoding),
                measure=partial(memory, max_pixels=self.settings.stream.max_pixels),
                clock=self.clock,
                sinks=sinks,
                references=stream_parts.references(self.settings),
                overlays=stream_parts.overlays(self.settings),
                keep=keeper,
                guard=stream_parts.disk_guard(self.settings),
                on_batch=on_batch,
                deadlines=stream_parts.deadlines(self.settings),
                options=stream_parts.options(self.settings),
            )
        finally:
            source.close()
            if keeper is not None:
                keeper.close()
            for sink in sinks:
                sink.close()

    def discovery(self, detector: str | None = None) -> "Discovery":
        """What makes products of pictures that no known product explains; `detector` learns what is approved, None: the
        one that settings name, or that a known product has."""
        check, check_more = discovery_parts.checks(self.database, self.check_new, self.check_more, detector)
        return discovery_parts.discovery(
            self.settings, self.database, self.clock, self.decoding, check=check, check_more=check_more
        )

    def feedback_office(self) -> "FeedbackOffice":
        """Takes down what people say of verdicts."""
        return feedback_parts.feedback_office(
            self.settings, self.database, self.clock, self.decoding, lambda: self.backbone.backbone
        )

    def require_in_bank(self, task: TaskId) -> None:
        """Raises: UnknownTask: there is no such task; DataError: the active bank has none of that name."""
        self.database.tasks.get(task)
        version = self.database.banks.active_version()
        if task not in self.database.banks.contents(version):
            raise DataError(
                f"needed a task of the active bank, and bank {version} has no {task!r}; teach it with `stream-ad"
                f" add-task {task} --images DIR`"
            )

    def more_pictures(
        self, task: TaskId, *, images: Path, heldout: Path | None, detector: str | None = None
    ) -> "Checked":
        """The payload of a job that learns a task of the active bank again with these folders added, by the detector
        that it has or by the one that is named.

        Raises:
            UnknownTask: there is no such task.
            DataError: the bank has no such task, or the folders are not fit.
            NoSharedWeights: the detector needs some, and settings name none.
        """
        self.require_in_bank(task)
        payload = learning_job(task, self.database.jobs, self.database.banks).payload
        return self.check_more(payload, images=images, heldout=heldout, detector=detector)

    def other_pictures(
        self, task: TaskId, *, images: Path, heldout: Path | None, detector: str | None = None
    ) -> "Checked":
        """The payload of a job that learns a task of the active bank anew from these folders alone, in the region that
        it has, by the detector that it has or by the one that is named.

        Raises:
            UnknownTask, DataError, NoSharedWeights: as `more_pictures`.
        """
        self.require_in_bank(task)
        had = learned_by(learns_all(learning_job(task, self.database.jobs, self.database.banks).payload), detector)
        roi = Path(had["roi"]) if had.get("roi") else None
        known = self.database.tasks.get(task)
        return self.check_folders(known, images=images, heldout=heldout, roi=roi, detector=had.get("detector"))

    def same_pictures(self, task: TaskId, *, detector: str | None = None) -> "Checked":
        """The payload of a job that learns a task of the active bank anew from all folders that it has, by the detector
        that it has or by the one that is named.

        Raises:
            UnknownTask, DataError, NoSharedWeights: as `more_pictures`.
        """
        self.require_in_bank(task)
        payload = learned_by(learns_all(learning_job(task, self.database.jobs, self.database.banks).payload), detector)
        self.require_weights(payload.get("detector"))
        return self.task_images.check_again(self.database.tasks.get(task), payload)

    def retention(self) -> "Retention":
        """What deletes old pictures, overlays, results and dead letters, as `retention` says."""
        from stream_ad.adapters.database import Transactions
        from stream_ad.adapters.retention_banks import GRACE_DAYS, BankVersions, EntryFiles
        from stream_ad.adapters.retention_files import InboxPictures, Overlays
        from stream_ad.adapters.retention_rows import DeadLetterRows, DoneFiles, ResultRows
        from stream_ad.services.retention import Retention, Rule

        bounds, inbox = self.settings.retention, self.settings.inbox
        transactions = Transactions(self.database.engine)
        pictures = InboxPictures(inbox, DoneFiles(transactions, stream_parts.folder_topic(inbox)))
        entries = self.database.entries
        versions, files = BankVersions(transactions, entries), EntryFiles(transactions, entries)
        watched = self.settings.stream.source == "folder"
        return Retention(
            [
                *([Rule(pictures, bounds.images_days, bounds.images_gb)] if watched else []),
                Rule(Overlays(self.settings.overlays_dir), bounds.overlays_days, bounds.overlays_gb),
                Rule(ResultRows(transactions), bounds.results_days, bounds.results_rows and float(bounds.results_rows)),
                Rule(DeadLetterRows(transactions), bounds.dead_letters_days, bounds.dead_letters_mb),
                Rule(versions, most=bounds.bank_versions and float(bounds.bank_versions)),
                Rule(files, days=GRACE_DAYS if bounds.bank_versions else None),
            ],
            self.clock,
        )

    # --- the scheduler ----------------------------------------------------------------------------

    def duties(self) -> "Sequence[Duty]":
        """Everything that comes again and again."""
        return scheduler_parts.duties(
            self.settings,
            self.database,
            self.clock,
            discover=lambda still: self.discovery().run(still),
            retention=self.retention(),
            write_report=self.write_report,
        )

    def duties_standing(self) -> tuple[Mapping[str, DutyRun], Sequence[str]]:
        """How each duty went the last time, and the tasks that no longer look as they did."""
        return self.database.duties.all(), scheduler_parts.drifting(self.settings, self.database)

    def scheduler(self) -> "Scheduler":
        """What does the duties that settings have a schedule for. Raises: ConfigError: a schedule is none."""
        return scheduler_parts.scheduler(self.duties(), self.settings, self.database, self.clock)

    # --- reports ----------------------------------------------------------------------------------

    @property
    def reports(self) -> "Reports":
        """What makes reports of all that was measured."""
        from stream_ad.report_parts import Reports

        return Reports(self.settings, self.database, self.clock, self.task_images, self.scorer)

    def forgetting_report(
        self, *, first: int | None = None, last: int | None = None, pictures: bool = False
    ) -> "ForgettingReport":
        """What was forgotten, from all evaluations or those of bank versions `first` to `last`.

        With `pictures`, examples are inspected again and drawn; that takes the backbone.
        """
        return self.reports.forgetting(first=first, last=last, pictures=pictures)

    def write_report(self, job_id: int | None = None, *, pictures: bool | None = None) -> Sequence[Path]:
        """Write reports into the folder of reports, as settings say: after a job its own too. The files written.

        With pictures where the backbone is loaded already, unless told. A report that cannot be made is logged and
        never raised: what it tells of has happened, and whoever asked has other things to do.
        """
        try:
            loaded = "backbone" in self.__dict__
            return self.reports.write(job_id, pictures=loaded if pictures is None else pictures)
        except Exception:
            log.exception("no report was written")
            return []


def evaluated_there(common: "job_parts.Common", item: tuple[TaskId, HeldoutSet]) -> TaskEvaluation | None:
    """One task of a job's bank, evaluated by a process of a Ray cluster.

    None: this machine would measure with other code, weights, settings, device or threads than the job does.

    Raises:
        BankError: `data_dir` here has not the job's entries.
        DataError: a picture cannot be read here.
    """
    from stream_ad.evaluation.protocol import evaluate

    model = _there(common)
    if model is None:
        return None
    task, heldout = item
    return evaluate(model, {task: heldout}, lambda stage, done, total: None)[task]


#: of a process of a cluster: weights and bank are read once for all that one job has for it
_kept: "tuple[job_parts.Common, App, BankModel | None] | None" = None


def _there(common: "job_parts.Common") -> "BankModel | None":
    """What evaluates here for a job; None: it would measure otherwise."""
    import torch

    from stream_ad.adapters.arrays import FileEntryStore

    global _kept
    if _kept is not None and _kept[0] == common:
        return _kept[2]
    app = _kept[1] if _kept is not None and _kept[0].settings == common.settings else App(common.settings)
    app.backbone  # noqa: B018 - reading it may set the threads
    torch.set_num_threads(common.provenance["threads"])
    model = None
    if app.provenance() == common.provenance:
        entries, bank = FileEntryStore(common.settings.entries_dir), MemoryBank(common.version)
        for sha256 in common.entries:
            bank = bank.with_entry(entries.get(sha256), common.version)
        model = app.model(bank)
    else:
        log.warning("not evaluated here, with %s: the job has %s", app.provenance(), common.provenance)
    _kept = common, app, model
    return model


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
    for name in ("few_shot", "few_shot_images"):  # who learns first; what it learned is in its entry
        del chosen["detector"][name]
    for name in settings.detector.shared:
        del chosen["detector"][name]["weights"]  # every entry names its own
        if not chosen["detector"][name]:
            del chosen["detector"][name]
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]
