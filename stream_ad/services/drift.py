"""Watches whether a task's results still look as they did, and proposes to adapt it again when they do not.

Alarms are compared with what the task's calibration promised, scores and margins with the first window of results that
its entry gave. A margin tells how the features of the whole picture lie among the products. A share of defective parts,
as settings allow, is no drift; unknown products are left to discovery.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stream_ad.domain.bank import BankEntry, conformal_rank
from stream_ad.domain.drift import DriftRepository, DriftState, Window
from stream_ad.domain.duty import Found
from stream_ad.domain.ports import Clock, EntryStore
from stream_ad.domain.proposal import ProposalState
from stream_ad.domain.task import TaskId
from stream_ad.functional.drift import Promise, level, signals

log = logging.getLogger(__name__)

#: windows of one task in one go; a long backlog takes several
AT_ONCE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftOptions:
    #: results compared at once
    window: int = 200
    #: how many windows in a row must show the same before it counts
    windows_in_a_row: int = 2
    #: probability that a task whose good parts stay as they are is ever proposed, however long it runs
    error_rate: float = 0.01
    #: share of a window that may be defective parts without being drift
    defective: float = 0.1


class DriftWatch:
    """Compares what came since the last time. One process at a time calls it; two at once do no harm."""

    def __init__(
        self, drift: DriftRepository, entries: EntryStore, clock: Clock, options: DriftOptions | None = None
    ) -> None:
        self._drift, self._entries, self._clock = drift, entries, clock
        self._options = options or DriftOptions()

    def look(self, still: Callable[[], None]) -> Found:
        """Compare every whole window of every task of the active bank; what was found."""
        states = self._drift.states()
        compared, drifting, proposed = 0, [], []
        for task, sha256 in self._drift.entries().items():
            still()
            state = self._state(task, sha256, states.get(task))
            for _ in range(AT_ONCE):
                still()
                window = self._drift.window(task, sha256, state.seen_until, self._clock.now(), self._options.window)
                if window is None:
                    break
                state = self._compared(self._entries.get(sha256), state, window)
                self._drift.save(state)
                compared += 1
            if seen := drifted(state, self._options.windows_in_a_row):
                drifting.append(task)
                if self._propose(state, seen):
                    proposed.append(task)
        text = f"{compared} windows compared"
        if drifting:
            text += f"; no longer as they were: {', '.join(drifting)}"
        if proposed:
            text += f"; proposed to adapt again: {', '.join(proposed)}"
        return Found(text, {"windows": compared, "drifting": len(drifting), "proposed": len(proposed)})

    def _state(self, task: TaskId, sha256: str, state: DriftState | None) -> DriftState:
        """Where the comparison of this entry stands."""
        now = self._clock.now()
        if state is None or state.entry_sha256 != sha256:
            since = self._drift.since(task, sha256)
            return DriftState(task=task, entry_sha256=sha256, seen_until=since, updated_at=now)
        last = self._drift.last_proposal(task)
        if (
            last is not None
            and last.state is ProposalState.REJECTED
            and last.decided_at is not None
            and last.decided_at > state.updated_at
        ):
            # a person said that it may look like this: from here on this is how it looks. Its chances go on counting
            return replace(
                state, first={}, streaks={}, calibrated=False, seen_until=last.decided_at, latest={}, updated_at=now
            )
        return state

    def _compared(self, entry: BankEntry, state: DriftState, window: Window) -> DriftState:
        values = {"scores": window.scores, "margins": window.margins}
        number = state.windows + 1
        found = signals(
            values,
            state.first or None,
            promise_of(entry) if state.calibrated else None,
            strays=self._options.defective,
        )
        bound = level(number, self._options.error_rate)
        streaks = {name: state.streaks.get(name, 0) + 1 for name, signal in found.items() if signal.p <= bound}
        latest: dict[str, Any] = {
            "from": window.first_at,
            "to": window.last_at,
            "results": len(window.scores),
            "ng": window.ng,
            "median score": float(np.median(window.scores)),
            "threshold": entry.threshold,
            "counts below": bound,
            "signals": {name: {"p": signal.p, "distance": signal.distance} for name, signal in found.items()},
        }
        return replace(
            state,
            seen_until=window.last_at,
            windows=number,
            first=state.first or values,
            streaks=streaks,
            latest=latest,
            updated_at=self._clock.now(),
        )

    def _propose(self, state: DriftState, seen: dict[str, int]) -> bool:
        last = self._drift.last_proposal(state.task)
        if last is not None and last.decided_at is not None and last.decided_at > state.updated_at:
            return False  # decided on what is known; what comes now is news
        reason = sentence(state, seen)
        made = self._drift.propose(
            state.task,
            reason,
            {"entry": state.entry_sha256, "windows": state.windows, **state.latest},
            int(state.latest["results"]),
            self._clock.now(),
        )
        if made:
            log.warning("task %s: %s; see `stream-ad tasks proposals`", state.task, reason)
        return made


def promise_of(entry: BankEntry) -> Promise:
    """What the entry's threshold promises."""
    n = len(entry.calibration.scores)
    return Promise(entry.threshold, min(conformal_rank(n, entry.task.false_alarm_rate), n), n)


def drifted(state: DriftState, windows_in_a_row: int) -> dict[str, int]:
    """The signals that lasted long enough, with how many windows; empty: it looks as it did."""
    return {name: streak for name, streak in state.streaks.items() if streak >= windows_in_a_row}


def sentence(state: DriftState, seen: dict[str, int]) -> str:
    """Why, for whoever decides."""
    words = {
        "alarms above promise": "more alarms than calibration promised",
        "scores rise": "scores are higher than at first",
        "scores fall": "scores are lower than at first",
        "margins rise": "pictures lie farther from other products than at first",
        "margins fall": "pictures lie closer to other products than at first",
    }
    said = [f"{words[name]} (chance {state.latest['signals'][name]['p']:.1g})" for name in seen]
    return (
        f"{'; '.join(said)}; in {max(seen.values())} windows in a row, the last of {state.latest['results']} results"
        f" to {state.seen_until:%Y-%m-%d %H:%M} UTC, {state.latest['ng']:.0%} of them NG"
    )
