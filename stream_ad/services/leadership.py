"""One leader among any number of processes, by a lease in the database.

No two clocks are compared, and no time of day at all: the leader prolongs the lease by raising its beat, and another
takes it over when the beat has stood still for `lease_s` on its own clock for waits. The leader stops itself a quarter
of that earlier, counted from before it asked. So somebody may set the time of day anywhere, and nothing happens.

A process that slept with its machine may think for a moment that it still leads; `confirmed` asks the database.
"""

import logging
import os
import socket
import threading
import uuid
from datetime import timedelta

from stream_ad.domain.duty import Lease, LeaseRepository
from stream_ad.domain.ports import Clock
from stream_ad.errors import LeadershipLost

log = logging.getLogger(__name__)

#: share of the lease after which a leader that could not prolong it stops
STOPS_AFTER = 0.75
#: how often within a lease it is prolonged
BEATS = 5


def holder_name() -> str:
    """This process, unlike any other that ever was."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Leadership:
    """One process that would lead. `seek` is called by one thread, everything else by any.

    Raises, from `seek`, `confirmed` and `resign`:
        Unavailable, DatabaseError: the database is away; an earlier lease goes on until it is over.
    """

    def __init__(
        self, leases: LeaseRepository, clock: Clock, *, name: str, lease_s: float, holder: str | None = None
    ) -> None:
        self.holder = holder or holder_name()
        self._leases, self._clock, self._name, self._lease_s = leases, clock, name, lease_s
        self._one_at_a_time = threading.Lock()
        self._mine: Lease | None = None
        self._good_until = clock.elapsed()
        #: what was last seen of another's lease, and since when it is like that
        self._seen: Lease | None = None
        self._seen_since = clock.elapsed()

    @property
    def every_s(self) -> float:
        """How often to `seek`."""
        return self._lease_s / BEATS

    @property
    def leads(self) -> bool:
        """Whether this process leads, without asking anybody."""
        return self._mine is not None and self._clock.elapsed() < self._good_until

    @property
    def leader(self) -> str | None:
        """Who leads, as far as was seen; None: nobody."""
        known = self._mine or self._seen
        return known.holder if known else None

    def check(self) -> None:
        """Raises: LeadershipLost: this process does not lead any more."""
        if not self.leads:
            raise LeadershipLost("another scheduler leads now, or the database is away; the leader does it again")

    def seek(self) -> bool:
        """Prolong the lease, or take one that is over; whether this process leads now."""
        with self._one_at_a_time:
            asked_at = self._clock.elapsed()
            if self._mine is not None:
                return self._prolong(self._mine, asked_at)
            there = self._leases.read(self._name)
            if there is not None and there.holder != self.holder:
                if self._seen is None or (there.holder, there.beat) != (self._seen.holder, self._seen.beat):
                    # counted from after the answer: the leader counts from before it asked
                    self._seen, self._seen_since = there, self._clock.elapsed()
                    return False
                if asked_at - self._seen_since < self._lease_s:
                    return False
                log.warning("%s has been silent for %g s; taking over", there.holder, self._lease_s)
            return self._take(there, asked_at)

    def confirmed(self) -> bool:
        """Whether this process leads, as the database sees it; prolongs the lease."""
        return self.leads and self.seek()

    def resign(self) -> None:
        """Lead no more; another may at once."""
        with self._one_at_a_time:
            mine, self._mine = self._mine, None
            if mine is not None:
                self._leases.drop(mine)

    def _prolong(self, mine: Lease, asked_at: float) -> bool:
        if self._take(mine, asked_at):
            return True
        there = self._leases.read(self._name)
        if there is not None and there.holder == self.holder:  # an answer was lost, the change was not
            return self._take(there, asked_at)
        log.warning("%s leads now", there.holder if there else "nobody")
        self._seen, self._seen_since = there, self._clock.elapsed()
        return False

    def _take(self, seen: Lease | None, asked_at: float) -> bool:
        until = self._clock.now() + timedelta(seconds=self._lease_s)
        taken = self._leases.take(self._name, self.holder, seen=seen, until=until)
        self._mine = taken
        if taken is not None:
            self._good_until = asked_at + STOPS_AFTER * self._lease_s
        return taken is not None
