"""Reads everything that is stored by its hash, and says what is not what it was."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from stream_ad.domain.duty import Found
from stream_ad.domain.ports import Clock
from stream_ad.domain.stored import Stored, Wrong

log = logging.getLogger(__name__)

ACTION = "found damaged"
#: how many of the latest audit rows are searched for the same finding
LOOK_BACK = 1_000
#: how many places a sentence names
NAMED = 5


@runtime_checkable
class Audit(Protocol):
    """`adapters.repositories.SqlAuditRepository`."""

    def write(self, *, at: Any, who: str, action: str, subject: str, reason: str, details: Any) -> None: ...

    def recent(self, limit: int) -> list[Any]: ...


def verify(
    kinds: Sequence[Stored], audit: Audit, clock: Clock, still: Callable[[], None], *, who: str = "scheduler"
) -> Found:
    """Every stored thing against its hash. Each one found wrong is logged, and written to the audit table once."""
    checked = 0
    wrong: list[Wrong] = []
    for kind in kinds:
        for one in kind.check():
            still()
            checked += 1
            if one is not None:
                log.error("%s: %s: %s", kind.name, one.place, one.what)
                wrong.append(one)
    known = {(row["subject"], row["reason"]) for row in audit.recent(LOOK_BACK) if row["action"] == ACTION}
    for one in wrong:
        if (one.place, one.what) not in known:
            audit.write(
                at=clock.now(),
                who=who,
                action=ACTION,
                subject=one.place,
                reason=one.what,
                details={"missing": one.missing},
            )
    missing = sum(one.missing for one in wrong)
    text = f"{checked} stored things are what they were"
    if wrong:
        named = "; ".join(f"{one.place}: {one.what}" for one in wrong[:NAMED])
        more = f"; and {len(wrong) - NAMED} more, see the log" if len(wrong) > NAMED else ""
        text = f"{len(wrong)} of {checked} stored things are not what they were: {named}{more}"
    return Found(text, {"checked": checked, "damaged": len(wrong) - missing, "missing": missing})
