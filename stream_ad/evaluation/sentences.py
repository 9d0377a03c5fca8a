"""The report in plain words, for the person who signs for quality."""

from collections.abc import Sequence
from typing import NamedTuple

from stream_ad.domain.evaluation import Half
from stream_ad.evaluation.findings import Decision, ForgettingReport, Outcome, Rate, TaskFinding

_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


class Words(NamedTuple):
    #: what was learned, kept, lost and refused
    found: tuple[str, ...]
    #: on what pictures, at what price
    basis: tuple[str, ...]


def plain_words(report: ForgettingReport) -> Words:
    """What was found and what it rests on, in sentences."""
    if not report.tasks:
        nothing = (
            "Nothing was measured: no bank version has been evaluated on held-out pictures yet,"
            " so nothing can be said about forgetting."
        )
        return Words((nothing, *_refused(report)), ())
    found = (*_learned(report), *_lost(report), *_verdicts(report), *_refused(report))
    return Words(found, (*_basis(report), *_routing(report), *_alarms(report)))


def share(rate: Rate, noun: str = "") -> str:
    """A rate as a person says it, e.g. "9 of 200 good parts (4.5 %)"."""
    counted = f"{rate.events} of {rate.trials} {noun}".rstrip()
    return f"{counted} ({100 * rate.value:.1f} %)" if rate.trials else "not measured"


def interval(rate: Rate) -> str:
    return f"{100 * rate.low:.1f} to {100 * rate.high:.1f} %"


def points(loss: float) -> str:
    """A difference of scores; a small one is never rounded to nothing."""
    return "less than 0.001" if 0 < loss < 0.0005 else f"{loss:.3f}"


# --- one function per point -----------------------------------------------------------------------


def _learned(report: ForgettingReport) -> list[str]:
    names = _names([task.task for task in report.tasks])
    if report.outcome == Outcome.FIRST and len(report.tasks) == 1:
        sentences = [f"One product was learned ({names}), so there is nothing yet that could have been forgotten."]
    elif len(report.tasks) == 1:
        sentences = [f"One product is known: {names}."]
    elif report.outcome == Outcome.FIRST:
        sentences = [
            f"{_count(len(report.tasks), 'product')} {_were(len(report.tasks))} in the first version that was evaluated"
            f" ({names}), so there is nothing yet to compare with."
        ]
    else:
        sentences = [f"{_count(len(report.tasks), 'product')} were learned one after the other: {names}."]
    again = [task for task in report.tasks if task.adapted_again_in]
    if again:
        sentences.append(f"{_names([task.task for task in again])} {_were(len(again))} adapted again since.")
    if report.active_version is not None:
        sentences.append(
            f"These numbers are about version {report.version}; version {report.active_version} is in use,"
            " and was not evaluated."
        )
    return sentences


def _lost(report: ForgettingReport) -> list[str]:
    losses = report.losses
    sentences = []
    if report.gone:
        sentences.append(f"Something old was lost: {_names(report.gone)} {_is(report.gone)} no longer in the bank.")
    if losses:
        worst = max(losses, key=lambda task: losses[task])
        limit = f"{report.max_forgetting:.3f}"
        over = [task for task, loss in losses.items() if loss > report.max_forgetting + 1e-9]
        if over:
            count = "one product" if len(over) == 1 else f"{_small(len(over))} products"
            sentences.append(
                f"Something old was lost: {count} fell by more than the {limit} image AUROC that the gate allows"
                f" ({', '.join(f'{task} by {points(losses[task])}' for task in over)})."
            )
        elif losses[worst] > 1e-9:
            sentences.append(
                f"Next to nothing old was lost: the largest loss of any product was {points(losses[worst])} image AUROC"
                f" ({worst}), within the {limit} that the gate allows."
            )
        elif not report.gone:
            sentences.append(
                "Nothing old was lost: no product separates good from defective parts worse than at any time before"
                " (image AUROC, the product guessed from the picture)."
            )
    elif report.outcome == Outcome.UNMEASURED:
        sentences.append(
            "Whether something old was lost was not measured: no old product has a comparable image AUROC,"
            " so nothing is claimed."
        )
    old_unmeasured = [task.task for task in report.tasks if _is_old(task, report) and task.task not in losses]
    if losses and old_unmeasured:
        sentences.append(f"For {_names(old_unmeasured)} this was not measured, so nothing is claimed.")
    if report.mixed:
        sentences.append(
            f"The versions were not all measured alike ({', '.join(report.mixed)} differ),"
            " so small differences may have that reason."
        )
    return sentences


def _verdicts(report: ForgettingReport) -> list[str]:
    compared = sum(f.compared for f in report.since_learned)
    if not compared:
        return []
    changed = sum(len(f.flips) for f in report.since_learned)
    if not changed:
        return [f"Not one of {compared} verdicts on old products changed since they were learned."]
    missed = sum(f.newly_missed for f in report.since_learned)
    alarms = sum(f.new_false_alarms for f in report.since_learned)
    corrected = sum(f.corrected for f in report.since_learned)
    return [
        f"{changed} of {compared} verdicts on old products changed since they were learned: {_plural(missed, 'defect')}"
        f" newly missed, {_plural(alarms, 'good part')} newly alarmed, {corrected} put right."
    ]


def _basis(report: ForgettingReport) -> list[str]:
    good = sum(task.n_normal for task in report.tasks)
    bad = sum(task.n_defective for task in report.tasks)
    pictures = f"{_plural(good, 'good picture')} and {bad or 'no'} defective"
    if report.half == Half.TEST:
        sentences = [f"Measured on {pictures} that were kept apart from learning, thresholds and the gate."]
    else:
        sentences = [
            f"Measured on {pictures} on which the gate itself decides: the test half was not evaluated,"
            " so these numbers flatter."
        ]
    painted = report.painted
    with_defects = [task for task in report.tasks if task.n_defective]
    if painted and len(painted) == len(with_defects):
        sentences.append(
            "Every defect was painted by this program (synthetic):"
            " how well real defects are found was not measured for any product."
        )
    elif painted:
        sentences.append(
            f"The defects of {_names(painted)} were painted by this program (synthetic):"
            " how well real ones are found was not measured there."
        )
    left_out = {task.task: task.promise.suspects for task in report.tasks if task.promise and task.promise.suspects}
    if left_out:
        counted = ", ".join(f"{count} of {task}" for task, count in left_out.items())
        sentences.append(f"Training pictures that looked defective were not learned: {counted}.")
    without = [task.task for task in report.tasks if not task.n_defective]
    if without:
        sentences.append(f"There was no defective picture of {_names(without)}: no AUROC was measured there.")
    return sentences


def _routing(report: ForgettingReport) -> list[str]:
    if not report.routing.trials:
        return []
    sentences = [f"The product was recognised, without being told, in {share(report.routing, 'pictures')}."]
    if report.refused.events:
        sentences.append(
            f"{share(report.refused, 'pictures of known products')} {_were(report.refused.events)} refused as unknown."
        )
    costs = {t.task: t.regret["image_auroc"] for t in report.tasks if t.regret["image_auroc"] > 1e-9}
    if costs:
        worst = max(costs, key=lambda task: costs[task])
        sentences.append(
            f"Guessing the product instead of being told costs at most {points(costs[worst])} image AUROC ({worst})."
        )
    return sentences


def _alarms(report: ForgettingReport) -> list[str]:
    if not report.false_alarms.trials:
        return ["False alarms were not measured: there was no good held-out picture."]
    sentences = [
        f"{share(report.false_alarms, 'good parts')} raised an alarm (95 % interval {interval(report.false_alarms)})."
    ]
    for rate in sorted({task.promise.rate for task in report.tasks if task.promise}):
        pooled = report.pooled_alarms(rate)
        if pooled.images:
            approximate = any(t.promise.approximate for t in report.tasks if t.promise and t.promise.rate == rate)
            of = "" if pooled.images == report.false_alarms.trials else f" of {pooled.images}"
            sentences.append(
                f"{100 * rate:g} % is promised{', approximately' if approximate else ''}:"
                f" {pooled.interval.low} to {pooled.interval.high}{of} would be chance."
            )
    too_often = [task for task in report.tasks if task.alarms_too_often]
    if too_often:
        sentences.append(
            "More false alarms than chance explains: "
            + ", ".join(f"{task.task} {share(task.false_alarms)}" for task in too_often)
            + "."
        )
    unpromised = [task.task for task in report.tasks if task.promise and not task.promise.can_promise]
    if unpromised:
        sentences.append(
            f"For {_names(unpromised)} that rate cannot be promised: too few good pictures to set a threshold by."
        )
    return sentences


def _refused(report: ForgettingReport) -> list[str]:
    rejected = report.rejected
    if not rejected:
        jobs = len(report.decisions)
        return [f"The gate refused none of {_plural(jobs, 'candidate')}."] if jobs > 1 else []
    start = (
        f"{len(rejected)} of {_plural(len(report.decisions), 'candidate')} {_were(len(rejected))} refused by the gate"
    )
    return [f"{start} and never used: " + "; ".join(f"{_subject(r)}, {_why(r)}" for r in rejected) + "."]


def _subject(decision: Decision) -> str:
    return f"the one for {decision.step.learned_task}" if decision.step.learned_task else "one"


def _why(decision: Decision) -> str:
    if decision.reason:
        return "because " + decision.reason.strip().rstrip(".")
    if decision.worst_task is not None and decision.worst_loss > 0:
        return f"because {decision.worst_task} would have lost {points(decision.worst_loss)} image AUROC"
    return "for a reason that was not stored"


def _is_old(task: TaskFinding, report: ForgettingReport) -> bool:
    return report.version is not None and task.learned_in < report.version


# --- words ----------------------------------------------------------------------------------------


def _names(names: Sequence[str]) -> str:
    if len(names) > 8:
        return f"{', '.join(names[:7])} and {len(names) - 7} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _small(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _count(count: int, noun: str) -> str:
    return f"{_small(count).capitalize()} {noun}{'' if count == 1 else 's'}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
