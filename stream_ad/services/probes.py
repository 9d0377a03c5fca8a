"""Whether a scorer is alive, and whether it is ready: the two questions that a supervisor asks.

*Alive* is about this process alone: what is not alive is killed and started again, which helps against a loop that
hangs and never against a broker that is down. *Ready* is about doing its work now. Both answer with what is wrong, in
words for whoever is on call; nothing is wrong when nothing is said.
"""

from collections.abc import Callable
from datetime import datetime

from stream_ad.errors import StreamAdError
from stream_ad.services.health import Health


def not_alive(health: Health, *, now: datetime, stuck_s: float) -> list[str]:
    """Why a stream should be started again.

    `stuck_s`: longest time, in seconds, that the loop may stand still and that the model may take for a batch.
    Waiting for what is away (broker, database, disk) goes round the loop and is alive.
    """
    wrong = []
    if (still_s := (now - health.ticked_at).total_seconds()) > stuck_s:
        wrong.append(f"the loop last went round {still_s:.0f} s ago, needed at most {stuck_s:g} s")
    if health.batch_since is not None and (busy_s := (now - health.batch_since).total_seconds()) > stuck_s:
        wrong.append(f"the model has worked on one batch for {busy_s:.0f} s, needed at most {stuck_s:g} s")
    return wrong


def not_ready(health: Health | None, *, stopping: bool, ask_database: Callable[[], object]) -> list[str]:
    """Why a stream cannot score now: no bank yet, no database, no room on the disk, or it was asked to stop.

    A broker that is away is not among them: no traffic is sent here that could go elsewhere.
    """
    wrong = []
    if health is None:
        wrong.append("the bank is not loaded yet")
    if stopping or (health is not None and health.draining):
        wrong.append("it was asked to stop and finishes what it has in hand")
    if health is not None and health.waiting_for == "database":
        wrong.append("the database is away and waited for")
    if health is not None and health.waiting_for == "disk":
        wrong.append("the disk is too full to take more in (stream.min_free_mb)")
    try:
        ask_database()
    except StreamAdError as error:
        wrong.append(str(error))
    return wrong


def worker_not_alive(*, ticked_at: datetime, busy_since: datetime | None, now: datetime, stuck_s: float) -> list[str]:
    """Why a worker should be started again. A job may take as long as it takes: its lease watches over it."""
    still_s = (now - ticked_at).total_seconds()
    if busy_since is None and still_s > stuck_s:
        return [f"the worker last looked for a job {still_s:.0f} s ago, needed at most {stuck_s:g} s"]
    return []


def worker_not_ready(*, stopping: bool, ask_database: Callable[[], object]) -> list[str]:
    """Why a worker can take no job now."""
    wrong = ["it was asked to stop"] if stopping else []
    try:
        ask_database()
    except StreamAdError as error:
        wrong.append(str(error))
    return wrong


def scheduler_not_alive(*, ticked_at: datetime, now: datetime, stuck_s: float) -> list[str]:
    """Why a scheduler should be started again. Duties may take as long as they take."""
    if (still_s := (now - ticked_at).total_seconds()) > stuck_s:
        return [f"the scheduler last went round {still_s:.0f} s ago, needed at most {stuck_s:g} s"]
    return []
