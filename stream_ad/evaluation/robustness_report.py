"""Curves of robustness as figures for JSON, as Markdown, and as one HTML page with charts.

A *report* is plain JSON:

    {"tasks": [...], "settings": {...}, "provenance": {...},
     "methods": {NAME: {"products": {TASK: {"corruptions": {KIND: [level]}, "attack": {KIND: [level]}}},
                        "corruptions": {KIND: [pooled level]}, "attack": {KIND: [pooled level]}}}}
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment
from matplotlib.figure import Figure

from stream_ad.evaluation.charts import BLUE, LINE, RED, as_svg
from stream_ad.evaluation.metrics import rate_interval
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
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    sections = []
    for group, kind in _kinds(report):
        head, rows = _table(report, group, kind)
        chart = base64.b64encode(_chart(report, group, kind).encode()).decode()
        sections.append((_heading(kind), chart, head, rows))
    return environment.from_string(_PAGE).render(
        title=_title(report),
        promise=PROMISE.replace("`", ""),
        style=(files("stream_ad.evaluation") / "templates" / "style.css").read_text(encoding="utf-8"),
        sections=sections,
        provenance=_provenance(report),
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


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
{{ style | safe }}
main { max-width: 76rem; }
</style>
</head>
<body>
<main>
<header>
<h1>{{ title }}</h1>
<p>{{ promise }}</p>
</header>
{% for heading, chart, head, rows in sections %}
<section>
<h2>{{ heading }}</h2>
<figure class="chart"><div class="scroll"><img src="data:image/svg+xml;base64,{{ chart }}" alt="{{ heading }}"></div>
<figcaption>Bands are exact 95 % intervals.</figcaption></figure>
<div class="scroll"><table>
<thead><tr>{% for cell in head %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
</section>
{% endfor %}
<section>
<h2>Where these numbers come from</h2>
<dl>{% for name, value in provenance %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
</section>
</main>
</body>
</html>
"""
