"""Records in batches, their pictures decoded by threads while the model still works on the batch before."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TypeVar

from stream_ad.domain.images import Picture
from stream_ad.domain.message import DeadLetter, ImageMessage, Record
from stream_ad.domain.ports import Clock, Source
from stream_ad.errors import Unavailable
from stream_ad.services.messages import References, dead_letter, read_message

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

Decode = Callable[[bytes], Picture]
"""The picture in encoded bytes. Raises: UndecodableImage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeOptions:
    #: pictures that are scored together at most
    batch_size: int = 8
    #: how long a batch that is not full waits for more, from its first record on
    linger_s: float = 0.05
    #: how long to wait for a first record
    poll_timeout_s: float = 0.5
    decode_threads: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A message with its picture."""

    message: ImageMessage
    picture: Picture


@dataclass(slots=True, eq=False)
class Arrival:
    """A record on its way to the model; `outcome` waits until it is decoded."""

    record: Record
    at: datetime
    _submit: Callable[[], "Future[Prepared | DeadLetter]"]
    _future: "Future[Prepared | DeadLetter]"

    def outcome(self) -> Prepared | DeadLetter:
        """Raises: Unavailable: the store behind a reference is away; the next call tries again."""
        try:
            return self._future.result()
        except Unavailable:
            self._future = self._submit()
            raise


class Intake:
    """Takes from a source at most one batch more than is being worked on. Use as a context manager."""

    def __init__(
        self, source: Source, *, references: References | None, decode: Decode, clock: Clock, options: IntakeOptions
    ) -> None:
        self._source, self._references, self._decode, self._clock = source, references, decode, clock
        self._options = options
        self._waiting: list[Arrival] = []
        self._pool = ThreadPoolExecutor(options.decode_threads, thread_name_prefix="decode")

    def __enter__(self) -> "Intake":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def next(self) -> list[Arrival]:
        """The next batch: full, or as much as came until its first record had waited `linger_s`; may be empty.

        Raises:
            Unavailable: the source is away; nothing that was taken is lost.
        """
        options = self._options
        if not self._waiting:
            self._take(options.poll_timeout_s)
        while self._waiting and (room := options.batch_size - len(self._waiting)) > 0:
            waited_s = (self._clock.now() - self._waiting[0].at).total_seconds()
            self._take(max(0.0, options.linger_s - waited_s))
            if options.batch_size - len(self._waiting) == room:  # none came in time
                break
        batch, self._waiting = self._waiting, []
        return batch

    def ahead(self) -> None:
        """Begin with what is there already for the next batch, without waiting."""
        try:
            self._take(0.0)
        except Unavailable as error:  # `next` will meet it again
            log.info("nothing taken ahead: %s", error)

    def hold(self) -> None:
        """Take nothing more but stay a member of the consumer group; call often until `release`."""
        self._source.pause()
        with contextlib.suppress(Unavailable):
            self._accept(self._source.poll(1, 0.0))

    def release(self) -> None:
        self._source.resume()

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The function of each item, computed by the same threads."""
        return list(self._pool.map(function, items))

    def _take(self, timeout_s: float) -> None:
        room = self._options.batch_size - len(self._waiting)
        if room > 0:
            self._accept(self._source.poll(room, timeout_s))

    def _accept(self, records: Sequence[Record]) -> None:
        for record in records:
            at = self._clock.now()

            def submit(record: Record = record) -> "Future[Prepared | DeadLetter]":
                return self._pool.submit(self._prepare, record)

            self._waiting.append(Arrival(record, at, submit, submit()))

    def _prepare(self, record: Record) -> Prepared | DeadLetter:
        message = read_message(record, self._references, at=self._clock.now())
        if isinstance(message, DeadLetter):
            return message
        try:
            return Prepared(message, self._decode(message.data))
        except Exception as error:  # whatever one picture does to a decoder, the stream goes on
            return dead_letter(record, "decode", error, at=self._clock.now())
