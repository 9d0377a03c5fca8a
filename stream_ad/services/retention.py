"""Deletes what is older or more than allowed: the oldest first, a bounded piece at a time, while scorers run."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from stream_ad.domain.ports import Clock
from stream_ad.domain.retention import Kept, Pruned
from stream_ad.errors import DatabaseError, Unavailable

log = logging.getLogger(__name__)

#: of one kind, in one sweep: a few seconds of work
PIECE = 2_000


@dataclass(frozen=True, slots=True)
class Rule:
    kept: Kept
    days: float | None = None
    most: float | None = None


class Retention:
    """All rules together."""

    def __init__(self, rules: Sequence[Rule], clock: Clock) -> None:
        self._rules = [rule for rule in rules if rule.days is not None or rule.most is not None]
        self._clock = clock

    def __bool__(self) -> bool:
        """Whether anything has a bound."""
        return bool(self._rules)

    def sweep(self, *, limit: int = PIECE, dry_run: bool = False) -> list[Pruned]:
        """One piece of every kind. What is away is left for the next sweep, with a warning."""
        now = self._clock.now()
        pruned = []
        for rule in self._rules:
            before = None if rule.days is None else now - timedelta(days=rule.days)
            try:
                pruned.append(rule.kept.prune(before=before, most=rule.most, limit=limit, dry_run=dry_run))
            except (Unavailable, DatabaseError, OSError) as error:
                log.warning("old %s are not deleted now: %s", rule.kept.name, error)
        return pruned

    def keep_sweeping(self, stop: threading.Event, *, every_s: float) -> None:
        """Sweep until `stop`: at once while there is more, else every so often."""
        while not stop.is_set():
            pruned = self.sweep()
            for one in pruned:
                if one.count:
                    log.info("deleted %d %s, %.1f MB", one.count, one.name, one.bytes / 1e6)
            # even with more to do, most of the time belongs to the scorer
            stop.wait(min(1.0, every_s) if any(one.more for one in pruned) else every_s)
