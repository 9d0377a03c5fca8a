"""Curves of robustness as figures for JSON, as Markdown, and as one HTML page with charts.

A *report* is plain JSON:

    {"tasks": [...], "settings": {...}, "provenance": {...},
     "methods": {NAME: {"products": {TASK: {"corruptions": {KIND: [level]}, "attack": {KIND: [level]}}},
                        "corruptions": {KIND: [pooled level]}, "attack": {KIND: [pooled level]}}}}
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stream_ad.evaluation.charts import BLUE, LINE, RED, as_svg
from stream_ad.evaluation.metrics import rate_interval
from stream_ad.evaluation.pages import template
from stream_ad.evaluation.robustness import ATTACK, NOISE, Curves

Report = Mapping[str, Any]
GROUPS = ("corruptions", "attack")
COLOURS = (BLUE, RED)
PROMISE = (
    "Every picture with its product told. Thresholds are set by undisturbed good pictures and stay; corruptions are"
    " defined in `stream_ad/functional/corruptions.py`. The attack is PGD on the image score through the backbone, each"
    " bound in grey levels of 255, good pictures driven up and defective ones down; the reference is noise of the same"
    " size."
)


def plain(curves: Curves) -> dict[str, list[dict[str, Any]]]:
    """Curves as JSON has them: not measured is null."""
    return {
        kind: [{name: _plain(value) for name, value in asdict(level).items()} for level in levels]
        for kind, levels in curves.items()
    }


def pooled(products: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
    """Several products' curves as one: means of AUROC and AP over those that have them, counts added up."""
    result = {}
    for kind in products[0] if products else ():
        rows = []
        for levels in zip(*(curves[kind] for curves in products), strict=True):
            counts = {key: sum(one[key] for one in levels) for key in ("good", "false_alarms", "defective", "detected")}
            means = {key: _mean([one[key] for one in levels]) for key in ("image_auroc", "pixel_ap")}
            rows.append({"severity": levels[0]["severity"], **means, **counts})
        result[kind] = rows
    return result


def to_markdown(report: Report) -> str:
    """The pooled curves as tables, a row for each method and measure."""
    parts = [f"# {_title(report)}", PROMISE]
    for group, kind in _kinds(report):
        parts += [f"## {_heading(kind)}", _markdown_table(*_table(report, group, kind))]
    parts += ["## Provenance", _markdown_table(("what", "value"), _provenance(report))]
    return "\n\n".join(parts) + "\n"


def to_html(report: Report) -> str:
    """One page that needs nothing else."""
    sections = [
        (_heading(kind), _chart(report, group, kind), *_table(report, group, kind)) for group, kind in _kinds(report)
    ]
    return template("robustness.html.j2").render(
        title=_title(report), promise=PROMISE.replace("`", ""), sections=sections, provenance=_provenance(report)
    )


def _kinds(report: Report) -> list[tuple[str, str]]:
    first = next(iter(report["methods"].values()))
    corruptions = [("corruptions", kind) for kind in first["corruptions"]]
    return corruptions + ([("attack", ATTACK)] if first["attack"] else [])


def _title(report: Report) -> str:
    tasks = report["tasks"]
    return f"Robustness of {len(tasks)} product{'' if len(tasks) == 1 else 's'}, with text and without"


def _heading(kind: str) -> str:
    return "Attack (PGD) and noise of the same size" if kind == ATTACK else kind.capitalize()


def _lines(report: Report, group: str, kind: str) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    """What one table or chart compares: methods, and under attack each with its reference."""
    found = []
    for name, method in report["methods"].items():
        found.append((f"{name}, {kind}" if group == "attack" else name, method[group][kind]))
        if group == "attack":
            found.append((f"{name}, {NOISE}", method[group][NOISE]))
    return found


def _table(report: Report, group: str, kind: str) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    lines = _lines(report, group, kind)
    unit = "bound" if group == "attack" else "severity"
    head = ("", "method", *(f"{unit} {level['severity']}" for level in lines[0][1]))
    rows = []
    for measure, cell in (
        ("image AUROC", lambda one: _number(one["image_auroc"])),
        ("pixel AP", lambda one: _number(one["pixel_ap"])),
        ("false alarms", lambda one: _share(one["false_alarms"], one["good"])),
        ("detected", lambda one: _share(one["detected"], one["defective"])),
    ):
        rows += [(measure, name, *(cell(level) for level in levels)) for name, levels in lines]
    return head, rows


def _chart(report: Report, group: str, kind: str) -> str:
    """AUROC, and false alarms and detections at the threshold, over severity."""
    figure = Figure(figsize=(9.6, 3.0))
    panels = figure.subplots(1, 3)
    lines = _lines(report, group, kind)
    for number, (name, levels) in enumerate(lines):
        colour = COLOURS[(number // 2 if group == "attack" else number) % len(COLOURS)]
        style = ":" if group == "attack" and number % 2 else "-"
        places = [level["severity"] for level in levels]
        auroc = [np.nan if level["image_auroc"] is None else level["image_auroc"] for level in levels]
        panels[0].plot(places, auroc, style, color=colour, marker="o", markersize=3.5, label=name)
        for panel, events, trials in (
            (panels[1], "false_alarms", "good"),
            (panels[2], "detected", "defective"),
        ):
            rates = [100 * level[events] / max(level[trials], 1) for level in levels]
            bounds = [rate_interval(level[events], level[trials]) for level in levels]
            panel.plot(places, rates, style, color=colour, marker="o", markersize=3.5)
            low, high = ([100 * one[side] for one in bounds] for side in (0, 1))
            panel.fill_between(places, low, high, color=colour, alpha=0.08, linewidth=0)
    for panel, label in zip(panels, ("image AUROC", "false alarms, %", "defects detected, %"), strict=True):
        panel.set_title(label, fontsize=9)
        panel.set_xticks([level["severity"] for level in lines[0][1]])
        panel.grid(axis="y", color=LINE, linewidth=0.6)
    for panel in panels[1:]:
        panel.set_ylim(-3, 103)
    figure.legend(loc="outside lower center", ncols=len(lines), frameon=False, fontsize=8.5)
    return as_svg(figure, _heading(kind))


def _provenance(report: Report) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), str(value)) for name, value in (report["settings"] | report["provenance"]).items()]


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _share(events: int, trials: int) -> str:
    return f"{events} of {trials}" if trials else "not measured"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None
