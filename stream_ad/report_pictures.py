"""Example pictures for the forgetting report: of each product what was found, what was nearly missed, what came close.

The database keeps scores, not pictures. So the held-out pictures are read again, and looked at with the bank that the
report is about.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from stream_ad.adapters.overlay import overlay_jpeg
from stream_ad.domain.evaluation import ImageOutcome, TaskEvaluation
from stream_ad.domain.images import HeldoutSet
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import StreamAdError
from stream_ad.evaluation.findings import ForgettingReport, Overlay
from stream_ad.evaluation.forgetting import Flips
from stream_ad.services.judging import Inspector

#: changed verdicts shown of a product; all of them are in the report's tables
CHANGED_SHOWN = 2


class _Example(NamedTuple):
    """One picture to show."""

    outcome: ImageOutcome
    #: the product that is told; None: it is guessed, as on the line
    declared: TaskId | None
    #: caption of what the inspector says
    caption: Callable[[Inspection], str]


def with_pictures(
    report: ForgettingReport,
    measured: Mapping[TaskId, TaskEvaluation],
    heldout: Callable[[TaskId], HeldoutSet],
    inspector: Inspector,
) -> ForgettingReport:
    """The report with up to three examples of each measured task, and the newest verdicts that changed.

    A product whose held-out pictures cannot be read any more is shown without, and the notes say so.

    Args:
        measured: of the version that the report is about.
        heldout: the held-out pictures of a task, both halves; may raise `StreamAdError`.
        inspector: on the bank that the report is about.
    """
    shown: dict[str, Sequence[Overlay]] = {}
    notes: list[str] = []
    for task, evaluation in measured.items():
        examples = [*_examples(evaluation), *_changed(evaluation, report.flips)]
        if not examples:
            continue
        try:
            overlays = _drawn(examples, heldout(task), inspector)
        except (StreamAdError, OSError) as error:
            notes.append(f"No example pictures of {task}: {error}.")
            continue
        if overlays:
            shown[task] = overlays
        if len(overlays) < len(examples):
            missing = len(examples) - len(overlays)
            notes.append(f"{missing} example pictures of {task} are left out: its held-out folder has changed since.")
    return replace(report, overlays=shown, notes=(*report.notes, *notes))


def _examples(evaluation: TaskEvaluation) -> Iterator[_Example]:
    """Of the defective pictures those with the highest and the lowest score, and the good one with the highest."""
    ranked = sorted(evaluation.outcomes, key=lambda outcome: (outcome.oracle_score, outcome.image_id))
    defective = [outcome for outcome in ranked if outcome.defective]
    good = [outcome for outcome in ranked if not outcome.defective]
    chosen = [(defective[-1:], ""), (defective[:1] if len(defective) > 1 else [], ", lowest score")]
    for outcomes, remark in (*chosen, (good[-1:], ", highest score")):
        for outcome in outcomes:
            yield _Example(outcome, evaluation.task, lambda seen, o=outcome, r=remark: _said(o, seen.verdict) + r)


def _changed(evaluation: TaskEvaluation, flips: Sequence[Flips]) -> Iterator[_Example]:
    """Pictures whose verdict changed between two versions: the newest change first, what got worse before the rest."""
    outcomes = {outcome.image_id: outcome for outcome in evaluation.outcomes}
    newest = [
        (change, flip)
        for change in reversed(flips)
        for flip in sorted(change.flips, key=lambda flip: not flip.worse)
        if flip.task == evaluation.task and flip.image_id in outcomes
    ]
    for change, flip in newest[:CHANGED_SHOWN]:
        outcome = outcomes[flip.image_id]
        caption = (
            f"{outcome.kind}: {flip.before} with version {change.before_version},"
            f" {flip.after} with version {change.after_version}"
        )
        yield _Example(outcome, None, lambda seen, text=caption: text)


def _drawn(examples: Sequence[_Example], heldout: HeldoutSet, inspector: Inspector) -> tuple[Overlay, ...]:
    """An overlay of each example that is still there."""
    places = {id: place for place, id in enumerate(heldout.ids)}
    there = [example for example in examples if example.outcome.image_id in places]
    pictures = [heldout[places[example.outcome.image_id]].pixels for example in there]
    declared = [example.declared for example in there]
    inspections = inspector.inspect(pictures, declared=declared, cameras=[None] * len(there))
    return tuple(
        Overlay(example.caption(seen), overlay_jpeg(picture, seen))
        for example, picture, seen in zip(there, pictures, inspections, strict=True)
    )


def _said(outcome: ImageOutcome, verdict: Verdict) -> str:
    """A verdict, and whether it is right."""
    if outcome.defective:
        judged = {Verdict.OK: ", missed", Verdict.NG: ", found"}.get(verdict, "")
    else:
        judged = "" if verdict == Verdict.OK else ", false alarm"
    return f"{outcome.kind}: {verdict}{judged}"
