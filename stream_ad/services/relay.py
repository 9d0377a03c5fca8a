"""The outbox to the sinks: at least once each, in order, whatever is away.

Every sink has a thread and a wait of its own, so one that is away, or hangs, holds up no other, and none holds up
scoring. What some sinks have while another lacks it is noted in the outbox, so a restart repeats nothing to them.

A message that a sink refuses for good (DataError) is left out for that sink and logged. One that seems to drive a sink
away, time after time, while others pass, is left out as well: it must not keep those behind it for ever.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from datetime import datetime

from stream_ad.domain.message import OutboxMessage
from stream_ad.domain.ports import Clock, ResultRepository, Sink
from stream_ad.errors import Unavailable
from stream_ad.services.post import Outcome, Post, Waiting

log = logging.getLogger(__name__)

AT_ONCE = 100
"""Messages that a sink is given in one go."""
ROUNDS = 100
"""How many times that in one `flush`, so that it ends under any backlog."""


class Relay:
    """Sends what transactions left in the outbox. One thread calls it."""

    def __init__(
        self,
        results: ResultRepository,
        sinks: Sequence[Sink],
        *,
        clock: Clock,
        retry_s: float = 1.0,
        retry_max_s: float = 60.0,
        patience_s: float = 0.5,
    ) -> None:
        """A sink that failed is tried again after `retry_s`, doubled each time up to `retry_max_s`.

        `patience_s` is how long the others wait for a slow one before they go on without it.
        """
        self._results, self._clock, self._patience_s = results, clock, patience_s
        names = Counter[str]()
        self._posts = []
        for sink in sinks:
            names[sink.name] += 1
            name = sink.name if names[sink.name] == 1 else f"{sink.name}-{names[sink.name]}"
            self._posts.append(Post(name, sink, retry_s=retry_s, retry_max_s=retry_max_s))
        # what is known beyond what the outbox says: of rows that a sink is at, and of those that could not be noted
        self._has: dict[int, frozenset[str]] = {}
        self._to_note: set[int] = set()
        self._relays = True
        self._retry_s = retry_s
        self._not_before: float | None = None

    @property
    def away(self) -> Mapping[str, datetime]:
        """Sinks that do not take anything now, and since when."""
        return {post.name: post.away_since for post in self._posts if post.away_since is not None}

    @property
    def left_out(self) -> Mapping[str, int]:
        """By sink, how many messages it will never get."""
        return {post.name: post.left_out for post in self._posts}

    def flush(self, patience_s: float | None = None) -> int:
        """How many messages every sink has now and the outbox no longer; the rest is tried again later.

        With `patience_s` it waits for slow sinks too: at the end, when what they got could not be noted any later.
        """
        count = 0
        if not self._posts or (self._not_before is not None and self._clock.elapsed() < self._not_before):
            return 0
        try:
            if not self._results_are_ours():
                return 0
            count += self._note([post for post in self._posts if post.finished])
            for _ in range(ROUNDS):
                jobs = self._send()
                if not jobs:
                    break
                wait(jobs, timeout=self._patience_s)
                count += self._note([post for post in self._posts if post.finished])
            if patience_s is not None:
                wait([post.job for post in self._posts if post.job is not None], timeout=patience_s)
                count += self._note([post for post in self._posts if post.finished])
        except Unavailable as error:
            log.warning("the outbox could not be read or written, tried again in %g s: %s", self._retry_s, error)
            self._not_before = self._clock.elapsed() + self._retry_s
        return count

    def _results_are_ours(self) -> bool:
        ours = self._results.may_relay()
        if ours != self._relays:
            log.info("this process relays now" if ours else "another process on this database relays")
            self._relays = ours
        return ours

    def _send(self) -> "list[Future[Outcome]]":
        """Give every sink that takes something now what it lacks of the oldest messages."""
        now = self._clock.elapsed()
        takers = [post for post in self._posts if post.may_send(now)]
        for post in self._posts:
            post.behind |= post not in takers
        given = self._rows(takers) if takers else []
        return [job for post, rows in zip(takers, given, strict=True) if (job := post.send(rows)) is not None]

    def _rows(self, posts: Sequence[Post]) -> list[Waiting]:
        """For each sink the oldest messages; it lacks some of them, and none that are older."""
        found, until = dict[int, OutboxMessage](), dict[str, int]()
        for post in posts:
            if post.behind:
                missing = self._results.outbox(AT_ONCE, lacking=post.name)
                found |= missing
                post.behind = len(missing) == AT_ONCE
                if post.behind:
                    until[post.name] = missing[-1][0]
        if not all(post.behind for post in posts):
            found |= self._results.outbox(AT_ONCE, untouched=True)
        rows = [(row, self._known(row, message)) for row, message in sorted(found.items(), key=lambda item: item[0])]
        return [[(row, m) for row, m in rows if row <= until.get(post.name, row)] for post in posts]

    def _known(self, row: int, message: OutboxMessage) -> OutboxMessage:
        has = self._has.get(row, frozenset()) | message.has
        self._has[row] = has
        return message if has == message.has else replace(message, has=has)

    def _note(self, posts: Sequence[Post]) -> int:
        """Write down what these sinks have got; how many messages all have."""
        for post in posts:
            for row in post.collect(self._clock):
                self._has[row] = self._has.get(row, frozenset()) | {post.name}
                self._to_note.add(row)
        everyone = frozenset(post.name for post in self._posts)
        complete = [row for row in sorted(self._to_note) if self._has[row] >= everyone]
        if complete:
            self._results.relayed(complete)
        self._to_note.difference_update(complete)
        if self._to_note:
            self._results.partly_relayed({row: self._has[row] for row in sorted(self._to_note)})
        self._to_note.clear()
        under_way = set[int]().union(*(post.rows for post in self._posts))
        self._has = {row: has for row, has in self._has.items() if row in under_way}
        return len(complete)
