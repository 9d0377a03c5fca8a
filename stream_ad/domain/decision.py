"""What the gate said of a candidate bank, and who overrides it, as values that are kept with the job."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from stream_ad.domain.task import TaskId


class Rule(StrEnum):
    """What a candidate can be refused for."""

    AUROC = "auroc"  # an old task separates good from defective worse
    FLIPS = "flips"  # too many verdicts on an old task change
    ROUTING = "routing"  # pictures of an old task newly go to another product
    FALSE_ALARMS = "false alarms"  # good parts of an old task newly raise an alarm
    HIDDEN = "hidden defects"  # a patch: defects that raised an alarm are called OK
    RECOGNISED = "recognised"  # the task that was learned is not recognised
    MEASURED = "measured"  # not measured, or not comparably: never counts as passed


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange:
    """What a candidate does to one task of the bank in use, on its regression half. NaN: not measured."""

    #: routed image AUROC with the bank in use, with the candidate, and the best of any published bank
    auroc_before: float
    auroc_after: float
    auroc_best: float
    #: standard error of the loss on these pictures: less than twice as much may be chance
    auroc_error: float = math.nan
    #: verdicts that differ, and those among them that were right before
    flips: int
    harmful_flips: int
    #: defective pictures that raised an alarm before and are called OK now
    hidden_defects: int
    #: pictures that go to another product, more than before; negative: fewer
    routing_loss: int
    #: to which product those go that went to the right one before
    taken_by: Mapping[str, int]
    #: good pictures that raise an alarm, more than before; negative: fewer
    new_false_alarms: int
    n_images: int
    n_normal: int

    @property
    def auroc_loss(self) -> float:
        """Against the bank in use. Negative: a gain."""
        return self.auroc_before - self.auroc_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One budget that a candidate exceeds: whose, which, by how much."""

    task: TaskId
    rule: Rule
    #: what was measured and what is allowed: AUROC lost, or pictures; of `MEASURED` those that say nothing, NaN: there
    #: are none at all, or it was kept by an older version
    amount: float
    allowed: float
    #: the same as a person reads it
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """Passed exactly when nothing is breached."""

    breaches: tuple[Breach, ...] = ()
    changes: Mapping[TaskId, TaskChange] = field(default_factory=dict)
    #: what an operator should know although it decided nothing
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.breaches

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not, in sentences."""
        return tuple(breach.sentence for breach in self.breaches)

    def beyond(self, accepted: "GateDecision") -> tuple[Breach, ...]:
        """Breaches that whoever accepted the other decision did not see, or not as large."""
        seen = {(breach.task, breach.rule): breach.amount for breach in accepted.breaches}
        return tuple(
            breach
            for breach in self.breaches
            # a breach without a number is seen or not; a comparison with NaN is false
            if (breach.task, breach.rule) not in seen or breach.amount > seen[breach.task, breach.rule] + 1e-9
        )

    def as_json(self) -> dict[str, Any]:
        """For keeping; `of_json` reads it. Not measured (NaN) is null."""
        return {
            "passed": self.passed,
            "breaches": [_plain(breach) for breach in self.breaches],
            "changes": {task: _plain(change) for task, change in self.changes.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> "GateDecision":
        """What `as_json` wrote; of what a newer version added, nothing is taken."""
        return cls(
            breaches=tuple(
                Breach(**{**_measured(Breach, row), "task": TaskId(row["task"]), "rule": Rule(row["rule"])})
                for row in kept["breaches"]
            ),
            changes={
                TaskId(task): TaskChange(**_measured(TaskChange, change)) for task, change in kept["changes"].items()
            },
            notes=tuple(kept["notes"]),
        )


def _plain(value: Breach | TaskChange) -> dict[str, Any]:
    fields = dataclasses.asdict(value)
    return {name: None if isinstance(got, float) and math.isnan(got) else got for name, got in fields.items()}


def _measured(kind: type[Breach] | type[TaskChange], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of the kind; a whole number that JSON gave back as such stays a number of its kind."""
    taken = {}
    for each in dataclasses.fields(kind):
        if each.name not in kept:  # written before there was such a field
            continue
        value = kept[each.name]
        if each.type is float:
            value = math.nan if value is None else float(value)
        taken[each.name] = value
    return taken


#: where a job's checkpoint keeps what the gate said of its last candidate, and who overrides that
GATE, OVERRIDE = "gate", "override"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the gate said of one candidate, and which candidate that was."""

    decision: GateDecision
    #: the number that the candidate had or would have had, and the bank in use from which it was made
    version: int
    made_from: int
    #: hashes of its entries that the bank in use has not
    entries: Mapping[TaskId, str]
    #: by name: the limits in force
    budgets: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return {
            **self.decision.as_json(),
            "version": self.version,
            "made_from": self.made_from,
            "entries": dict(self.entries),
            "budgets": dict(self.budgets),
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> "Judgement":
        return cls(
            decision=GateDecision.of_json(kept),
            version=kept["version"],
            made_from=kept["made_from"],
            entries={TaskId(task): sha256 for task, sha256 in kept["entries"].items()},
            budgets=dict(kept["budgets"]),
        )

    @classmethod
    def of_checkpoint(cls, checkpoint: Mapping[str, Any]) -> "Judgement | None":
        """Of a job's last candidate; None: the gate has not judged any."""
        kept = checkpoint.get(GATE)
        return None if kept is None else cls.of_json(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A person takes a candidate on although the gate refused it."""

    who: str
    reason: str
    at: datetime
    #: what they had before them: they accept that harm by those entries, and no more
    accepted: Judgement

    def as_json(self) -> dict[str, Any]:
        at = self.at.isoformat()
        return {"who": self.who, "reason": self.reason, "at": at, "accepted": self.accepted.as_json()}

    @classmethod
    def of_checkpoint(cls, checkpoint: Mapping[str, Any]) -> "Override | None":
        """Of a job; None: nobody overrides the gate for it."""
        kept = checkpoint.get(OVERRIDE)
        if kept is None:
            return None
        return cls(
            who=kept["who"],
            reason=kept["reason"],
            at=datetime.fromisoformat(kept["at"]),
            accepted=Judgement.of_json(kept["accepted"]),
        )

    def uncovered(self, judged: Judgement) -> str | None:
        """Why it does not cover this candidate; None: it does."""
        other = [task for task, sha256 in judged.entries.items() if self.accepted.entries.get(task) != sha256]
        if other:
            return (
                f"what was learned of {', '.join(other)} is not what {self.who} overrode the gate for: pictures,"
                " settings, the program or the bank in use have changed since"
            )
        more = judged.decision.beyond(self.accepted.decision)
        if more:
            hurt = ", ".join(dict.fromkeys(breach.task for breach in more))
            return f"{self.who} overrode the gate for less: {hurt} would be hurt more than was known then"
        return None
