"""What grows, and how it is kept within bounds."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one sweep deleted of one kind, or with a dry run would."""

    name: str
    count: int
    bytes: int = 0
    #: whether it stopped at its limit, so that another sweep finds more
    more: bool = False


@runtime_checkable
class Kept(Protocol):
    """Something that grows: old files, old rows."""

    name: str

    def prune(self, *, before: datetime | None, most: float | None, limit: int, dry_run: bool) -> Pruned:
        """Delete what is older than `before`, and the oldest of what is beyond `most`; at most `limit` of them.

        `most` is in the unit that the class names; None: no such bound. What is still needed is never deleted.

        Raises:
            Unavailable: its place is away; later again.
        """
        ...
