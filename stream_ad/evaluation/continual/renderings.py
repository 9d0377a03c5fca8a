"""The figures as Markdown, and as one HTML page that needs nothing else: tables, heat maps of R, example pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from stream_ad.evaluation import charts
from stream_ad.evaluation.continual import tables
from stream_ad.evaluation.continual.tables import Report, Table
from stream_ad.evaluation.continual.variants import BUDGET
from stream_ad.evaluation.forgetting import forgetting_measure
from stream_ad.evaluation.pages import template

SHOWN_METRICS = ("image_auroc", "pixel_ap")

RANKING = (
    "Every picture alone, its product guessed; a refused picture keeps the nearest product's score. FM: mean loss of"
    " the old products against their best earlier score. Regret: what guessing the product costs in image AUROC"
)
BUDGETED = (
    "The same in a fixed number of rows for all products together: old entries shrink with every new one, so forgetting"
    " is real for every method. Routing keys and replayed pictures are not counted as rows"
)
ROUTING = (
    "Unseen: each product's pictures against the final bank without it. Verdicts changed: between a product's own step"
    " and the last one"
)
ALARMS = (
    "Good pictures above the threshold for a promised rate, pooled over the products for which it can be promised,"
    " against the 95 % beta-binomial interval"
)
ALARMS_APART = "The first method's, product by product; training and test pictures of one product can differ too"


def to_markdown(report: Report) -> str:
    """All tables as GitHub-flavoured Markdown."""
    parts = [f"# {title(report)}", sentence(report)]
    if caveats := warnings(report):
        parts.append("\n".join(f"**{line}**" for line in caveats))
    for heading, caption, table in sections(report):
        parts += [f"## {heading}", *([f"{caption}."] if caption else []), markdown_table(table)]
    for caption, table, remarks in tables.published_tables(report):
        parts += [f"## {caption}", markdown_table(table), "\n".join(f"- {remark}" for remark in remarks)]
    parts += ["## Pictures", markdown_table(tables.pictures(report))]
    parts += ["## Provenance", markdown_table(tables.provenance(report))]
    return "\n\n".join(parts) + "\n"


def to_html(report: Report, gallery: Mapping[str, Sequence[tuple[str, bytes]]]) -> str:
    """One page; `gallery`: of each product captions and JPEG pictures."""
    return template("continual.html.j2").render(
        title=title(report),
        sentence=sentence(report),
        warnings=warnings(report),
        date=report["provenance"]["date"],
        numbers=_numbers(report),
        sections=sections(report),
        heatmaps=[
            (charts.NAMES[metric], [(name, _heat(report, name, metric)) for name in report["detectors"]])
            for metric in SHOWN_METRICS
        ],
        forgetting=_forgetting_chart(report),
        published=tables.published_tables(report),
        gallery=gallery,
        first=next(iter(report["detectors"])),
        pictures=tables.pictures(report),
        provenance=tables.provenance(report),
    )


def title(report: Report) -> str:
    return f"{len(report['tasks'])} products learned one by one"


def sentence(report: Report) -> str:
    """What was run, in one line."""
    found = report["provenance"]
    orders = len(found["seeds"])
    times = "one order of arrival" if orders == 1 else f"{orders} orders of arrival, each with its seed"
    return f"Preset {found['preset']}, features {' and '.join(found['features'])}, {times}. {RANKING}."


def warnings(report: Report) -> list[str]:
    """What keeps these figures from being results."""
    found = report["provenance"]
    said = []
    if found["limit"]:
        said.append(f"A quick look at {found['limit']} pictures per set: no figure here is a result.")
    if found["caveat"]:
        said.append(f"{found['caveat']}.")
    if any(one["synthetic"] for one in next(iter(report["detectors"].values()))["per_task"].values()):
        said.append("Some defects are synthetic: painted by a program.")
    return said


def sections(report: Report) -> list[tuple[str, str, Table]]:
    """(heading, caption, table) of all that has rows."""
    found = [
        ("After the last product", "", tables.headline(report, budgeted=False)),
        ("In a fixed number of rows", BUDGETED, tables.headline(report, budgeted=True)),
        ("Differences", report["differences"].get("intervals", ""), tables.differences(report)),
        ("Routing, refusal and verdicts", ROUTING, tables.routing(report)),
        ("False alarms", ALARMS, tables.false_alarms(report)),
        ("False alarms by product", ALARMS_APART, tables.alarms_per_task(report)),
        *(
            (f"{charts.NAMES[m][0].upper()}{charts.NAMES[m][1:]} by product", "", tables.per_task(report, m))
            for m in SHOWN_METRICS
        ),
        ("Methods", "Seconds: features that another method needed before are not counted", tables.methods(report)),
    ]
    return [(heading, caption, table) for heading, caption, table in found if table[1]]


def _numbers(report: Report) -> list[tuple[str, str, str]]:
    """(name, value, explanation) of the first method, at the top."""
    name, found = next(iter(report["detectors"].items()))
    pairs = [
        ("Mean image AUROC", tables.over_orders(found, "average", "image_auroc"), name),
        ("Mean pixel AP", tables.over_orders(found, "average", "pixel_ap"), name),
        ("Forgetting", tables.over_orders(found, "fm", "image_auroc", with_sign=True), "FM, image AUROC"),
        ("Product recognised", tables.number(found["routing_accuracy"], 4), "each picture alone"),
        ("Known, refused", tables.number(found["unknown_rate_known"], 4), "defective ones included"),
        ("Unseen, refused", tables.number(found["unknown_rate_unseen"], 4), "left out one by one"),
    ]
    return [(label, value, explanation) for label, value, explanation in pairs if value != "–"]


def _heat(report: Report, name: str, metric: str) -> tuple[list[str], list[tuple[str, list[tuple[str, str]]]]]:
    """Heading and rows of R; each cell with its colour: the change against the best score before."""
    heading, rows = tables.forgotten(report, name, metric)
    scores = np.array(report["detectors"][name]["R"][metric], float)
    coloured = []
    for step, (task, *texts) in enumerate(rows):
        cells = []
        for column, text in enumerate(texts):
            earlier = scores[column:step, column]
            earlier = earlier[~np.isnan(earlier)]
            colour = ""
            if text and text != "–" and len(earlier):
                change = float(np.clip((scores[step, column] - earlier.max()) / charts.FULL_CHANGE, -1, 1))
                red, green, blue, _ = (round(255 * part) for part in charts.CHANGE((change + 1) / 2))
                ink = "#fff" if abs(change) > 0.8 else charts.INK
                colour = f"background:rgb({red},{green},{blue});color:{ink}"
            cells.append((text, colour))
        coloured.append((task, cells))
    return heading, coloured


def _forgetting_chart(report: Report) -> str | None:
    """Mean loss of old products after each step, of the methods with a fixed number of rows, as SVG."""
    found = {name: one for name, one in report["detectors"].items() if name.endswith(BUDGET)}
    if not found or len(report["tasks"]) < 3:
        return None
    figure = Figure(figsize=(6.8, 3.4))
    axes = figure.subplots()
    steps = range(1, len(report["tasks"]))
    for number, (name, one) in enumerate(found.items()):
        scores = np.array(one["R"]["image_auroc"], float)
        values = [forgetting_measure(scores[: step + 1, : step + 1]) for step in steps]
        colour = charts.PALETTE[number % len(charts.PALETTE)]
        axes.plot(steps, values, color=colour, marker="o", markersize=3.5, linewidth=1.6, label=name)
    axes.axhline(0, color=charts.LINE, linewidth=0.8, zorder=0)
    axes.set_xticks(list(steps), labels=[str(step + 1) for step in steps])
    axes.set_xlabel("products learned")
    axes.set_ylabel("FM, image AUROC")
    axes.grid(axis="y", color=charts.LINE, linewidth=0.6)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return charts.as_svg(figure, "forgetting in a fixed number of rows")


def markdown_table(table: Table) -> str:
    """A heading and rows, as GitHub-flavoured Markdown has them."""
    heading, rows = table
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
