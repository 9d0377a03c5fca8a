"""A forgetting report as strict JSON, as CSV, as Markdown, and as one HTML file that needs nothing else."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

import numpy as np

from stream_ad.domain.evaluation import METRICS, Half
from stream_ad.evaluation import charts
from stream_ad.evaluation import report_tables as tables
from stream_ad.evaluation.findings import Comparison, ForgettingReport, Measured, Overlay, Rate, Standing
from stream_ad.evaluation.pages import template as template_of
from stream_ad.evaluation.refusals import asked_in_words, in_plain_words, why
from stream_ad.evaluation.sentences import interval, points, share

#: how a product stands, as the style sheet names it
TONES = {
    Standing.NEW: "new",
    Standing.SAME: "same",
    Standing.BETTER: "better",
    Standing.SLIGHT: "slight",
    Standing.WORSE: "worse",
    Standing.UNMEASURED: "muted",
    Standing.UNCOMPARED: "muted",
}


def to_json(report: ForgettingReport) -> str:
    """The report as strict JSON: a number that was not measured is null. Of overlays only the captions."""
    return as_json({**_plain(report), "paragraph": report.paragraph})


def as_json(value: Any) -> str:
    """Findings of any kind as strict JSON."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(report: ForgettingReport) -> str:
    """Everything that was measured, a row per bank or candidate and product; what was not measured is empty."""
    return measured_csv(report.measured, report.half, "image AUROC against its best before")


def measured_csv(measured: Sequence[Measured], half: Half, change: str) -> str:
    """For spreadsheets and scripts: RFC 4180, with a heading in the words of the tables.

    Args:
        change: what the change of image AUROC is called, for it says against what.
    """
    columns = ["version", "published", "job", "learned", "measured at", "half", "product", "good", "defective"]
    columns += ["painted defects", *(charts.NAMES[metric] for metric in METRICS)]
    columns += [*(f"{charts.NAMES[metric]}, product told" for metric in METRICS), change, "recognised"]
    columns += ["refused as unknown", "good parts alarmed", "defects found"]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    for row in measured:
        step = row.step
        version = step.version if step.published else None
        cells: list[Any] = [version, "yes" if step.published else "no", step.job_id, step.learned_task]
        cells += [row.at.isoformat(), half.value, row.task, row.n_normal, row.n_defective]
        cells += ["yes" if row.synthetic else "no", *(row.routed.get(metric) for metric in METRICS)]
        cells += [*(row.oracle.get(metric) for metric in METRICS), row.change]
        cells += [_counted(rate) for rate in (row.routing, row.refused, row.false_alarms, row.detections)]
        writer.writerow([_cell(cell) for cell in cells])
    return file.getvalue()


def _counted(rate: Rate) -> int | None:
    return rate.events if rate.trials else None


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # a spreadsheet would run a name that begins like a formula
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value


def to_markdown(report: ForgettingReport) -> str:
    """The report as GitHub-flavoured Markdown, without pictures."""
    parts = ["# Forgetting report", f"**Did anything get worse? {report.answer}** {report.paragraph}"]
    if report.tasks:
        parts += ["## Each product at a glance", markdown_table(*tables.glance(report))]
    if report.events:
        parts += ["## What happened", markdown_table(*tables.happened(report))]
    for refusal in report.refusals:
        parts += [f"## {refused_title(refusal)}", *([sentence(why(refusal))] if why(refusal) else [])]
        parts += [markdown_table(*tables.hurts(refusal.hurts))] if refusal.hurts else []
    if report.flips:
        parts += ["## Verdicts that changed", markdown_table(*tables.flips(report))]
    if report.tasks:
        parts += ["## Products", markdown_table(*tables.products(report))]
        parts += ["## Thresholds and false alarms", markdown_table(*tables.thresholds(report))]
    for finding in report.metrics.values():
        if not finding.tried.steps:
            continue
        matrix = finding.tried
        marked = [f"{task}*" if task in report.painted else task for task in matrix.tasks]
        rows = [
            [
                step.name if step.published else f"{step.name} (refused)",
                *(tables.cell(value, here) for value, here in zip(scores, present, strict=True)),
            ]
            for step, scores, present in zip(matrix.steps, matrix.scores.tolist(), matrix.present.tolist(), strict=True)
        ]
        parts += [f"## {charts.NAMES[finding.metric]} after every version", markdown_table(["", *marked], rows)]
        parts.append(markdown_table(*tables.summaries(report, finding.metric)))
    if report.decisions:
        parts += ["## Decisions of the gate", markdown_table(*tables.decisions(report))]
    if report.again:
        parts += ["## Measured again", markdown_table(*tables.remeasured(report))]
    if report.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in report.notes)]
    parts += ["## Provenance", markdown_table(["what", "value"], tables.provenance(report))]
    return "\n\n".join(parts) + "\n"


def to_html(report: ForgettingReport) -> str:
    """The report as one HTML file: charts and pictures are inside, no script, nothing is fetched."""
    measured = [task for task in report.tasks if not math.isnan(task.routed["image_auroc"])]
    return page("forgetting.html.j2").render(
        report=report,
        names=charts.NAMES,
        glance=tables.glance(report),
        standings=[
            *(TONES[task.standing] for task in report.tasks),
            *("worse" for _ in report.gone),
            *("muted" for _ in report.retired),
        ],
        happened=tables.happened(report),
        products=tables.products(report),
        thresholds=tables.thresholds(report),
        summaries={metric: tables.summaries(report, metric) for metric in report.metrics},
        flips=tables.flips(report),
        decisions=tables.decisions(report),
        remeasured=tables.remeasured(report),
        provenance=tables.provenance(report),
        headline=tables.headline(report),
        metrics=[
            (finding, charts.matrix_chart(finding, report.painted), charts.curves_chart(finding))
            for finding in report.metrics.values()
            if finding.tried.steps and not np.isnan(finding.tried.scores).all()
        ],
        regret_chart=charts.regret_chart(measured) if measured else None,
        alarms_chart=charts.alarms_chart(report.tasks) if any(t.false_alarms.trials for t in report.tasks) else None,
        confusion_chart=charts.confusion_chart(report.confusion) if report.confusion else None,
    )


def page(template: str) -> Any:
    """A template with what the pages of all reports need."""
    return template_of(
        template,
        score=tables.score,
        signed=tables.signed,
        share=share,
        interval=interval,
        points=points,
        sentence=sentence,
        plain=in_plain_words,
        why=why,
        hurts=tables.hurts,
        title_of=refused_title,
    )


def refused_title(refusal: Any) -> str:
    """What a refused candidate is called in a heading."""
    after_all = f", in use since bank {refusal.overridden_in} after all" if refusal.overridden_in is not None else ""
    if refusal.asked_for is not None:
        after_all = f"; {asked_in_words(refusal.asked_for)}"
    return f"Refused: {refusal.what}{after_all}"


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that GitHub shows as one, whatever is in the cells."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(_in_cell(cell) for cell in line) + " |" for line in lines)


def _in_cell(cell: object) -> str:
    return " ".join(str(cell).split()).replace("|", "\\|")


def sentence(text: str) -> str:
    """Text that begins large and ends with a full stop."""
    ended = text.rstrip(".") if not text.endswith("…") else text
    return f"{ended[:1].upper()}{ended[1:]}{'' if ended[-1:] in '?!…' else '.'}" if text else ""


def _plain(value: Any) -> Any:
    """Dictionaries, lists, strings, finite numbers, null."""
    if isinstance(value, Overlay):
        return {"caption": value.caption}
    if isinstance(value, Comparison):
        after = value.after.caption if value.after else value.told
        return {"task": value.task, "truth": value.truth, "before": value.before.caption, "after": after}
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
