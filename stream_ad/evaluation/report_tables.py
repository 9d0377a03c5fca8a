"""The tables of a forgetting report: a heading and rows of text, for Markdown, HTML and the terminal alike."""

import math
from collections.abc import Sequence

from stream_ad.evaluation.events import Event
from stream_ad.evaluation.findings import Decision, ForgettingReport, Rate, Standing, TaskFinding
from stream_ad.evaluation.refusals import Alone, Hurt, asked_in_words
from stream_ad.evaluation.sentences import interval, points, share

Table = tuple[list[str], list[list[str]]]


def products(report: ForgettingReport) -> Table:
    heading = [
        "product",
        "version",
        "good",
        "defective",
        "image AUROC",
        "lost",
        "pixel AP",
        "product told",
        "recognised",
    ]
    heading += ["defects found", "remarks"]
    rows = []
    for task in report.tasks:
        again = f", again {', '.join(map(str, task.adapted_again_in))}" if task.adapted_again_in else ""
        painted = "*" if task.synthetic else ""
        remarks = [*(["* synthetic defects"] if task.synthetic else []), *task.notes]
        rows.append(
            [
                task.task,
                f"{task.learned_in}{again}",
                str(task.n_normal),
                str(task.n_defective),
                score(task.routed["image_auroc"]) + painted,
                loss(task.loss["image_auroc"]) if "image_auroc" in task.loss else "–",
                score(task.routed["pixel_ap"]) + painted,
                score(task.oracle["image_auroc"]) + painted,
                percent(task.routing),
                percent(task.detections),
                "; ".join(remarks) or "–",
            ]
        )
    return heading, rows


def thresholds(report: ForgettingReport) -> Table:
    heading = ["product", "threshold", "promised", "achieved on good parts", "95 % interval", "set by", "remarks"]
    rows = []
    for task in report.tasks:
        promise, rate = task.promise, task.false_alarms
        remarks = ["more often than promised, beyond chance"] if task.alarms_too_often else []
        if promise and not promise.can_promise:
            needed = math.ceil(1 / promise.rate - 1 - 1e-9)
            remarks.append(f"cannot be promised: needs {needed} good pictures")
        elif promise and promise.approximate:
            remarks.append("approximate: scores from five partial memories")
        rows.append(
            [
                task.task,
                f"{promise.threshold:.4g}" if promise else "–",
                f"{100 * promise.rate:g} %" if promise else "–",
                share(rate),
                interval(rate) if rate.trials else "–",
                f"{promise.images} good pictures" if promise else "–",
                "; ".join(remarks) or "–",
            ]
        )
    return heading, rows


def summaries(report: ForgettingReport, metric: str) -> Table:
    finding = report.metrics[metric]
    heading = ["version", "ACC", "BWT", "FM", "regret", "ACC, told", "BWT, told", "FM, told"]
    rows = [
        [
            str(step.version),
            score(routed.average),
            signed(routed.backward_transfer),
            signed(routed.forgetting),
            signed(routed.regret),
            score(oracle.average),
            signed(oracle.backward_transfer),
            signed(oracle.forgetting),
        ]
        for step, routed, oracle in zip(
            finding.routed.steps, finding.routed_summary, finding.oracle_summary, strict=True
        )
    ]
    return heading, rows


def flips(report: ForgettingReport) -> Table:
    heading = ["versions", "pictures compared", "changed", "newly alarmed", "newly missed", "put right", "how"]
    rows = [
        [
            f"{change.before_version} → {change.after_version}",
            str(change.compared),
            str(len(change.flips)),
            str(change.new_false_alarms),
            str(change.newly_missed),
            str(change.corrected),
            ", ".join(f"{was} → {now}: {count}" for (was, now), count in change.counts.items()) or "–",
        ]
        for change in report.flips
    ]
    return heading, rows


def decisions(report: ForgettingReport) -> Table:
    heading = ["candidate", "job", "product", "outcome", "FM", "largest loss", "verdicts changed", "reason"]
    rows = []
    in_spite = {job: "published against the gate" for job in report.overridden}
    for decision in report.decisions:
        worst = "–" if decision.worst_task is None else "nothing"
        if decision.worst_loss > 1e-9:
            worst = f"{points(decision.worst_loss)} ({decision.worst_task})"
        rows.append(
            [
                decision.step.name,
                str(decision.step.job_id) if decision.step.job_id is not None else "–",
                decision.step.learned_task or "–",
                in_spite.get(decision.step.job_id or 0, "published") if decision.step.published else "refused",
                signed(decision.forgetting),
                worst,
                f"{len(decision.flips.flips)} of {decision.flips.compared}" if decision.flips else "–",
                _reason(decision),
            ]
        )
    return heading, rows


def _reason(decision: Decision) -> str:
    asked = asked_in_words(decision.asked_for) if decision.asked_for is not None else ""
    return "; ".join(filter(None, (asked, decision.reason))) or "–"


def provenance(report: ForgettingReport) -> list[list[str]]:
    """What every number rests on."""
    rows = [
        [key, value + (" (differs between versions)" if key in report.mixed else "")]
        for key, value in report.provenance.items()
    ]
    return [
        ["bank version", str(report.version) if report.version is not None else "–"],
        ["held-out half", report.half.value],
        ["report made", f"{report.made_at:%Y-%m-%d %H:%M} {report.made_at:%Z}".strip()],
        *rows,
    ]


def headline(report: ForgettingReport) -> list[tuple[str, str, str]]:
    """(name, value, explanation) of the numbers at the top."""
    finding = report.metrics["image_auroc"]
    if finding.current < 0:
        return []
    routed = finding.routed_summary[finding.current]
    return [
        ("Defects found", percent(report.detections), f"{report.detections.trials} defective parts"),
        ("False alarms", percent(report.false_alarms), f"{report.false_alarms.trials} good parts"),
        ("Product recognised", percent(report.routing), f"{report.routing.trials} pictures"),
        ("Forgetting", signed(routed.forgetting), "FM, 0 is nothing lost"),
        ("Cost of guessing", signed(routed.regret), "regret, mean image AUROC"),
        ("Mean image AUROC", score(routed.average), "ACC" + (", some defects synthetic" if report.painted else "")),
    ]


# --- at a glance ------------------------------------------------------------------------------------

#: how a product stands, with a sign that needs no colour
SIGNS = {
    Standing.NEW: "+",
    Standing.SAME: "=",
    Standing.BETTER: "↑",
    Standing.SLIGHT: "↓",
    Standing.WORSE: "↓↓",
    Standing.UNMEASURED: "?",
    Standing.UNCOMPARED: "?",
}


def glance(report: ForgettingReport) -> Table:
    """One line a product, for somebody who wants to know whether anything got worse."""
    heading = ["product", "against its best", "verdicts that changed since it was learned", "defects found"]
    heading += ["good parts alarmed", "recognised"]
    rows = [
        [
            task.task,
            f"{SIGNS[task.standing]} {task.standing}",
            changed(task),
            of(task.detections) + (" painted" if task.synthetic and task.detections.trials else ""),
            of(task.false_alarms) + (f", promised {100 * task.promise.rate:g} %" if task.promise else ""),
            of(task.routing) + (f", {task.astray} more before" if task.astray > 0 else ""),
        ]
        for task in report.tasks
    ]
    rows += [[task, "↓↓ not known any more", "–", "–", "–", "–"] for task in report.gone]
    rows += [[task, "retired", "–", "–", "–", "–"] for task in report.retired]
    return heading, rows


def changed(task: TaskFinding) -> str:
    """Verdicts of one product then and now."""
    if not task.compared:
        return "–"
    parts = [
        f"{count} {what}"
        for count, what in (
            (task.newly_missed, "newly missed"),
            (task.newly_alarmed, "newly alarmed"),
            (task.put_right, "put right"),
        )
        if count
    ]
    return f"{', '.join(parts) or 'none'} of {task.compared}"


def of(rate: Rate) -> str:
    """ "19 of 20"."""
    return f"{rate.events} of {rate.trials}" if rate.trials else "not measured"


# --- what happened ----------------------------------------------------------------------------------


def happened(report: ForgettingReport) -> Table:
    """Jobs and people's decisions in order."""
    return ["when", "what", "outcome", "more"], [_event(event) for event in report.events]


def _event(event: Event) -> list[str]:
    by = f" (job {event.job_id})" if event.job_id is not None else ""
    detail = f"{event.who}: “{event.detail}”" if event.who else event.detail
    return [f"{event.at:%Y-%m-%d %H:%M}", event.what + by, event.outcome, detail or "–"]


def remeasured(report: ForgettingReport) -> Table:
    """Every measurement of a bank that had been measured before."""
    heading = ["when", "version", "products", "image AUROC that differs", "verdicts that differ", "remarks"]
    rows = []
    for repeat in report.again:
        remarks = [f"{task} could not be measured" for task in repeat.missing]
        remarks += [f"{task}: other pictures, not compared" for task in repeat.moved]
        remarks += [f"otherwise: {', '.join(repeat.differing)}"] if repeat.differing else []
        rows.append(
            [
                f"{repeat.at:%Y-%m-%d %H:%M}",
                str(repeat.version),
                str(repeat.tasks),
                ", ".join(f"{t} {score(was)} → {score(now)}" for t, (was, now) in repeat.scores.items()) or "none",
                f"{len(repeat.flips.flips)} of {repeat.flips.compared}" if repeat.flips else "–",
                "; ".join(remarks) or "–",
            ]
        )
    return heading, rows


def hurts(found: Sequence[Hurt]) -> Table:
    """What a candidate does to each product."""
    heading = ["product", "image AUROC", "verdicts changed", "defects newly OK", "good parts newly alarmed"]
    heading += ["taken for another", "limit"]
    rows = []
    for hurt in found:
        change = hurt.change
        limit = "exceeded" if hurt.breaches else "kept"
        if change is None:
            rows.append([f"{hurt.task} (new)", *_alone(hurt.alone), limit])
            continue
        taken = ", ".join(f"{count} for {task}" for task, count in change.taken_by.items())
        rows.append(
            [
                hurt.task,
                _moved(change.auroc_before, change.auroc_after),
                f"{change.flips} of {change.n_images}",
                f"{change.hidden_defects} of {change.n_images - change.n_normal}",
                f"{max(0, change.new_false_alarms)} of {change.n_normal}",
                taken or "none",
                limit,
            ]
        )
    return heading, rows


def _alone(measured: Alone | None) -> list[str]:
    """The cells of a product that had no verdicts before: what its own pictures were called."""
    if measured is None:
        return ["not measured", "–", "–", "–", "–"]
    taken = [f"{count} for {task}" for task, count in measured.taken_by.items()]
    taken += [f"{measured.refused} for none that is known"] if measured.refused else []
    return [
        score(measured.auroc),
        "–",
        f"{measured.missed} of {measured.n_images - measured.n_normal}",
        f"{measured.false_alarms} of {measured.n_normal}",
        ", ".join(taken) or "none",
    ]


def _moved(before: float, after: float) -> str:
    if math.isnan(before) and math.isnan(after):
        return "not measured"
    return f"{score(before)} → {score(after)}" if abs(after - before) > 1e-9 else f"{score(after)}"


# --- one value ------------------------------------------------------------------------------------


def cell(value: float, present: bool) -> str:
    return score(value) if present else ""


def score(value: float) -> str:
    return "not measured" if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """With a sign, a true minus, and zero only for zero."""
    if math.isnan(value):
        return "–"
    if abs(value) < 1e-9:
        return "0"
    text = f"{value:+.3f}" if abs(value) >= 0.0005 else f"{value:+.1g}"
    return text.replace("-", "−", 1)


def loss(value: float) -> str:
    return "nothing" if abs(value) < 1e-9 else f"gained {points(-value)}" if value < 0 else points(value)


def percent(rate: Rate) -> str:
    return f"{100 * rate.value:.1f} %" if rate.trials else "not measured"
