"""Pictures for reports: what was found and nearly missed, verdicts before and after, and what refused jobs would do.

The database keeps scores, not pictures. So the held-out pictures are read again, and looked at with the banks that the
report is about.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from PIL import Image

from stream_ad.adapters.overlay import draw_overlay, overlay_jpeg
from stream_ad.domain.evaluation import Evaluation, ImageOutcome, TaskEvaluation
from stream_ad.domain.images import HeldoutSet, Picture
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import StreamAdError
from stream_ad.evaluation.findings import Comparison, Evidence, ForgettingReport, Overlay
from stream_ad.evaluation.forgetting import Flips
from stream_ad.evaluation.job_report import JobReport, as_refusal
from stream_ad.evaluation.refusals import Refusal
from stream_ad.services.judging import Inspector

#: changed verdicts drawn of each change of the bank, and of all; all of them are in the report's tables
OF_A_CHANGE, OF_ALL = 3, 8
#: pictures drawn of what a refused candidate would have done, and how many refused candidates get any
OF_A_REFUSAL, REFUSALS_SHOWN = 4, 3
#: pictures drawn of what a refused candidate was taught with
TAUGHT = 6
#: px, the width of one half of a comparison: it stands beside the other half on paper
WIDTH, THUMBNAIL = 720, 160


@dataclass(kw_only=True)
class Look:
    """Where pictures and banks come from. Every function may raise `StreamAdError` or `OSError`."""

    #: the held-out pictures of a task, both halves
    heldout: Callable[[TaskId], HeldoutSet]
    #: what judges by a published version
    published: Callable[[int], Inspector]
    #: what judges as a job's last candidate would have
    candidate: Callable[[int], Inspector]
    #: a few pictures that a job learned from
    taught: Callable[[int, int], Sequence[Picture]]
    _kept: dict[tuple[str, int], Inspector] = field(default_factory=dict)

    def of_version(self, version: int) -> Inspector:
        """Made once: a bank takes a while."""
        return self._once("version", version, self.published)

    def of_candidate(self, job_id: int) -> Inspector:
        return self._once("candidate", job_id, self.candidate)

    def _once(self, kind: str, number: int, make: Callable[[int], Inspector]) -> Inspector:
        if (kind, number) not in self._kept:
            self._kept[kind, number] = make(number)
        return self._kept[kind, number]


class _Example(NamedTuple):
    """One picture to show."""

    outcome: ImageOutcome
    #: caption of what the inspector says
    caption: Callable[[Inspection], str]


def with_pictures(
    report: ForgettingReport, measured: Mapping[TaskId, TaskEvaluation], gate_saw: Sequence[Evaluation], look: Look
) -> ForgettingReport:
    """The report with examples of each measured task, verdicts that changed, and what refused candidates would do.

    What cannot be shown any more is left out, and the notes say so.

    Args:
        measured: of the version that the report is about.
        gate_saw: what was measured of the half on which the gate decides.
    """
    if report.version is None:
        return report
    shown: dict[str, Sequence[Overlay]] = {}
    notes: list[str] = []
    try:
        inspector = look.of_version(report.version)
    except (StreamAdError, OSError) as error:  # the report needs no weights, its pictures do
        return replace(report, notes=(*report.notes, f"No example pictures: {error}."))
    for task, evaluation in measured.items():
        examples = list(_examples(evaluation))
        if not examples:
            continue
        try:
            overlays = _drawn(examples, look.heldout(task), inspector)
        except (StreamAdError, OSError) as error:
            notes.append(f"No example pictures of {task}: {error}.")
            continue
        if overlays:
            shown[task] = overlays
        if len(overlays) < len(examples):
            missing = len(examples) - len(overlays)
            notes.append(f"{missing} example pictures of {task} are left out: its held-out folder has changed since.")
    comparisons: list[Comparison] = []
    for change in reversed(report.flips):  # the newest first
        if len(comparisons) < OF_ALL:
            comparisons += _changes_shown(change, measured, look, notes)
    evidence = {
        refusal.step.job_id: evidence_of(refusal, gate_saw, look, notes)
        for refusal in report.refusals[-REFUSALS_SHOWN:]
        if refusal.step.job_id is not None
    }
    return replace(
        report,
        overlays=shown,
        comparisons=tuple(comparisons[:OF_ALL]),
        evidence=evidence,
        notes=tuple(dict.fromkeys((*report.notes, *notes))),
    )


def with_job_pictures(made: JobReport, own: Evaluation | None, gate_saw: Sequence[Evaluation], look: Look) -> JobReport:
    """A job's report with examples of its own product, or with what it would have done, when it was refused.

    Args:
        own: what was measured of its candidate on the test half.
        gate_saw: as for `with_pictures`.
    """
    notes: list[str] = []
    refusal = as_refusal(made)
    if refusal is not None:
        return replace(made, evidence=evidence_of(refusal, gate_saw, look, notes), notes=(*made.notes, *notes))
    task = own.learned_task if own and own.published else None
    if own is None or task is None or task not in own.tasks:
        return made
    try:
        examples = list(_examples(own.tasks[task]))
        overlays = _drawn(examples, look.heldout(task), look.of_version(own.bank_version))
    except (StreamAdError, OSError) as error:
        return replace(made, notes=(*made.notes, f"No example pictures of {task}: {error}."))
    return replace(made, overlays=overlays)


# --- examples ---------------------------------------------------------------------------------------


def _examples(evaluation: TaskEvaluation) -> Iterator[_Example]:
    """Of the defective pictures those with the highest and the lowest score, and the good one with the highest."""
    ranked = sorted(evaluation.outcomes, key=lambda outcome: (outcome.oracle_score, outcome.image_id))
    defective = [outcome for outcome in ranked if outcome.defective]
    good = [outcome for outcome in ranked if not outcome.defective]
    chosen = [(defective[-1:], ""), (defective[:1] if len(defective) > 1 else [], ", lowest score")]
    for outcomes, remark in (*chosen, (good[-1:], ", highest score")):
        for outcome in outcomes:
            yield _Example(outcome, lambda seen, o=outcome, r=remark: _said(o, seen.verdict) + r)


def _drawn(examples: Sequence[_Example], heldout: HeldoutSet, inspector: Inspector) -> tuple[Overlay, ...]:
    """An overlay of each example that is still there, its product guessed, as the tables count verdicts."""
    places = {id: place for place, id in enumerate(heldout.ids)}
    there = [example for example in examples if example.outcome.image_id in places]
    pictures = [heldout[places[example.outcome.image_id]].pixels for example in there]
    unknown = [None] * len(there)
    inspections = inspector.inspect(pictures, declared=unknown, cameras=unknown)
    return tuple(
        Overlay(example.caption(seen), overlay_jpeg(picture, seen))
        for example, picture, seen in zip(there, pictures, inspections, strict=True)
    )


def _said(outcome: ImageOutcome, verdict: Verdict) -> str:
    return f"{outcome.kind}: {_judgement(verdict, outcome.defective)}"


def _judgement(verdict: Verdict, defective: bool) -> str:
    """A verdict, and whether it is right."""
    if defective:
        return f"{verdict}{ {Verdict.OK: ', missed', Verdict.NG: ', found'}.get(verdict, '') }"
    return str(verdict) if verdict == Verdict.OK else f"{verdict}, false alarm"


# --- before and after -------------------------------------------------------------------------------


class _Change(NamedTuple):
    """One picture that two banks judge differently, or take for different products."""

    task: TaskId
    image_id: str
    truth: str
    defective: bool
    worse: bool
    #: what the second bank says, for when it is not to be had
    told: str


def _changes_shown(
    change: Flips, measured: Mapping[TaskId, TaskEvaluation], look: Look, notes: list[str]
) -> list[Comparison]:
    """Verdicts that changed between two published versions: what got worse before the rest."""
    kinds = {o.image_id: o.kind for evaluation in measured.values() for o in evaluation.outcomes}
    chosen = [
        _Change(
            flip.task,
            flip.image_id,
            kinds.get(flip.image_id, _kind(flip.defective)),
            flip.defective,
            flip.worse,
            _judgement(flip.after, flip.defective),
        )
        for flip in sorted(change.flips, key=lambda flip: not flip.worse)
    ][:OF_A_CHANGE]
    return _compared(chosen, change.before_version, lambda: look.of_version(change.after_version), look, notes)


def evidence_of(refusal: Refusal, gate_saw: Sequence[Evaluation], look: Look, notes: list[str]) -> Evidence:
    """Pictures about one refused candidate: what it was taught with, and those of others that it would hurt."""
    job_id = refusal.step.job_id
    assert job_id is not None, "a candidate without a job has no pictures"
    taught: tuple[Overlay, ...] = ()
    try:
        taught = tuple(Overlay("a picture that it learned from", _small(one)) for one in look.taught(job_id, TAUGHT))
    except (StreamAdError, OSError) as error:
        notes.append(f"No pictures of what job {job_id} was taught with: {error}.")
    after = next((e for e in gate_saw if e.job_id == job_id and not e.published), None)
    before = next((e for e in reversed(gate_saw) if e.published and e.bank_version == refusal.against), None)
    if after is None or before is None or refusal.against is None:
        return Evidence(taught=taught)
    chosen = _harm(before, after, [hurt.task for hurt in refusal.harmed])[:OF_A_REFUSAL]
    return Evidence(
        taught=taught,
        harm=tuple(_compared(chosen, refusal.against, lambda: look.of_candidate(job_id), look, notes)),
    )


def _harm(before: Evaluation, after: Evaluation, harmed: Sequence[TaskId]) -> list[_Change]:
    """Pictures of old products that a candidate judges wrongly and the bank in use rightly: verdicts, then products."""
    verdicts: list[_Change] = []
    products: list[_Change] = []
    for task in harmed:
        if task not in before.tasks or task not in after.tasks:
            continue
        now = {outcome.image_id: outcome for outcome in after.tasks[task].outcomes}
        for old in before.tasks[task].outcomes:
            new = now.get(old.image_id)
            if new is None:
                continue
            elsewhere = new.routed_task != task and not new.refused
            told = _judgement(new.routed_verdict, old.defective) + (
                f", taken for {new.routed_task}" if elsewhere else ""
            )
            change = _Change(task, old.image_id, old.kind, old.defective, True, told)
            if _right(old) and not _right(new):
                verdicts.append(change)
            elif old.routed_task == task and elsewhere:
                products.append(change)
    return verdicts + products


def _compared(
    chosen: Sequence[_Change], before: int, after: Callable[[], Inspector], look: Look, notes: list[str]
) -> list[Comparison]:
    """Each picture judged by the bank before and the one after, its product guessed as on the line."""
    if not chosen:
        return []
    try:
        first = look.of_version(before)
    except (StreamAdError, OSError) as error:
        notes.append(f"No pictures judged by version {before}: {error}.")
        return []
    try:
        second = after()
    except (StreamAdError, OSError) as error:
        notes.append(f"Some pictures are shown before a change only: {error}.")
        second = None
    shown = []
    for change in chosen:
        try:
            heldout = look.heldout(change.task)
            place = list(heldout.ids).index(change.image_id)
            picture = heldout[place].pixels
        except (StreamAdError, OSError) as error:
            notes.append(f"No pictures of {change.task} before and after: {error}.")
            continue
        except ValueError:
            notes.append(f"A changed picture of {change.task} is left out: its held-out folder has changed since.")
            continue
        shown.append(
            Comparison(
                task=change.task,
                truth=change.truth,
                worse=change.worse,
                before=_judged(picture, first, change),
                after=_judged(picture, second, change) if second else None,
                told=f"{change.told} (not drawn)",
            )
        )
    return shown


def _judged(picture: Picture, inspector: Inspector, change: _Change) -> Overlay:
    seen = inspector.inspect([picture], declared=[None], cameras=[None])[0]
    astray = seen.task and seen.task != change.task and seen.verdict != Verdict.UNKNOWN
    elsewhere = f", taken for {seen.task}" if astray else ""
    drawn = Image.fromarray(draw_overlay(picture, seen))
    return Overlay(f"{_judgement(seen.verdict, change.defective)}{elsewhere}", _jpeg(drawn, WIDTH))


def _small(picture: Picture) -> bytes:
    return _jpeg(Image.fromarray(picture), THUMBNAIL)


def _jpeg(image: Image.Image, width: int) -> bytes:
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=82)
    return encoded.getvalue()


def _right(outcome: ImageOutcome) -> bool:
    return (outcome.routed_verdict != Verdict.OK) == outcome.defective


def _kind(defective: bool) -> str:
    return "defective" if defective else "good"
