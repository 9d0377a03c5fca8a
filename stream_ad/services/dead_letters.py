"""Dead letters as people handle them: one by its name, and sent again once its cause is gone."""

from collections.abc import Callable, Mapping

from stream_ad.domain.message import DeadLetter, Place, Record
from stream_ad.domain.ports import Clock, ResultRepository
from stream_ad.errors import DataError

OURS = ("__connect.errors.", "stream_ad.")
"""Headers that begin so were added by us, or by another that sets records aside."""
RETRY_OF = "stream_ad.retry_of"

SendAgain = Callable[[Record], str]
"""Put a record back where it came from, at its end; says where that is.

Raises: DataError: it cannot be there again; Unavailable: not now.
"""


class DeadLetters:
    def __init__(self, results: ResultRepository, send_again: SendAgain, clock: Clock) -> None:
        self._results, self._send_again, self._clock = results, send_again, clock

    def get(self, place: Place) -> DeadLetter:
        """Raises: DataError: there is none at that place."""
        letter = self._results.dead_letter(place)
        if letter is None:
            raise DataError(
                f"needed the place of a dead letter, got {shown(place)}, where there is none;"
                " `stream-ad dlq list --all` shows them"
            )
        return letter

    def retry(self, place: Place) -> str:
        """Send a letter's record again, without our headers; where it is now.

        It gets a place of its own, and there a result or a dead letter as any other record. The letter stays, and is
        no longer open. A retry that dies between the two steps leaves it open: the next one sends the record twice.

        Raises:
            DataError: there is no such letter, it was sent again before, or it cannot be sent.
            Unavailable: not now.
        """
        letter = self.get(place)
        if letter.retried_at is not None:
            raise DataError(
                f"needed an open dead letter, got {shown(place)}, which was sent again at"
                f" {letter.retried_at:%Y-%m-%d %H:%M:%S} UTC; if that failed too, it has a letter of its own"
            )
        where = self._send_again(as_sent_again(letter.record))
        self._results.retried(place, self._clock.now())
        return where


def as_sent_again(record: Record) -> Record:
    """The record as its sender made it, with a header that says which one it repeats."""
    headers: Mapping[str, bytes] = {
        **{name: value for name, value in record.headers.items() if not name.startswith(OURS)},
        RETRY_OF: shown(record.place).encode(),
    }
    return Record(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=headers,
        timestamp=record.timestamp,
    )


def shown(place: Place) -> str:
    """A place as people write it: topic/partition/offset."""
    return "/".join(map(str, place))


def place_of(text: str) -> Place:
    """The place that was written as topic/partition/offset.

    Raises: DataError: it is none.

    >>> place_of("images/0/17")
    ('images', 0, 17)
    """
    topic, _, numbers = text.strip().rpartition("/")
    topic, _, partition = topic.rpartition("/")
    if not (topic and partition.isdecimal() and numbers.isdecimal()):
        raise DataError(f"needed topic/partition/offset, e.g. images/0/17, got {text!r}; see `stream-ad dlq list`")
    return topic, int(partition), int(numbers)
