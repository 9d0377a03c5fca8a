"""Every port of the stream without a disk or a network: for tests, and for trying things out.

What outlives a crash in the real thing (the log and the committed offsets, the ledger, the tables) is kept in an
object of its own, so that a test can throw a `Stream` away and start another on the same state.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.evaluation import Evaluation
from stream_ad.domain.feedback import Became
from stream_ad.domain.job import Job
from stream_ad.domain.message import (
    DeadLetter,
    OutboxMessage,
    Place,
    Record,
    Standing,
    captured_at,
    message_id,
)
from stream_ad.domain.ports import Clock
from stream_ad.domain.result import InspectionResult
from stream_ad.domain.task import TaskId
from stream_ad.errors import BankError, Unavailable


class ManualClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._elapsed = 0.0
        self._one_at_a_time = threading.Lock()
        #: called after each sleep: what happens in the world meanwhile
        self.on_sleep: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> float:
        return self._elapsed

    def set_by(self, seconds: float) -> None:
        """Somebody sets the time of day; negative: back."""
        with self._one_at_a_time:
            self._now += timedelta(seconds=seconds)

    def sleep(self, seconds: float) -> None:
        with self._one_at_a_time:
            self._now += timedelta(seconds=seconds)
            self._elapsed += seconds
        self.on_sleep()


class InMemoryLog:
    """What a broker keeps: records per (topic, partition), and how far each was committed."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.committed: dict[tuple[str, int], int] = {}

    def append(
        self,
        value: bytes | None,
        *,
        topic: str = "images",
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
        timestamp: datetime | None = None,
    ) -> Record:
        """The record, at the end of its partition."""
        log = self.records[topic, partition]
        record = Record(
            topic=topic,
            partition=partition,
            offset=len(log),
            key=key,
            value=value,
            headers=headers or {},
            timestamp=timestamp,
        )
        log.append(record)
        return record


class InMemorySource:
    """A consumer of an `InMemoryLog`; one made later starts at the committed offsets."""

    def __init__(self, log: InMemoryLog, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._position = dict(log.committed)
        self._paused = False
        self.stalls = 0
        #: raise Unavailable while set
        self.away = False
        #: partitions that another consumer got, told by the next `lost`
        self.taken_away: set[tuple[str, int]] = set()

    def poll(self, max_items: int, timeout_s: float) -> list[Record]:
        self._check()
        taken: list[Record] = []
        if not self._paused:
            for place, log in self._log.records.items():
                start = self._position.get(place, 0)
                new = log[start : start + max_items - len(taken)]
                self._position[place] = start + len(new)
                taken += new
        if not taken:
            self._clock.sleep(timeout_s)
        return taken

    def commit(self, up_to: Mapping[tuple[str, int], int]) -> None:
        self._check()
        self._log.committed.update(up_to)

    def lost(self) -> set[tuple[str, int]]:
        taken, self.taken_away = self.taken_away, set()
        self._position = {place: at for place, at in self._position.items() if place not in taken}
        return taken

    @property
    def assigned(self) -> bool:
        return True

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def lag(self) -> Mapping[tuple[str, int], int]:
        return {place: len(log) - self._position.get(place, 0) for place, log in self._log.records.items()}

    def close(self) -> None:
        self._paused = True

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the broker is away, because a test says so")


class InMemorySink:
    """Keeps what was sent, repeats included."""

    at_once = 100

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.sent: list[OutboxMessage] = []
        self.away = False

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        if self.away:
            raise Unavailable("the sink is away, because a test says so")
        self.sent += messages

    def close(self) -> None:
        pass


class InMemoryResults:
    """`domain.ports.ResultRepository` in dictionaries."""

    def __init__(self) -> None:
        self.results: dict[Place, InspectionResult] = {}
        self.letters: dict[Place, DeadLetter] = {}
        self.tries: Counter[Place] = Counter()
        self._outbox: dict[int, OutboxMessage] = {}
        self._row_of: dict[tuple[str, str], int] = {}
        self._next_row = 1
        self.away = False

    def begin(self, records: Sequence[Record], at: datetime) -> list[Standing]:
        self._check()
        standings = []
        for record in records:
            place = record.place
            done = self._told(place, (message_id(record), captured_at(record)))
            standings.append(Standing(done=done, tries=self.tries[place]))
            if not done:
                self.tries[place] += 1
        return standings

    def release(self, places: Sequence[Place]) -> None:
        self._check()
        self.tries -= Counter(places)

    def save_batch(
        self,
        results: Sequence[InspectionResult],
        dead_letters: Sequence[DeadLetter],
        outbox: Sequence[OutboxMessage],
    ) -> None:
        self._check()
        told: set[Place] = set()
        fates: dict[Place, InspectionResult | DeadLetter] = {}
        for fate in (*results, *dead_letters):
            place, identity = _place_and_identity(fate)
            del self.tries[place]
            if self._told(place, identity):
                told.add(place)
            else:
                fates.setdefault(place, fate)
        for place, fate in fates.items():
            self.results.pop(place, None)
            self.letters.pop(place, None)
            if isinstance(fate, DeadLetter):
                self.letters[place] = fate
            else:
                self.results[place] = fate
        for message in outbox:
            if message.place not in told:
                self._add(message)

    def _told(self, place: Place, identity: tuple[str, datetime | None]) -> bool:
        """Whether this very record has a result or a dead letter."""
        name, at = identity
        for fate in (self.results.get(place), self.letters.get(place)):
            if fate is not None:
                known, known_at = _place_and_identity(fate)[1]
                if name == known and at in (None, known_at):
                    return True
        return False

    def _add(self, message: OutboxMessage) -> None:
        """At the end, in place of an older form of it."""
        self._outbox.pop(self._row_of.get((message.channel, message.id), 0), None)
        self._row_of[message.channel, message.id] = self._next_row
        self._outbox[self._next_row] = message
        self._next_row += 1

    def may_relay(self) -> bool:
        self._check()
        return True  # no other process sees it

    def outbox(
        self, limit: int, *, untouched: bool = False, lacking: str | None = None
    ) -> list[tuple[int, OutboxMessage]]:
        self._check()
        return [
            (row, message)
            for row, message in sorted(self._outbox.items(), key=lambda item: item[0])
            if not (untouched and message.has) and lacking not in message.has
        ][:limit]

    def relayed(self, rows: Sequence[int]) -> None:
        self._check()
        for row in rows:
            self._outbox.pop(row, None)

    def partly_relayed(self, has: Mapping[int, frozenset[str]]) -> None:
        self._check()
        for row, names in has.items():
            if row in self._outbox:
                self._outbox[row] = replace(self._outbox[row], has=names)

    def recent(self, limit: int) -> list[InspectionResult]:
        self._check()
        return sorted(self.results.values(), key=lambda result: result.scored_at, reverse=True)[:limit]

    def dead_letters(self, limit: int, *, open_only: bool = False, stage: str | None = None) -> list[DeadLetter]:
        self._check()
        chosen = [
            letter
            for letter in self.letters.values()
            if not (open_only and letter.retried_at) and stage in (None, letter.stage)
        ]
        return sorted(chosen, key=lambda letter: letter.at, reverse=True)[:limit]

    def open_dead_letters(self, stage: str | None = None) -> list[Place]:
        letters = self.dead_letters(len(self.letters), open_only=True, stage=stage)
        return [letter.record.place for letter in sorted(letters, key=lambda letter: letter.at)]

    def dead_letter(self, place: Place) -> DeadLetter | None:
        self._check()
        return self.letters.get(place)

    def retried(self, place: Place, at: datetime) -> bool:
        letter = self.dead_letter(place)
        if letter is None or letter.retried_at is not None:
            return False
        self.letters[place] = replace(letter, retried_at=at)
        return True

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the database is away, because a test says so")


def _place_and_identity(fate: InspectionResult | DeadLetter) -> tuple[Place, tuple[str, datetime | None]]:
    if isinstance(fate, DeadLetter):
        return fate.record.place, (message_id(fate.record), captured_at(fate.record))
    return (fate.topic, fate.partition, fate.offset), (fate.message_id, fate.captured_at)


class InMemoryLedger:
    """`domain.ports.FileLedger` in a list."""

    def __init__(self) -> None:
        # None: the file has a later offset now
        self._files: dict[str, list[tuple[str, str] | None]] = defaultdict(list)
        self._done: dict[str, int] = defaultdict(int)

    def register(self, topic: str, files: Sequence[tuple[str, str]], at: datetime) -> list[int]:
        known = self._files[topic]
        for file in files:
            if file not in known:
                known.append(file)
        return [known.index(file) for file in files]

    def pending(self, topic: str, limit: int) -> list[tuple[int, str, str]]:
        files = [(offset, *file) for offset, file in enumerate(self._files[topic]) if file is not None]
        return [file for file in files if file[0] >= self._done[topic]][:limit]

    def known(self, topic: str) -> set[tuple[str, str]]:
        return {file for file in self._files[topic] if file is not None}

    def done(self, topic: str, up_to: int) -> None:
        self._done[topic] = max(self._done[topic], up_to)

    def find(self, topic: str, offset: int) -> tuple[str, str] | None:
        files = self._files[topic]
        return files[offset] if offset < len(files) else None

    def again(self, topic: str, offset: int) -> int | None:
        files = self._files[topic]
        if offset >= min(self._done[topic], len(files)) or files[offset] is None:
            return None
        files.append(files[offset])
        files[offset] = None
        return len(files) - 1


class InMemoryBanks:
    """`domain.ports.BankRepository` in a list; version 0 is the empty bank."""

    def __init__(self) -> None:
        self._banks: dict[int, MemoryBank] = {0: MemoryBank(version=0)}
        self._rows: list[dict[str, Any]] = []
        self._active = 0

    def active_version(self) -> int:
        return self._active

    def load(self, version: int | None = None) -> MemoryBank:
        wanted = self._active if version is None else version
        if wanted not in self._banks:
            raise BankError(f"there is no bank {wanted}; versions: {', '.join(map(str, sorted(self._banks)))}")
        return self._banks[wanted]

    def contents(self, version: int) -> Mapping[TaskId, str]:
        return {task: entry.sha256 for task, entry in self.load(version).entries.items()}

    def next_version(self) -> int:
        return max(self._banks) + 1

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
        if parent != self._active or bank.version in self._banks:
            raise BankError(f"bank {self._active} is active and {bank.version} may be taken; evaluate again")
        self._rows.append(
            {
                "version": bank.version,
                "parent": parent,
                "created_at": at,
                "task": job.task,
                "job_id": job.id,
                "sha256": bank.sha256,
            }
        )
        self.put(bank)

    def put(self, bank: MemoryBank) -> None:
        """Make a bank the active one without a job."""
        self._banks[bank.version] = bank
        self._active = bank.version

    def use(self, version: int, *, who: str, reason: str, at: datetime) -> None:
        self.load(version)
        self._active = version

    def versions(self) -> list[Mapping[str, Any]]:
        return [{**row, "active": row["version"] == self._active} for row in self._rows]
