"""May a candidate bank be published? Pure: two evaluations of the same held-out pictures in, a decision out.

Budgets are shares, counted in pictures: of 150 pictures a budget of 2 % allows 3. Regression halves are often small,
so a budget above 0 always allows *one* picture: of 20 pictures one is 5 %, and refusing a product line because of one
borderline picture would make the gate a lottery. It is not a loophole: when that picture also ranks worse, AUROC
falls and the first rule refuses. A budget of 0 allows none.

Nothing that was not measured counts as passed. Two exceptions are said aloud in `notes`: without defects on both sides
there is no AUROC to lose (verdicts, false alarms and routing decide then), and without normal pictures no false alarm.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stream_ad.domain.evaluation import ImageOutcome, TaskEvaluation
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class GateBudgets:
    """How much a candidate may cost what was learned before. All are shares, 0 to 1.

    Raises:
        ConfigError: one is not in [0, 1].
    """

    #: routed image AUROC that a task may lose against the best bank published so far
    max_forgetting: float = 0.01
    #: share of a task's held-out pictures whose verdict may change
    max_flips: float = 0.02
    #: share of a task's held-out pictures that may newly go to another product
    max_routing_loss: float = 0.01
    #: share of a task's good held-out pictures that may newly be alarms
    max_false_alarm_rise: float = 0.02
    #: share of the new task's own held-out pictures that must be recognised as it
    min_routing_accuracy: float = 0.9

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ConfigError(f"gate.{name} is a share between 0 and 1, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange:
    """What a candidate does to one old task. Negative losses are gains; NaN: not measured."""

    auroc_loss: float
    flips: int
    routing_loss: int
    new_false_alarms: int
    n_images: int
    n_normal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """`reasons` says in sentences why not; empty exactly when `passed`."""

    passed: bool
    reasons: tuple[str, ...]
    changes: Mapping[TaskId, TaskChange] = field(default_factory=dict)
    #: what an operator should know although it decided nothing
    notes: tuple[str, ...] = ()


def decide(
    before: Mapping[TaskId, TaskEvaluation],
    after: Mapping[TaskId, TaskEvaluation],
    learned: TaskId | None,
    budgets: GateBudgets,
    *,
    best_auroc: Mapping[TaskId, float] | None = None,
) -> GateDecision:
    """Whether the bank measured as `after` may replace the one measured as `before`.

    `best_auroc` is each old task's best routed image AUROC of any published bank: measured against it, many small
    losses cannot add up unseen (CMPMB Eq. 17 takes the same maximum). Tasks of `before` are old, except `learned`,
    which is judged by how it is recognised; None: the candidate has no new task.
    """
    reasons: list[str] = []
    notes: list[str] = []
    changes = {}
    for task, old in before.items():
        if task == learned:
            continue
        new = after.get(task)
        missing = f"{task}: not measured on the candidate, so nothing says that it was not forgotten"
        if new is None or not new.outcomes:
            reasons.append(missing)
            continue
        pairs = _pairs(old.outcomes, new.outcomes)
        if pairs is None:
            reasons.append(
                f"{task}: measured on other pictures than before ({len(new.outcomes)} now, {len(old.outcomes)} then);"
                " only the same pictures can be compared"
            )
            continue
        best = (best_auroc or {}).get(task, math.nan)
        changes[task] = change = _change(old, new, pairs)
        reasons += _forgotten(task, old, new, best, budgets.max_forgetting)
        reasons += _budgets_exceeded(task, change, pairs, budgets)
        notes += _unmeasured(task, old, new, change)
    for task in sorted(after.keys() - before.keys() - ({learned} if learned else set())):
        reasons.append(f"{task}: not measured on the present bank, so there is nothing to compare with")
    if learned is not None:
        reasons += _recognised(after.get(learned), learned, budgets.min_routing_accuracy)
        notes += _about_new(after.get(learned))
    return GateDecision(passed=not reasons, reasons=tuple(reasons), changes=changes, notes=tuple(notes))


Pairs = Sequence[tuple[ImageOutcome, ImageOutcome]]


def _pairs(old: Sequence[ImageOutcome], new: Sequence[ImageOutcome]) -> Pairs | None:
    """The same pictures before and after; None when they are not the same."""
    then, now = {o.image_id: o for o in old}, {o.image_id: o for o in new}
    return [(then[id], now[id]) for id in then] if then.keys() == now.keys() else None


def _change(old: TaskEvaluation, new: TaskEvaluation, pairs: Pairs) -> TaskChange:
    normal = [(then, now) for then, now in pairs if not then.defective]
    return TaskChange(
        auroc_loss=_auroc(old) - _auroc(new),
        flips=sum(then.routed_verdict != now.routed_verdict for then, now in pairs),
        routing_loss=_misrouted(now for _, now in pairs) - _misrouted(then for then, _ in pairs),
        new_false_alarms=_alarms(now for _, now in normal) - _alarms(then for then, _ in normal),
        n_images=len(pairs),
        n_normal=len(normal),
    )


def _forgotten(task: TaskId, old: TaskEvaluation, new: TaskEvaluation, best: float, budget: float) -> list[str]:
    was, now = _auroc(old), _auroc(new)
    if math.isnan(was):
        return []
    if math.isnan(now):
        return [f"{task}: image AUROC was {was:.3f} and could not be measured on the candidate"]
    reference = was if math.isnan(best) else max(was, best)
    # a candidate that itself loses nothing is not refused for what an earlier one lost
    if now >= was or reference - now <= budget + 1e-9:
        return []
    since = f" (the best bank so far had {reference:.3f})" if reference > was else ""
    return [
        f"{task}: image AUROC falls from {was:.3f} to {now:.3f}{since}, a loss of {reference - now:.3f};"
        f" at most {budget:g} allowed"
    ]


def _budgets_exceeded(task: TaskId, change: TaskChange, pairs: Pairs, budgets: GateBudgets) -> list[str]:
    reasons = []
    if change.flips > allowed(budgets.max_flips, change.n_images):
        flips = [(then, now) for then, now in pairs if then.routed_verdict != now.routed_verdict]
        missed = sum(now.routed_verdict == Verdict.OK for _, now in flips)
        reasons.append(
            f"{task}: {len(flips)} of {change.n_images} verdicts change ({missed} of them to OK);"
            f" {_at_most(budgets.max_flips)}"
        )
    if change.routing_loss > allowed(budgets.max_routing_loss, change.n_images):
        taken = Counter(str(n.routed_task) for t, n in pairs if t.routed_task == t.task and n.routed_task != n.task)
        by = ", ".join(f"{count} to {name}" for name, count in taken.most_common(3))
        reasons.append(
            f"{task}: {sum(taken.values())} of {change.n_images} images now go to another product ({by});"
            f" {_at_most(budgets.max_routing_loss)}"
        )
    if change.new_false_alarms > allowed(budgets.max_false_alarm_rise, change.n_normal):
        reasons.append(
            f"{task}: {change.new_false_alarms} more of {change.n_normal} good parts raise an alarm;"
            f" {_at_most(budgets.max_false_alarm_rise)}"
        )
    return reasons


def _recognised(new: TaskEvaluation | None, learned: TaskId, needed: float) -> list[str]:
    if new is None or not new.outcomes:
        return [
            f"{learned}: has no held-out images, so nothing says that it is recognised;"
            " give more good pictures, or --heldout"
        ]
    n = len(new.outcomes)
    elsewhere = Counter(str(outcome.routed_task) for outcome in new.outcomes if outcome.routed_task != learned)
    lost = sum(elsewhere.values())
    if lost <= allowed(1 - needed, n):
        return []
    to = ", ".join(f"{count} to {name}" for name, count in elsewhere.most_common(3))
    return [
        f"{learned}: only {n - lost} of its own {n} held-out images are recognised as it ({to});"
        f" at least {needed:.0%} needed. Is it the same product as one that is known?"
    ]


def _unmeasured(task: TaskId, old: TaskEvaluation, new: TaskEvaluation, change: TaskChange) -> list[str]:
    notes = []
    if math.isnan(_auroc(old)) and math.isnan(_auroc(new)):
        notes.append(f"{task}: image AUROC not measured; verdicts, false alarms and routing decided")
    elif new.synthetic:
        notes.append(f"{task}: image AUROC is on synthetic defects")
    if change.n_normal == 0:
        notes.append(f"{task}: no good held-out images, false alarms not measured")
    return notes


def _about_new(new: TaskEvaluation | None) -> list[str]:
    if new is None or not new.outcomes:
        return []
    notes = []
    if math.isnan(auroc := _auroc(new)):
        notes.append(f"{new.task}: image AUROC not measured")
    elif auroc < 0.7:
        notes.append(f"{new.task}: image AUROC is only {auroc:.3f}; it will miss defects")
    refused = sum(outcome.refused for outcome in new.outcomes if not outcome.defective)
    if refused > allowed(0.1, new.n_normal):
        notes.append(f"{new.task}: {refused} of {new.n_normal} good parts are refused as an unknown product")
    return notes


def allowed(budget: float, n: int) -> int:
    """How many of `n` pictures a budget allows: its share rounded down, but one unless the budget is 0.

    >>> allowed(0.02, 150), allowed(0.02, 5), allowed(0.0, 150)
    (3, 1, 0)
    """
    # a guard for shares like 1 - 0.95, which is a little more than 0.05
    return max(1, math.floor(budget * n + 1e-9)) if budget > 1e-9 else 0


def _auroc(evaluation: TaskEvaluation) -> float:
    return float(evaluation.routed.get("image_auroc", math.nan))


def _misrouted(outcomes: Iterable[ImageOutcome]) -> int:
    return sum(outcome.routed_task != outcome.task for outcome in outcomes)


def _alarms(outcomes: Iterable[ImageOutcome]) -> int:
    return sum(outcome.routed_verdict != Verdict.OK for outcome in outcomes)


def _at_most(budget: float) -> str:
    return f"at most {budget:.1%} allowed" if budget else "none allowed"
