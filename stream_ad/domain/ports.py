"""What the use cases need from the world. Adapters implement these; services know nothing else.

Every method of a repository is one transaction. All are runtime-checkable, because the test run checks signatures.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.evaluation import Evaluation, Half
from stream_ad.domain.feedback import Became, Feedback, FeedbackKind, FeedbackState
from stream_ad.domain.job import Ended, Job, JobKind, JobState
from stream_ad.domain.message import DeadLetter, OutboxMessage, Place, Record, Standing
from stream_ad.domain.result import InspectionResult
from stream_ad.domain.task import Task, TaskId


@runtime_checkable
class Clock(Protocol):
    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...

    def elapsed(self) -> float:
        """Seconds since some moment, for waits: it goes on evenly when somebody sets the time of day."""
        ...

    def sleep(self, seconds: float) -> None: ...


@runtime_checkable
class Progress(Protocol):
    """Told by long work how far it is. Raises to stop the work (cancelled, or its lease lost)."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@runtime_checkable
class Source(Protocol):
    """Where images come from. One thread owns a source.

    After a restart everything that was not committed comes again, in the order of its offsets.
    """

    def poll(self, max_items: int, timeout_s: float) -> list[Record]:
        """Up to `max_items` new records; an empty list when none came within `timeout_s`.

        Within a partition offsets rise. Keeps group membership alive, so call it also while paused (it then
        returns nothing).

        Raises:
            Unavailable: the source is away; call again later, nothing is lost.
        """
        ...

    def commit(self, up_to: Mapping[tuple[str, int], int]) -> None:
        """Mark records as done: per (topic, partition) the offset *after* the last one done.

        Called only after the database transaction returned. A crash before it means that the records come again.

        Raises:
            Unavailable: not committed; the records may come again.
        """
        ...

    def lost(self) -> set[tuple[str, int]]:
        """Partitions that were taken away since the last call. Their records may come again, here or elsewhere."""
        ...

    @property
    def stalls(self) -> int:
        """How often records waited and none came, so that the connection was made anew."""
        ...

    @property
    def assigned(self) -> bool:
        """Whether there is anything to read here, as far as is known: a group may have given all to others."""
        ...

    def pause(self) -> None:
        """Fetch nothing more until `resume`."""
        ...

    def resume(self) -> None: ...

    def lag(self) -> Mapping[tuple[str, int], int]:
        """Records waiting per partition, as far as known."""
        ...

    def close(self) -> None:
        """Leave politely. Not guaranteed to be called."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Where outbox messages go. At least once: a repeat has the same id."""

    @property
    def name(self) -> str:
        """Never changes: by it the outbox remembers what this sink has."""
        ...

    @property
    def at_once(self) -> int:
        """How many messages one `send` takes at most: as many as may be repeated when it fails."""
        ...

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        """Returns when every message is safely there.

        A message that the sink has no use for (another verdict than it asks for) counts as sent.

        Raises:
            Unavailable: some may be there; all will be sent again.
            DataError: it will never take one of them, whatever the wait; each is then sent alone, to find out which.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class EntryStore(Protocol):
    """Entries as files named by their content."""

    def put(self, entry: BankEntry) -> BankEntry:
        """Store durably; the entry with its `sha256`. The same entry twice is one file."""
        ...

    def get(self, sha256: str) -> BankEntry:
        """Raises: BankError: the file is missing or its content does not have this hash."""
        ...


@runtime_checkable
class TaskRepository(Protocol):
    def add(self, task: Task, kind: JobKind, payload: Mapping[str, Any], at: datetime) -> Job:
        """Task and queued job in one transaction. A name is free again when the active bank has no such task.

        Raises:
            TaskExists: the active bank has a task of that name, or an open job makes one.
        """
        ...

    def queue(
        self,
        task: TaskId | None,
        kind: JobKind,
        payload: Mapping[str, Any],
        at: datetime,
        *,
        feedback: Sequence[int] = (),
    ) -> Job:
        """A job about a task that is there, or (None) about all; it takes that feedback on itself.

        Raises:
            UnknownTask: there is no such task.
            JobError: the task has an open job already; or one of this kind is open, where it is about all.
        """
        ...

    def get(self, task: str) -> Task:
        """Raises: UnknownTask."""
        ...

    def all(self) -> list[Task]:
        """Every task, by name."""
        ...

    def retired(self) -> frozenset[TaskId]:
        """Tasks that a person left out of the bank."""
        ...


@runtime_checkable
class JobRepository(Protocol):
    def get(self, job_id: int) -> Job:
        """Raises: JobError: no such job."""
        ...

    def all(self) -> list[Job]:
        """Every job, newest first."""
        ...

    def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state; states without one are left out."""
        ...

    def claim(self, worker: str, device: str, lease_s: float, at: datetime, *, job_id: int | None = None) -> Job | None:
        """The oldest queued job, or a running one whose worker is silent; now running, one attempt more, ours.

        A worker is silent when its lease ran out, whoever saw that first (`claim`, `place` or `sweep`) gave it a last
        call, and that has passed too.

        With `job_id` that job or none. A job that was placed for another worker is left alone while that lasts; one
        out of attempts is failed instead. No two workers ever get the same lease.
        """
        ...

    def place(self, worker: str, until: datetime, at: datetime) -> Job | None:
        """The oldest job that waits, kept for this worker alone until then; it stays queued. First sweeps."""
        ...

    def keep_placed(self, job_id: int, worker: str, until: datetime) -> bool:
        """Keep it for longer. False: it is not placed for this worker any more: taken, ended, or another's."""
        ...

    def release(
        self, job_id: int, worker: str, at: datetime, *, how: str | None, attempt: int | None = None
    ) -> Job | None:
        """What the process of that name had is free at once, for it is no more. The job; None: it had nothing.

        How it died counts an attempt, goes to the job's log, and fails the job after its last; None: it ended in
        order, and the attempt counts as if it had never been. A job that it had not taken yet just waits again.
        `attempt`: the one that the name had; None: whichever, for a name that is never used twice.
        """
        ...

    def sweep(self, at: datetime) -> list[Job]:
        """Running jobs of silent workers: queued again, or ended when cancelled or out of attempts. As they are.

        Those whose lease is seen to have run out for the first time are given a last call, and left alone.
        """
        ...

    def heartbeat(
        self, job_id: int, worker: str, attempt: int, *, stage: str, progress: float, lease_s: float, at: datetime
    ) -> bool:
        """Prolong the lease. False: it is no longer ours, or somebody asked to cancel: stop."""
        ...

    def write_log(self, job_id: int, worker: str, attempt: int, log_tail: str) -> bool:
        """Keep the end of the job's log; also right after its end. False: another attempt has it."""
        ...

    def write_checkpoint(self, job_id: int, worker: str, attempt: int, values: Mapping[str, Any]) -> bool:
        """Remember what is finished, beside what was; it outlives attempts and retries. False: lease lost."""
        ...

    def finish(
        self,
        job_id: int,
        worker: str,
        attempt: int,
        state: JobState,
        message: str,
        at: datetime,
        log_tail: str | None = None,
        *,
        evaluations: Iterable[Evaluation] = (),
        checkpoint: Mapping[str, Any] | None = None,
        feedback: Mapping[int, Became] | None = None,
    ) -> bool:
        """End a job that is not published (`BankRepository.publish` ends that one).

        One transaction, with what was measured, what the checkpoint shall have more, and what became of feedback, by
        number. Of a rejected job other false alarms that it had taken on itself are refused. False: lease lost, and
        nothing was written.
        """
        ...

    def give_back(
        self, job_id: int, worker: str, attempt: int, at: datetime, *, counted: bool, log_tail: str | None = None
    ) -> bool:
        """Queue a running job again, for any worker. Not `counted`: as if this attempt had never been.

        False: lease lost.
        """
        ...

    def requeue(self, job_id: int, at: datetime) -> Job:
        """A failed, rejected or cancelled job once more, to be judged like any; an override is no longer in force.

        Raises:
            JobError: it is open, or was published.
        """
        ...

    def override(self, job_id: int, who: str, reason: str, at: datetime) -> Job:
        """A rejected job once more, to be published in spite of what the gate said; written to the audit table.

        Raises:
            JobError: it was not rejected, or nothing tells what the gate said.
        """
        ...

    def cancel(self, job_id: int, at: datetime) -> Job:
        """A queued job ends now, a running one at its next heartbeat. Raises: JobError: it has ended."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Starts processes that do jobs, here or elsewhere. It knows nothing of the queue. One thread owns it.

    A process runs `stream-ad job run ID --worker NAME`, with the settings of who places: it takes that job by that
    name, or ends when it cannot. It ends by itself when whoever placed it is gone, and gives its job back.
    """

    def free(self) -> int:
        """How many more processes may be started now."""
        ...

    def place(self, job: Job, worker: str) -> None:
        """Start a process for a job, known by this name, which is never used twice. Returns at once.

        Raises:
            Unavailable: it cannot be started now.
        """
        ...

    def ended(self) -> list[Ended]:
        """Processes that ended since the last call, each once, whether in order or not; without waiting."""
        ...

    def stop(self) -> None:
        """Ask every process to give its job back and end; they may take a while. Nothing is placed afterwards."""
        ...

    def kill(self, worker: str) -> None:
        """End a process now, however stuck it is; `ended` tells of it. One that is gone already is no error."""
        ...

    def close(self) -> None:
        """Leave no process behind."""
        ...


@runtime_checkable
class BankRepository(Protocol):
    def active_version(self) -> int:
        """The version that scorers use; 0 is the empty bank. Cheap: polled between batches."""
        ...

    def load(self, version: int | None = None) -> MemoryBank:
        """A bank by number, the active one by default. Raises: BankError: no such version."""
        ...

    def next_version(self) -> int:
        """The number that the next published bank gets, if nobody is faster."""
        ...

    def publish(
        self,
        bank: MemoryBank,
        *,
        parent: int,
        job: Job,
        worker: str,
        evaluations: Iterable[Evaluation],
        message: str,
        at: datetime,
        feedback: Mapping[int, Became] | None = None,
    ) -> None:
        """One transaction: the version, its entries and scores, the active pointer, the job's end.

        Also what became of feedback, by number.

        Raises:
            BankError: the active version is no longer `parent`, or the number is taken: evaluate again.
            JobError: the lease is no longer `worker`'s.
        """
        ...

    def use(self, version: int, *, who: str, reason: str, at: datetime) -> None:
        """Make a published version the active one (rollback); written to the audit table.

        Raises: BankError: no such version.
        """
        ...

    def contents(self, version: int) -> Mapping[TaskId, str]:
        """The hash of each entry of a version, by task. Cheap: no file is read. Raises: BankError: no such version."""
        ...

    def versions(self) -> list[Mapping[str, Any]]:
        """Every published version, oldest first: version, parent, created_at, task, job_id, active, sha256."""
        ...


@runtime_checkable
class EvaluationRepository(Protocol):
    def save(self, evaluation: Evaluation) -> None: ...

    def all(self, half: Half) -> list[Evaluation]:
        """Oldest first, rejected candidates included (`published` tells)."""
        ...

    def thin(self, bank_version: int, keep: Collection[int | None]) -> None:
        """Forget the single pictures, not the figures, of a published bank's evaluations by other jobs than these."""
        ...


@runtime_checkable
class ResultRepository(Protocol):
    def begin(self, records: Sequence[Record], at: datetime) -> list[Standing]:
        """Note that these records are about to be worked on; what was known of each before, in order.

        A try is noted for those that are not done. It ends with `save_batch` or `release`; one that does neither
        was a crash, and shows in the next `Standing`.

        Raises:
            DataError: one of them has a value that the database cannot store; nothing was noted.
        """
        ...

    def release(self, places: Sequence[Place]) -> None:
        """Take one try back from each: they were put down untouched."""
        ...

    def save_batch(
        self,
        results: Sequence[InspectionResult],
        dead_letters: Sequence[DeadLetter],
        outbox: Sequence[OutboxMessage],
    ) -> None:
        """One transaction; ends the tries of all places in it.

        The first verdict stays: of a record that has a result or a dead letter already, neither row nor outbox message
        is written again, so scorers that overlap show nothing twice. That a letter was sent again changes nothing
        here: the record has another place then. A row of another record with the same place (its topic was made anew)
        is overwritten. Another has another message id or another time; one without any time goes by its id.

        Raises:
            DataError: a value of one of them is none that the database can store; nothing was written.
        """
        ...

    def may_relay(self) -> bool:
        """Whether this process is the one that relays, of all on this database; until it ends, then another is.

        Two would send everything twice.
        """
        ...

    def outbox(
        self, limit: int, *, untouched: bool = False, lacking: str | None = None
    ) -> list[tuple[int, OutboxMessage]]:
        """Messages not yet relayed, oldest first, each with its row number.

        Only those that no sink has, if `untouched`; or only those that the sink named `lacking` has not.
        """
        ...

    def relayed(self, rows: Sequence[int]) -> None:
        """Every sink has them: they leave the outbox."""
        ...

    def partly_relayed(self, has: Mapping[int, frozenset[str]]) -> None:
        """By row number, the names of the sinks that have it: a restart need not send it to those again."""
        ...

    def recent(self, limit: int) -> list[InspectionResult]:
        """The latest results, newest first."""
        ...

    def dead_letters(self, limit: int, *, open_only: bool = False, stage: str | None = None) -> list[DeadLetter]:
        """The latest, newest first; those that were sent again too, unless `open_only`; of all stages, or one."""
        ...

    def open_dead_letters(self, stage: str | None = None) -> list[Place]:
        """Where the open ones are, oldest first; of all stages, or one."""
        ...

    def dead_letter(self, place: Place) -> DeadLetter | None: ...

    def retried(self, place: Place, at: datetime) -> bool:
        """Note that the record was sent again, so its letter is no longer open. False: it was not open any more."""
        ...


@runtime_checkable
class FeedbackRepository(Protocol):
    def add(
        self,
        *,
        place: Place,
        kind: FeedbackKind,
        who: str,
        reason: str,
        task: TaskId | None,
        path: str,
        sha256: str,
        at: datetime,
    ) -> Feedback:
        """Note what was said, in quarantine; also in the audit table. Raises: DataError: it was said before."""
        ...

    def get(self, feedback_id: int) -> Feedback:
        """Raises: DataError: there is none of that number."""
        ...

    def at(self, place: Place, kind: FeedbackKind) -> Feedback | None:
        """What was said of a result."""
        ...

    def recent(
        self,
        limit: int,
        *,
        task: TaskId | None = None,
        kind: FeedbackKind | None = None,
        state: FeedbackState | None = None,
    ) -> list[Feedback]:
        """The latest, newest first; None: of any."""
        ...

    def of_job(self, job_id: int) -> list[Feedback]:
        """What a job has taken on itself, oldest first."""
        ...

    def of_pictures(self, hashes: Collection[str]) -> list[Feedback]:
        """What was said of these pictures, by the hashes of their pixels, oldest first."""
        ...

    def settle(self, state: FeedbackState, outcomes: Mapping[int, str]) -> None:
        """What became of feedback that no job follows, by number. Jobs say so in the transaction that ends them."""
        ...

    def withdraw(self, feedback_id: int, *, who: str, reason: str, at: datetime) -> Feedback:
        """It was a mistake. Raises: DataError: a job has followed it already, or is taking it in."""
        ...

    def results(self, name: str) -> list[InspectionResult]:
        """Results that a person may mean, newest first, at most 20: by place, by message id, by the sender's name."""
        ...


@runtime_checkable
class PictureStore(Protocol):
    """Encoded pictures that are kept because where they came from forgets."""

    def put(self, data: bytes) -> str:
        """Store durably; the name to find it by. The same bytes twice are one file."""
        ...

    def get(self, name: str) -> bytes:
        """Raises: DataError: it is gone, or not what was stored."""
        ...


@runtime_checkable
class FileLedger(Protocol):
    """Gives every file of a watched folder, by (path, sha256), an offset, which only `again` changes."""

    def register(self, topic: str, files: Sequence[tuple[str, str]], at: datetime) -> list[int]:
        """Offsets of (path, sha256) pairs, new or known, in order."""
        ...

    def pending(self, topic: str, limit: int) -> list[tuple[int, str, str]]:
        """(offset, path, sha256) of files not yet done, by offset."""
        ...

    def known(self, topic: str) -> set[tuple[str, str]]:
        """(path, sha256) of every file registered."""
        ...

    def done(self, topic: str, up_to: int) -> None:
        """Every offset below `up_to` is done."""
        ...

    def find(self, topic: str, offset: int) -> tuple[str, str] | None:
        """(path, sha256) of the file at an offset; None: there is none any more."""
        ...

    def again(self, topic: str, offset: int) -> int | None:
        """Give a file that is done the next free offset, so that it is read again; None: there is no such file."""
        ...
