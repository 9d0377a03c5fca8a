"""A forgetting report as strict JSON, as Markdown, and as one HTML file that needs nothing else."""

import base64
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from stream_ad.evaluation import charts
from stream_ad.evaluation.findings import ForgettingReport, Overlay, Rate
from stream_ad.evaluation.sentences import interval, points, share


def to_json(report: ForgettingReport) -> str:
    """The report as strict JSON: a number that was not measured is null. Of overlays only the captions."""
    plain = _plain(report)
    plain["paragraph"] = report.paragraph
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_markdown(report: ForgettingReport) -> str:
    """The report as GitHub-flavoured Markdown, without pictures."""
    parts = ["# Forgetting report", f"**{report.outcome.capitalize()}.** {report.paragraph}"]
    if report.tasks:
        parts += ["## Products", _markdown_table(*_products(report))]
        parts += ["## Thresholds and false alarms", _markdown_table(*_thresholds(report))]
    for finding in report.metrics.values():
        if not finding.tried.steps:
            continue
        matrix = finding.tried
        marked = [f"{task}*" if task in report.painted else task for task in matrix.tasks]
        rows = [
            [_step_name(step), *(_cell(value, here) for value, here in zip(scores, present, strict=True))]
            for step, scores, present in zip(matrix.steps, matrix.scores.tolist(), matrix.present.tolist(), strict=True)
        ]
        parts += [f"## {charts.NAMES[finding.metric]} after every version", _markdown_table(["", *marked], rows)]
        parts.append(_markdown_table(*_summaries(report, finding.metric)))
    if report.flips:
        parts += ["## Verdicts that changed", _markdown_table(*_flips(report))]
    if report.decisions:
        parts += ["## Decisions of the gate", _markdown_table(*_decisions(report))]
    if report.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in report.notes)]
    parts += ["## Provenance", _markdown_table(["what", "value"], _provenance(report))]
    return "\n\n".join(parts) + "\n"


def to_html(report: ForgettingReport) -> str:
    """The report as one HTML file: charts and pictures are inside, no script, nothing is fetched."""
    environment = Environment(
        loader=PackageLoader("stream_ad.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": _score, "signed": _signed, "share": share, "interval": interval}
    environment.filters |= {"svg": _svg_uri, "jpeg": _jpeg_uri, "points": points}
    tasks = report.tasks
    measured = [task for task in tasks if not math.isnan(task.routed["image_auroc"])]
    return environment.get_template("forgetting.html.j2").render(
        report=report,
        names=charts.NAMES,
        products=_products(report),
        thresholds=_thresholds(report),
        summaries={metric: _summaries(report, metric) for metric in report.metrics},
        flips=_flips(report),
        decisions=_decisions(report),
        provenance=_provenance(report),
        headline=_headline(report),
        metrics=[
            (finding, charts.matrix_chart(finding, report.painted), charts.curves_chart(finding))
            for finding in report.metrics.values()
            if finding.tried.steps and not np.isnan(finding.tried.scores).all()
        ],
        regret_chart=charts.regret_chart(measured) if measured else None,
        alarms_chart=charts.alarms_chart(tasks) if any(task.false_alarms.trials for task in tasks) else None,
        confusion_chart=charts.confusion_chart(report.confusion) if report.confusion else None,
    )


# --- tables: a heading and rows of text, for Markdown and HTML alike --------------------------------

Table = tuple[list[str], list[list[str]]]


def _products(report: ForgettingReport) -> Table:
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
                _score(task.routed["image_auroc"]) + painted,
                _loss(task.loss["image_auroc"]) if "image_auroc" in task.loss else "–",
                _score(task.routed["pixel_ap"]) + painted,
                _score(task.oracle["image_auroc"]) + painted,
                _percent(task.routing),
                _percent(task.detections),
                "; ".join(remarks) or "–",
            ]
        )
    return heading, rows


def _thresholds(report: ForgettingReport) -> Table:
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


def _summaries(report: ForgettingReport, metric: str) -> Table:
    finding = report.metrics[metric]
    heading = ["version", "ACC", "BWT", "FM", "regret", "ACC, told", "BWT, told", "FM, told"]
    rows = [
        [
            str(step.version),
            _score(routed.average),
            _signed(routed.backward_transfer),
            _signed(routed.forgetting),
            _signed(routed.regret),
            _score(oracle.average),
            _signed(oracle.backward_transfer),
            _signed(oracle.forgetting),
        ]
        for step, routed, oracle in zip(
            finding.routed.steps, finding.routed_summary, finding.oracle_summary, strict=True
        )
    ]
    return heading, rows


def _flips(report: ForgettingReport) -> Table:
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


def _decisions(report: ForgettingReport) -> Table:
    heading = ["candidate", "job", "product", "outcome", "FM", "largest loss", "verdicts changed", "reason"]
    rows = []
    for decision in report.decisions:
        worst = "–" if decision.worst_task is None else "nothing"
        if decision.worst_loss > 1e-9:
            worst = f"{points(decision.worst_loss)} ({decision.worst_task})"
        rows.append(
            [
                f"version {decision.step.version}",
                str(decision.step.job_id) if decision.step.job_id is not None else "–",
                decision.step.learned_task or "–",
                "published" if decision.step.published else "refused",
                _signed(decision.forgetting),
                worst,
                f"{len(decision.flips.flips)} of {decision.flips.compared}" if decision.flips else "–",
                decision.reason or "–",
            ]
        )
    return heading, rows


def _provenance(report: ForgettingReport) -> list[list[str]]:
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


def _headline(report: ForgettingReport) -> list[tuple[str, str, str]]:
    """(name, value, explanation) of the numbers at the top."""
    finding = report.metrics["image_auroc"]
    if finding.current < 0:
        return []
    routed = finding.routed_summary[finding.current]
    return [
        ("Mean image AUROC", _score(routed.average), "ACC" + (", some defects synthetic" if report.painted else "")),
        ("Forgetting", _signed(routed.forgetting), "FM, 0 is nothing lost"),
        ("Cost of guessing", _signed(routed.regret), "regret, mean image AUROC"),
        ("Product recognised", _percent(report.routing), f"{report.routing.trials} pictures"),
        ("False alarms", _percent(report.false_alarms), f"{report.false_alarms.trials} good parts"),
        ("Defects found", _percent(report.detections), f"{report.detections.trials} defective parts"),
    ]


def _markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


# --- one value ------------------------------------------------------------------------------------


def _step_name(step: Any) -> str:
    return f"version {step.version}" if step.published else f"refused: {step.learned_task}"


def _cell(value: float, present: bool) -> str:
    return _score(value) if present else ""


def _score(value: float) -> str:
    return "not measured" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    """With a sign, a true minus, and zero only for zero."""
    if math.isnan(value):
        return "–"
    if abs(value) < 1e-9:
        return "0"
    text = f"{value:+.3f}" if abs(value) >= 0.0005 else f"{value:+.1g}"
    return text.replace("-", "−", 1)


def _loss(value: float) -> str:
    return "nothing" if abs(value) < 1e-9 else f"gained {points(-value)}" if value < 0 else points(value)


def _percent(rate: Rate) -> str:
    return f"{100 * rate.value:.1f} %" if rate.trials else "not measured"


def _svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _jpeg_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _plain(value: Any) -> Any:
    """Dictionaries, lists, strings, finite numbers, null."""
    if isinstance(value, Overlay):
        return {"caption": value.caption}
    if isinstance(value, Rate):
        low, high = (value.low, value.high) if value.trials else (None, None)
        return {"events": value.events, "trials": value.trials, "value": _plain(value.value), "low": low, "high": high}
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
