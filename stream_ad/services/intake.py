"""Records on their way to the model: in turn by camera, decoded by threads, in bounded memory."""

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from stream_ad.domain.images import Picture
from stream_ad.domain.message import DeadLetter, ImageMessage, Place, Record
from stream_ad.domain.ports import Clock
from stream_ad.errors import Unavailable
from stream_ad.services.budget import Budget
from stream_ad.services.fair_queue import FairQueue
from stream_ad.services.messages import KeyNames, References, dead_letter, read_message
from stream_ad.services.watermark import Partition

MIB = 1024**2

Decode = Callable[[bytes], Picture]
"""The picture in encoded bytes. Raises: UndecodableImage."""

Measure = Callable[[bytes], int]
"""How many bytes of memory decoding takes at most, by the header of encoded bytes. Raises: UndecodableImage."""


@dataclass(frozen=True, kw_only=True)
class IntakeOptions:
    #: pictures that are scored together at most
    batch_size: int = 8
    #: how long a batch that is not full waits for more, from its first record on
    linger_s: float = 0.05
    decode_threads: int = 2
    #: records and encoded bytes that wait at most; one fetch may go above the bytes
    buffer_records: int = 64
    buffer_bytes: int = 256 * MIB
    #: decoded pictures that are held at most, in bytes
    picture_bytes: int = 1024 * MIB
    #: wait before a reference whose store is away is tried again
    reference_retry_s: float = 1.0
    #: what a record's key names where no header does
    key_names: KeyNames = "camera"


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A message with its picture."""

    message: ImageMessage
    picture: Picture


@dataclass(slots=True, eq=False)
class Arrival:
    """A record on its way, from the poll to its row."""

    record: Record
    #: when it was polled
    at: datetime
    #: the same by `Clock.elapsed`
    since: float
    #: what came of it
    outcome: Prepared | DeadLetter | None = None
    #: bytes of the budget that its picture takes
    held: int = 0
    decode_s: float = 0.0
    future: "Future[None] | None" = None
    #: when a reference whose store is away is tried again, by `Clock.elapsed`
    again: float | None = None

    @property
    def line(self) -> Hashable:
        """The camera, as far as can be told without reading the message; its pictures stay in order."""
        return self.record.headers.get("camera") or self.record.key or self.record.partition

    @property
    def size(self) -> int:
        return len(self.record.value or b"")

    @property
    def ready(self) -> bool:
        return self.outcome is not None and self.future is None


@dataclass(slots=True)
class Waiting:
    """What the intake holds, for `services.health.Health`."""

    records: int = 0
    bytes: int = 0


class Intake:
    """Belongs to the thread of the stream; only decoding is done by others."""

    def __init__(
        self,
        *,
        references: References | None,
        decode: Decode,
        measure: Measure | None,
        clock: Clock,
        options: IntakeOptions,
    ) -> None:
        self._references, self._decode, self._measure, self._clock = references, decode, measure, clock
        self._options = options
        self._fresh: FairQueue[Arrival] = FairQueue()
        self._decoding: list[Arrival] = []
        self._budget = Budget(options.picture_bytes)
        self._pool = ThreadPoolExecutor(options.decode_threads, thread_name_prefix="decode")
        self.waiting = Waiting()
        #: how often a store behind a reference was away
        self.references_away = 0

    def __len__(self) -> int:
        return self.waiting.records

    @property
    def room(self) -> int:
        """How many more records may come."""
        if self.waiting.bytes >= self._options.buffer_bytes:
            return 0
        return max(0, self._options.buffer_records - self.waiting.records)

    @property
    def decoding(self) -> "list[Future[None]]":
        """What the threads are at; nothing that is done and only waits for the model."""
        futures = [arrival.future for arrival in self._decoding if arrival.future is not None]
        return [future for future in futures if not future.done()]

    @property
    def store_away(self) -> bool:
        return any(arrival.again is not None for arrival in self._decoding)

    def add(self, arrival: Arrival) -> None:
        self.waiting.records += 1
        self.waiting.bytes += arrival.size
        self._fresh.put(arrival.line, arrival)

    def drop(self, partitions: Iterable[Partition]) -> list[Place]:
        """Put down what was not begun of these partitions; the places."""
        gone = set(partitions)
        dropped = self._fresh.remove(lambda arrival: arrival.record.place[:2] in gone)
        self._leave(dropped)
        return [arrival.record.place for arrival in dropped]

    def places(self) -> list[Place]:
        """Of everything that waits here."""
        return [arrival.record.place for arrival in (*self._fresh, *self._decoding)]

    def feed(self) -> None:
        """Give the threads what they have room for."""
        now = self._clock.elapsed()
        for arrival in self._decoding:
            if arrival.again is not None and arrival.again <= now:
                self._start(arrival)
        # one batch that is being completed, and one more
        while len(self._fresh) and len(self._decoding) < 2 * self._options.batch_size:
            self._decoding.append(self._fresh.get())
            self._start(self._decoding[-1])

    def next(self, *, partial: bool, at_once: bool = False) -> list[Arrival]:
        """A full batch; or, if `partial`, one whose first record has waited for `linger_s`; may be empty.

        With `at_once` nobody waits for more, because nothing more is let in.
        """
        self._settle()
        ready = self._ready()[: self._options.batch_size]
        full = len(ready) == self._options.batch_size
        if not ready or not (full or (partial and (at_once or self._is_due(ready)))):
            return []
        chosen = set(map(id, ready))
        self._decoding = [arrival for arrival in self._decoding if id(arrival) not in chosen]
        self._leave(ready)
        return ready

    def due_in(self) -> float | None:
        """Seconds until something here should be looked at again, though nobody does anything about it."""
        times = [arrival.again for arrival in self._decoding if arrival.again is not None]
        if ready := self._ready():
            times.append(ready[0].since + self._options.linger_s)
        return max(0.0, min(times) - self._clock.elapsed()) if times else None

    def finished(self, batch: Sequence[Arrival]) -> None:
        """The batch has its rows: its pictures are gone."""
        self._budget.give(sum(arrival.held for arrival in batch))

    def close(self) -> None:
        self._budget.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ready(self) -> list[Arrival]:
        """What may go to the model: decoded, and nothing of the same line before it is not."""
        behind: set[Hashable] = set()
        ready = []
        for arrival in self._decoding:
            if not arrival.ready:
                behind.add(arrival.line)
            elif arrival.line not in behind:
                ready.append(arrival)
        # one that waits for memory must not keep those that would give it back
        return ready or [arrival for arrival in self._decoding if arrival.ready and self._budget.blocked]

    def _is_due(self, ready: Sequence[Arrival]) -> bool:
        # the very sum of `due_in`, or rounding makes the loop wait for nothing, again and again
        return self._clock.elapsed() >= ready[0].since + self._options.linger_s or self._budget.blocked

    def _leave(self, arrivals: Sequence[Arrival]) -> None:
        self.waiting.records -= len(arrivals)
        self.waiting.bytes -= sum(arrival.size for arrival in arrivals)

    def _start(self, arrival: Arrival) -> None:
        if arrival.outcome is None:
            arrival.again = None
            arrival.future = self._pool.submit(self._prepare, arrival)

    def _settle(self) -> None:
        """Look at what the threads have finished."""
        for arrival in self._decoding:
            if arrival.future is None or not arrival.future.done():
                continue
            future, arrival.future = arrival.future, None
            try:
                future.result()
            except Unavailable:
                self.references_away += 1
                arrival.again = self._clock.elapsed() + self._options.reference_retry_s

    def _prepare(self, arrival: Arrival) -> None:
        """In a thread. Raises: Unavailable: the store behind a reference is away; try again."""
        began = time.perf_counter()
        record = arrival.record
        message = read_message(record, self._references, at=self._clock.now(), key_names=self._options.key_names)
        if isinstance(message, DeadLetter):
            arrival.outcome = message
            return
        try:
            if self._measure is not None:
                count = self._measure(message.data)
                self._budget.take(count)
                arrival.held = count
            picture = self._decode(message.data)
            if (spare := arrival.held - picture.nbytes) > 0:
                arrival.held -= spare
                self._budget.give(spare)
            # without the bytes behind a reference, which nobody needs any more; a record keeps its own
            arrival.outcome = Prepared(replace(message, data=b""), picture)
        except Exception as error:  # whatever one picture does to a decoder, the stream goes on
            arrival.outcome = dead_letter(record, "decode", error, at=self._clock.now())
            self._budget.give(arrival.held)
            arrival.held = 0
        arrival.decode_s = time.perf_counter() - began
