"""How far each partition may be committed, when its records are done in another order than they came."""

from datetime import datetime

from stream_ad.domain.message import Place, Record

Partition = tuple[str, int]


class Watermark:
    """Per partition, the offset after an unbroken run of done records. Belongs to one thread.

    >>> def record(offset):
    ...     return Record(topic="images", partition=0, offset=offset, key=None, value=None)
    >>> watermark = Watermark()
    >>> [watermark.take(record(offset)) for offset in (7, 8, 9)]
    [True, True, True]
    >>> watermark.done(("images", 0, 8))
    >>> watermark.committable()
    {}
    >>> watermark.done(("images", 0, 7))
    >>> watermark.committable()
    {('images', 0): 9}
    """

    def __init__(self) -> None:
        # offsets in hand in the order in which they came, each with its record's time and whether it is done
        self._in_hand: dict[Partition, dict[int, tuple[datetime | None, bool]]] = {}
        self._reached: dict[Partition, int] = {}

    def take(self, record: Record) -> bool:
        """Note a record that came. False: it is in hand already, so this is a repeat to be dropped.

        Another record at the same offset (its topic was made anew) is no repeat.
        """
        in_hand = self._in_hand.setdefault((record.topic, record.partition), {})
        known = in_hand.get(record.offset)
        if known is not None and known[0] == record.timestamp:
            return False
        in_hand.pop(record.offset, None)
        in_hand[record.offset] = (record.timestamp, False)
        return True

    def done(self, place: Place) -> None:
        """Note that a record has its row. One of a forgotten partition is nobody's business any more."""
        topic, partition, offset = place
        in_hand = self._in_hand.get((topic, partition), {})
        if offset not in in_hand:
            return
        in_hand[offset] = (in_hand[offset][0], True)
        while in_hand and next(iter(in_hand.values()))[1]:
            first = next(iter(in_hand))
            del in_hand[first]
            self._reached[topic, partition] = first + 1

    def committable(self) -> dict[Partition, int]:
        """What moved and was not yet committed: per partition the offset after the last one done."""
        return dict(self._reached)

    def committed(self, up_to: dict[Partition, int]) -> None:
        self._reached = {place: offset for place, offset in self._reached.items() if up_to.get(place) != offset}

    def forget(self, partition: Partition) -> None:
        """The partition is another consumer's: committing what we did of it could undo what that one does."""
        self._in_hand.pop(partition, None)
        self._reached.pop(partition, None)
