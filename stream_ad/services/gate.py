"""May a candidate bank be published? Pure: two evaluations of the same held-out pictures in, a decision out.

Every task that the bank in use has is *old*, also the one that a job adapts again, patches or squeezes. What differs
by kind of job:

- ADAPT, READAPT: the task must be recognised as itself. When it is an old one too, it is judged as such, but of its
  changed verdicts only the harmful ones count (they were right before): it shall change.
- PATCH: as READAPT, and no defect of any task that raised an alarm may be called OK. One good part less that is called
  NG is never worth a defect that nobody sees.
- RETIRE: the task is left out; the others are old.
- SQUEEZE: every task is old, and every changed verdict counts.

Budgets are shares, counted in pictures: of 150 pictures a budget of 2 % allows 3. Regression halves are often small,
so a budget above 0 always allows *one* picture: of 20 pictures one is 5 %, and refusing a product line because of one
borderline picture would make the gate a lottery. It is not a loophole: when that picture also ranks worse, AUROC
falls and the first rule refuses. A budget of 0 allows none. What a half of a given size cannot show: `chance.unseen`.

Nothing that was not measured counts as passed. Two exceptions are said aloud in `notes`: without defects on both sides
there is no AUROC to lose (verdicts, false alarms and routing decide then), and without normal pictures no false alarm.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stream_ad.domain.decision import Breach, GateDecision, Rule, TaskChange
from stream_ad.domain.evaluation import ImageOutcome, TaskEvaluation
from stream_ad.domain.job import JobKind
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import ConfigError
from stream_ad.services.chance import Pairs, allowed, loss_error, unseen

#: kinds of job whose task must be recognised as itself
LEARNS = (JobKind.ADAPT, JobKind.READAPT)
#: kinds of job that shall change verdicts of their task
CHANGES_TASK = (*LEARNS, JobKind.PATCH)


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


def decide(
    kind: JobKind,
    before: Mapping[TaskId, TaskEvaluation],
    after: Mapping[TaskId, TaskEvaluation],
    task: TaskId | None,
    budgets: GateBudgets,
    *,
    best_auroc: Mapping[TaskId, float] | None = None,
) -> GateDecision:
    """Whether the bank measured as `after` may replace the one measured as `before`.

    Args:
        kind: of the job that wants it; EVALUATE: every task is old, nothing is meant to change.
        before: the tasks of the bank in use.
        after: the tasks of the candidate.
        task: the one that the job is about; None: it is about all.
        best_auroc: each old task's best routed image AUROC of any published bank: measured against it, many small
            losses cannot add up unseen (CMPMB Eq. 17 takes the same maximum).
    """
    breaches: list[Breach] = []
    notes: list[str] = []
    changes: dict[TaskId, TaskChange] = {}
    for name, old in before.items():
        if kind is JobKind.RETIRE and name == task:
            continue
        new = after.get(name)
        if new is None or not new.outcomes:
            breaches.append(
                _unmeasurable(
                    name,
                    "not measured on the candidate, so nothing says that it was not forgotten",
                    len(old.outcomes),
                )
            )
            continue
        pairs = _pairs(old.outcomes, new.outcomes)
        if pairs is None:
            breaches.append(
                _unmeasurable(
                    name,
                    f"measured on other pictures than before ({len(new.outcomes)} now, {len(old.outcomes)} then);"
                    " only the same pictures can be compared",
                    len({o.image_id for o in old.outcomes} ^ {o.image_id for o in new.outcomes}),
                )
            )
            continue
        change = _change(old, new, pairs, (best_auroc or {}).get(name, math.nan))
        changes[name] = change
        breaches += _forgotten(name, change, budgets.max_forgetting)
        breaches += _flipped(name, change, pairs, budgets.max_flips, only_harm=kind in CHANGES_TASK and name == task)
        breaches += _lost_pictures(name, change, budgets)
        if kind is JobKind.PATCH:
            breaches += _hidden(name, change)
        notes += _unmeasured(name, new, change)
    for name in sorted(after.keys() - before.keys() - ({task} if task and kind in LEARNS else set())):
        said = "not measured on the present bank, so there is nothing to compare with"
        breaches.append(_unmeasurable(name, said, len(after[name].outcomes)))
    if task is not None and kind is JobKind.RETIRE and task in after:
        said = "still in the bank that was to be without it"
        breaches.append(_unmeasurable(task, said, len(after[task].outcomes)))
    if task is not None and kind in LEARNS:
        breaches += _recognised(after.get(task), task, budgets.min_routing_accuracy)
        notes += _about_new(after.get(task))
    notes += _too_few(changes, budgets)
    return GateDecision(breaches=tuple(breaches), changes=changes, notes=tuple(notes))


def _pairs(old: Sequence[ImageOutcome], new: Sequence[ImageOutcome]) -> Pairs | None:
    """The same pictures before and after; None when they are not the same."""
    then, now = {o.image_id: o for o in old}, {o.image_id: o for o in new}
    return [(then[id], now[id]) for id in then] if then.keys() == now.keys() else None


def _change(old: TaskEvaluation, new: TaskEvaluation, pairs: Pairs, best: float) -> TaskChange:
    normal = [(then, now) for then, now in pairs if not then.defective]
    flips = [(then, now) for then, now in pairs if then.routed_verdict != now.routed_verdict]
    taken = Counter(str(n.routed_task) for t, n in pairs if t.routed_task == t.task and n.routed_task != n.task)
    return TaskChange(
        auroc_before=_auroc(old),
        auroc_after=_auroc(new),
        auroc_best=best,
        auroc_error=loss_error(pairs),
        flips=len(flips),
        harmful_flips=sum(_alarm(then) == then.defective != _alarm(now) for then, now in flips),
        hidden_defects=sum(then.defective and _alarm(then) and not _alarm(now) for then, now in flips),
        routing_loss=_misrouted(now for _, now in pairs) - _misrouted(then for then, _ in pairs),
        taken_by=dict(taken.most_common()),
        new_false_alarms=sum(_alarm(now) for _, now in normal) - sum(_alarm(then) for then, _ in normal),
        n_images=len(pairs),
        n_normal=len(normal),
    )


# --- one function per rule ------------------------------------------------------------------------


def _forgotten(task: TaskId, change: TaskChange, budget: float) -> list[Breach]:
    was, now, best = change.auroc_before, change.auroc_after, change.auroc_best
    if math.isnan(was):
        return []
    if math.isnan(now):
        said = f"image AUROC was {was:.3f} and could not be measured on the candidate"
        return [_unmeasurable(task, said, change.n_images)]
    reference = was if math.isnan(best) else max(was, best)
    # a candidate that itself loses nothing is not refused for what an earlier one lost
    if now >= was or reference - now <= budget + 1e-9:
        return []
    since = f" (the best bank so far had {reference:.3f})" if reference > was else ""
    error = "" if math.isnan(change.auroc_error) else f" (± {2 * change.auroc_error:.3f} on {change.n_images} pictures)"
    said = (
        f"image AUROC falls from {was:.3f} to {now:.3f}{since}, a loss of {reference - now:.3f}{error};"
        f" at most {budget:g} allowed"
    )
    return [_breach(task, Rule.AUROC, reference - now, budget, said)]


def _flipped(task: TaskId, change: TaskChange, pairs: Pairs, budget: float, *, only_harm: bool) -> list[Breach]:
    count = change.harmful_flips if only_harm else change.flips
    if count <= (most := allowed(budget, change.n_images)):
        return []
    to_ok = sum(_alarm(then) and not _alarm(now) and (then.defective or not only_harm) for then, now in pairs)
    changed = "verdicts that were right change" if only_harm else "verdicts change"
    said = f"{count} of {change.n_images} {changed} ({to_ok} of them to OK); {_at_most(budget)}"
    return [_breach(task, Rule.FLIPS, count, most, said)]


def _lost_pictures(task: TaskId, change: TaskChange, budgets: GateBudgets) -> list[Breach]:
    breaches = []
    if change.routing_loss > (most := allowed(budgets.max_routing_loss, change.n_images)):
        by = ", ".join(f"{count} to {name}" for name, count in list(change.taken_by.items())[:3])
        said = (
            f"{sum(change.taken_by.values())} of {change.n_images} images now go to another product ({by});"
            f" {_at_most(budgets.max_routing_loss)}"
        )
        breaches.append(_breach(task, Rule.ROUTING, change.routing_loss, most, said))
    if change.new_false_alarms > (most := allowed(budgets.max_false_alarm_rise, change.n_normal)):
        said = (
            f"{change.new_false_alarms} more of {change.n_normal} good parts raise an alarm;"
            f" {_at_most(budgets.max_false_alarm_rise)}"
        )
        breaches.append(_breach(task, Rule.FALSE_ALARMS, change.new_false_alarms, most, said))
    return breaches


def _hidden(task: TaskId, change: TaskChange) -> list[Breach]:
    hidden, n = change.hidden_defects, change.n_images - change.n_normal
    if not hidden:
        return []
    are = "is" if hidden == 1 else "are"
    said = f"{hidden} of {n} defects {are} found today and would be called OK; a patch may hide none"
    return [_breach(task, Rule.HIDDEN, hidden, 0, said)]


def _recognised(new: TaskEvaluation | None, task: TaskId, needed: float) -> list[Breach]:
    if new is None or not new.outcomes:
        said = "has no held-out images, so nothing says that it is recognised; give more good pictures, or --heldout"
        return [_unmeasurable(task, said, math.nan)]
    n = len(new.outcomes)
    elsewhere = Counter(str(outcome.routed_task) for outcome in new.outcomes if outcome.routed_task != task)
    lost = sum(elsewhere.values())
    if lost <= (most := allowed(1 - needed, n)):
        return []
    to = ", ".join(f"{count} to {name}" for name, count in elsewhere.most_common(3))
    said = (
        f"only {n - lost} of its own {n} held-out images are recognised as it ({to});"
        f" at least {needed:.0%} needed: it is a product that is known already, or its folder holds pictures of one"
    )
    return [_breach(task, Rule.RECOGNISED, lost, most, said)]


# --- notes ----------------------------------------------------------------------------------------


def _unmeasured(task: TaskId, new: TaskEvaluation, change: TaskChange) -> list[str]:
    notes = []
    if math.isnan(change.auroc_before) and math.isnan(change.auroc_after):
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


#: a half that lets harm of more than this share through is called small
LARGE_HARM = 0.25


def _too_few(changes: Mapping[TaskId, TaskChange], budgets: GateBudgets) -> list[str]:
    """Which old tasks are guarded by few pictures only."""
    blind = {task: unseen(budgets.max_flips, change.n_images) for task, change in changes.items()}
    small = {task: share for task, share in blind.items() if share > LARGE_HARM}
    if not small:
        return []
    named = ", ".join(f"{task} ({changes[task].n_images} pictures, {share:.0%})" for task, share in small.items())
    return [f"guarded by few held-out pictures, so that a change of this share of verdicts may go unseen: {named}"]


# --- parts ----------------------------------------------------------------------------------------


def _breach(task: TaskId, rule: Rule, amount: float | int, most: float | int, said: str) -> Breach:
    return Breach(task=task, rule=rule, amount=float(amount), allowed=float(most), sentence=f"{task}: {said}")


def _unmeasurable(task: TaskId, said: str, pictures: float | int) -> Breach:
    """`pictures`: how many say nothing; NaN: there are none at all."""
    return _breach(task, Rule.MEASURED, pictures, 0, said)


def _auroc(evaluation: TaskEvaluation) -> float:
    return float(evaluation.routed.get("image_auroc", math.nan))


def _misrouted(outcomes: Iterable[ImageOutcome]) -> int:
    return sum(outcome.routed_task != outcome.task for outcome in outcomes)


def _alarm(outcome: ImageOutcome) -> bool:
    return outcome.routed_verdict != Verdict.OK


def _at_most(budget: float) -> str:
    return f"at most {budget:.1%} allowed" if budget else "none allowed"
