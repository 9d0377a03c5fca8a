"""The report in plain words, for the person who signs for quality."""

from collections.abc import Sequence
from typing import NamedTuple

from stream_ad.domain.evaluation import Half
from stream_ad.evaluation.findings import Decision, ForgettingReport, Outcome, Rate, TaskFinding
from stream_ad.evaluation.refusals import asked_in_words, pairs_in_words, why

_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


class Words(NamedTuple):
    #: did anything get worse? In one sentence
    answer: str
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
        return Words(_answer(report), (nothing, *_refused(report)), ())
    passed = [one.sentence for one in report.let_through]
    found = (*_learned(report), *_lost(report), *_verdicts(report), *passed, *_again(report), *_refused(report))
    found = (*found, *_by_people(report))
    return Words(_answer(report), found, (*_basis(report), *_routing(report), *_alarms(report)))


def _answer(report: ForgettingReport) -> str:
    """Did anything get worse?"""
    match report.outcome:
        case Outcome.KEPT:
            return "No. Nothing that was learned has got worse."
        case Outcome.SLIGHT:
            if report.overridden:
                return "A little: single verdicts or scores got worse, and a person overrode the gate."
            return "Hardly. Single verdicts or scores got worse, none by more than is allowed."
        case Outcome.FIRST:
            return "There is nothing to compare with yet."
        case Outcome.UNMEASURED:
            return "Not known: it was not measured."
    over = [task.task for task in report.worse]
    worse = f"{_names(over)} {_is(over)} inspected less well than before" if over else ""
    gone = f"{_names(report.gone)} {_is(report.gone)} not inspected any more" if report.gone else ""
    return f"Yes. {' and '.join(filter(None, (worse, gone)))}.".replace("Yes. .", "Yes.")


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
    if report.retired:
        sentences.append(
            f"{_names(report.retired)} {_were(len(report.retired))} taken out by a person and {_is(report.retired)} not"
            " inspected any more."
        )
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
        sentences.append(
            f"Something old was lost: {_names(report.gone)} {_is(report.gone)} no longer in the bank{_dropped(report)}."
        )
    if losses:
        worst = max(losses, key=lambda task: losses[task])
        limit = f"{report.max_forgetting:.3f}"
        over = [task for task, loss in losses.items() if loss > report.max_forgetting + 1e-9]
        if over:
            count = "one product" if len(over) == 1 else f"{_small(len(over))} products"
            sentences.append(
                f"Something old was lost: {count} fell by more than the {limit} image AUROC that the gate allows"
                f" ({', '.join(f'{task} by {points(losses[task])}' for task in over)}):"
                f" for {worst}, {pairs_in_words(losses[worst])}."
            )
        elif report.worse:
            pass  # told below, by verdicts
        elif losses[worst] > 1e-9:
            sentences.append(
                f"Next to nothing old was lost: the largest loss of any product was {points(losses[worst])} image AUROC"
                f" ({worst}), within the {limit} that the gate allows."
            )
        elif not report.gone:
            sentences.append(
                "Nothing old was lost: no product separates good from defective parts worse than at any time before."
            )
    elif report.outcome == Outcome.UNMEASURED and not report.worse:
        sentences.append(
            "Whether something old was lost was not measured: no old product has a comparable image AUROC,"
            " so nothing is claimed."
        )
    for task in report.worse:
        if losses.get(task.task, 0.0) <= report.max_forgetting + 1e-9:
            if not task.harmed:
                sentences.append(
                    f"Something old was lost: {task.astray} of {task.compared} pictures of {task.task} that were"
                    f" recognised as it when it was learned are not any more, although their verdicts stand. The gate"
                    f" allows {100 * report.max_flips:g} %."
                )
                continue
            sentences.append(
                f"Something old was lost: {task.harmed} of {task.compared} verdicts on {task.task} that were right when"
                f" it was learned are wrong now{_astray(task)}. The gate allows {100 * report.max_flips:g} %."
            )
    if report.moved:
        sentences.append(
            f"{_names(report.moved)} {_is(report.moved)} judged by other pictures than before, so what changed there"
            " is neither lost nor gained."
        )
    old_unmeasured = [
        t.task for t in report.tasks if _is_old(t, report) and t.task not in losses and t.task not in report.moved
    ]
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


def _again(report: ForgettingReport) -> list[str]:
    if not report.again:
        return []
    changed = [repeat for repeat in report.again if not repeat.same]
    start = f"What is in use was measured again {_times(len(report.again))}"
    if not changed:
        return [f"{start}, each time with the same result." if len(report.again) > 1 else f"{start}: the same result."]
    last = changed[-1]
    why = f", perhaps because {', '.join(last.differing)} changed" if last.differing else ""
    what = [f"{task} from {was:.3f} to {now:.3f}" for task, (was, now) in last.scores.items()]
    what += [f"{task} could not be measured" for task in last.missing]
    what += [f"{task} by other pictures" for task in last.moved]
    if last.flips and last.flips.flips:
        what.append(f"{_plural(len(last.flips.flips), 'verdict')} changed")
    return [f"{start}; on {last.at:%Y-%m-%d} figures of the same bank differed: {'; '.join(what)}{why}."]


def _refused(report: ForgettingReport) -> list[str]:
    rejected = report.rejected
    if not rejected:
        of = _plural(len(report.decisions), "candidate")
        if report.overridden:
            count = len(report.overridden)
            return [f"{count} of {of} {_were(count)} refused by the gate and let in by a person all the same."]
        return [f"The gate refused none of {of}."] if len(report.decisions) > 1 else []
    start = (
        f"{len(rejected)} of {_plural(len(report.decisions), 'candidate')} {_were(len(rejected))} refused by the gate"
    )
    by_step = {refusal.step: refusal for refusal in report.refusals}
    reasons = [
        f"{_subject(one, by_step[one.step].what)}, {_because(one, why(by_step[one.step], 2))}" for one in rejected[-3:]
    ]
    earlier = f", earlier ones below; the last {len(reasons)}" if len(rejected) > len(reasons) else ""
    return [f"{start} and never used{earlier}: " + "; ".join(reasons) + "."]


def _by_people(report: ForgettingReport) -> list[str]:
    asked = [refusal for refusal in report.refusals if refusal.asked_for is not None]
    waiting = [refusal.asked_for.at for refusal in asked if refusal.asked_for is not None]
    said = [f"To {r.what}: {asked_in_words(r.asked_for)}." for r in asked if r.asked_for is not None]
    overrides = [e for e in report.by_people if e.what.startswith("overrode") and e.at not in waiting]
    if not overrides:
        return said
    last = overrides[-1]
    return [
        *said,
        f"{_times(len(overrides)).capitalize()} a person overrode the gate, the last time {last.who}"
        f" on {last.at:%Y-%m-%d}: “{last.detail.strip().rstrip('.')}”.",
    ]


def _astray(task: TaskFinding) -> str:
    if not task.astray:
        return ""
    return f", and {_plural(task.astray, 'picture')} more than then {_were(task.astray)} not recognised as it"


def _dropped(report: ForgettingReport) -> str:
    """That somebody had gone back to an older bank, which is how a product gets lost without anybody retiring it."""
    back = [event for event in report.by_people if event.what.startswith("took")]
    return f", since {back[-1].who} took an older bank into use ({back[-1].at:%Y-%m-%d})" if back else ""


def _subject(decision: Decision, what: str) -> str:
    return f"the one for {decision.step.learned_task}" if decision.step.learned_task else f"the one to {what}"


def _because(decision: Decision, plain: str) -> str:
    if plain:
        return "because " + plain
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


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{_small(count)} times")


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
