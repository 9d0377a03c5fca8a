"""Where the gate let a loss through because few pictures guard a product, and the test half shows one as well.

A share of few pictures is less than one, and the gate always allows one. That is no proof that nothing was lost, so
what the half that decides nothing shows of the same product must not stay a number in a table.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stream_ad.domain.decision import Judgement, TaskChange
from stream_ad.domain.task import TaskId
from stream_ad.domain.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class LetThrough:
    """A loss of one product that passed as the one picture that is always allowed, and what came of it."""

    task: TaskId
    #: in which it passed
    versions: tuple[int, ...]
    #: "1 of 20 verdicts got worse", on the half by which the gate decides
    allowed: tuple[str, ...]
    #: "1 defect newly missed", on the other one
    lost: tuple[str, ...]

    @property
    def sentence(self) -> str:
        which = ", ".join(map(str, self.versions))
        return (
            f"Few pictures guard {self.task}: with version {which} the gate let pass that {' and '.join(self.allowed)},"
            f" for one picture is always allowed; the test half shows a loss of {self.task} as well"
            f" ({', '.join(self.lost)}). Give it more held-out pictures, or look at these."
        )


def passed_as_one_picture(change: TaskChange, budgets: Mapping[str, float]) -> tuple[str, ...]:
    """What got worse by more than its share, in words; a candidate that passed did so because one is always allowed.

    >>> nut = TaskChange(auroc_before=0.9, auroc_after=0.9, auroc_best=0.9, flips=1, harmful_flips=1, hidden_defects=1,
    ...                  routing_loss=0, taken_by={}, new_false_alarms=0, n_images=20, n_normal=10)
    >>> passed_as_one_picture(nut, {"max_flips": 0.02})
    ('1 of 20 verdicts got worse',)
    >>> passed_as_one_picture(nut, {"max_flips": 0.1})
    ()
    """
    shares = (
        ("max_flips", change.harmful_flips, change.n_images, "verdicts got worse"),
        ("max_routing_loss", change.routing_loss, change.n_images, "pictures went to another product"),
        ("max_false_alarm_rise", change.new_false_alarms, change.n_normal, "good parts raised an alarm"),
    )
    return tuple(
        f"{count} of {images} {what}"
        for budget, count, images, what in shares
        if count > 0 and count > budgets.get(budget, 1.0) * images + 1e-9
    )


def let_through(
    judged: Iterable[tuple[int, Judgement]], lost: Mapping[TaskId, Sequence[str]]
) -> tuple[LetThrough, ...]:
    """Products that lost something on the test half, and of which the gate had let one picture pass.

    Args:
        judged: published versions, and what the gate had said of each.
        lost: by product, what the test half shows of it, in words.
    """
    found: dict[TaskId, dict[str, list[int]]] = {}
    for version, judgement in judged:
        refused_for = {breach.task for breach in judgement.decision.breaches}  # against the gate: told elsewhere
        for task, change in judgement.decision.changes.items():
            if not lost.get(task) or task in refused_for:
                continue
            for words in passed_as_one_picture(change, judgement.budgets):
                found.setdefault(task, {}).setdefault(words, []).append(version)
    return tuple(
        LetThrough(
            task=task,
            versions=tuple(sorted({version for versions in passed.values() for version in versions})),
            allowed=tuple(passed),
            lost=tuple(lost[task]),
        )
        for task, passed in found.items()
    )


def in_words(missed: int, alarmed: int, astray: int, auroc: float) -> tuple[str, ...]:
    """What one half shows of a product, as far as it got worse: pictures, and image AUROC lost (NaN: not measured)."""
    harms = ((missed, "defect", "newly missed"), (alarmed, "good part", "newly alarmed"))
    words = [f"{counted(count, noun)} {what}" for count, noun, what in harms if count > 0]
    if astray > 0:
        words.append(f"{astray} picture{'' if astray == 1 else 's'} no longer recognised")
    if auroc > 1e-9:
        words.append(f"image AUROC {'less than 0.001' if auroc < 0.0005 else f'{auroc:.3f}'} lower")
    return tuple(words)
