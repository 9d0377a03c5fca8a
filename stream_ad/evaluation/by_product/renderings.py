"""The figures of a run as Markdown. Tables that mean the same as those of `bench continual` are made by its code."""

from collections.abc import Mapping, Sequence
from typing import Any

from stream_ad.domain.evaluation import METRICS
from stream_ad.evaluation.by_product.differences import COMPARED
from stream_ad.evaluation.by_product.published import PublishedTable, beside
from stream_ad.evaluation.by_product.sizes import METRICS_BY_SIZE, SIZES
from stream_ad.evaluation.charts import NAMES
from stream_ad.evaluation.continual.renderings import markdown_table
from stream_ad.evaluation.continual.tables import Table, number, over_orders, pictures, provenance, signed

Report = Mapping[str, Any]

BY_SIZE = (
    "Each product's damaged pictures in four parts by the damaged share of the picture; good pictures are in each part."
    " Mean over products and seeds"
)

SECONDS = "Seconds: learning and judging, all products and seeds; what another method had learned before is not counted"


def to_markdown(
    report: Report, published: Sequence[PublishedTable] = (), more: Sequence[tuple[str, str, Table]] = ()
) -> str:
    """All tables; `published`: the paper's rows beside ours; `more`: sections (heading, caption, table) of a bench."""
    parts = [f"# {report['title']}", sentence(report)]
    if caveat := report["provenance"]["caveat"]:
        parts.append(f"**{caveat}.**")
    for heading, caption, table in (*sections(report), *more):
        parts += [f"## {heading}", *([f"{caption}."] if caption else []), markdown_table(table)]
    for one in published:
        parts += [f"## {one.title}", *(markdown_table(beside(report, one, metric)) for metric in one.metrics)]
        parts.append("\n".join(f"- {remark}" for remark in one.remarks))
    parts += ["## Pictures", markdown_table(pictures(report))]
    parts += ["## Provenance", markdown_table(provenance(report))]
    return "\n\n".join(parts) + "\n"


def sentence(report: Report) -> str:
    """What was run, in a few lines."""
    found = report["provenance"]
    seeds = len(found["seeds"])
    return f"{found['split']}. Features {' and '.join(found['features'])}; {seeds} seed{'s' * (seeds > 1)}."


def sections(report: Report) -> list[tuple[str, str, Table]]:
    """(heading, caption, table) of all that has rows."""
    found = [
        ("Means over products", _means_caption(report), headline(report)),
        ("Differences", report["differences"]["intervals"], differences(report)),
        *((_capital(NAMES[metric]), "", per_task(report, metric)) for metric in METRICS),
        ("By size of the damage", BY_SIZE, by_size(report)),
        (
            "Methods",
            SECONDS,
            methods(report),
        ),
    ]
    return [(heading, caption, table) for heading, caption, table in found if table[1]]


def headline(report: Report) -> Table:
    """Means over products; with several seeds their mean and standard deviation."""
    rows = [
        [name, *(over_orders(found, "average", metric) for metric in METRICS)]
        for name, found in report["detectors"].items()
    ]
    return ["method", *(NAMES[metric] for metric in METRICS)], rows


def _means_caption(report: Report) -> str:
    over = next(iter(report["detectors"].values()))["average_over"]
    gaps = [f"{NAMES[metric]} of {count}" for metric, count in over.items() if count < len(report["tasks"])]
    return f"Over {len(report['tasks'])} products" + (
        f"; {', '.join(gaps)}: the others lack good pictures or masks" if gaps else ""
    )


def differences(report: Report) -> Table:
    """How much some methods are above others."""
    main = report["differences"]
    rows = []
    for found in (main, *main["more"]):
        for name, metrics in found["minus"].items():
            cells = []
            for metric in COMPARED:
                one = metrics[metric]
                text = "–" if one is None else f"{signed(one['value'])} ({signed(one['low'])} to {signed(one['high'])})"
                cells.append(text)
            rows.append([f"{found['of']} − {name}", *cells])
    return ["", *(f"{NAMES[metric]} (95 %)" for metric in COMPARED)], rows


def per_task(report: Report, metric: str) -> Table:
    """Rows the products, columns the methods, means over seeds; no rows where it is not measured on any."""
    found = report["detectors"]
    values = {task: [one["per_task"][task]["oracle"][metric] for one in found.values()] for task in report["tasks"]}
    rows = [[task, *map(number, own)] for task, own in values.items() if set(own) != {None}]
    mean = ["**mean**", *(number(one["average"][metric]) for one in found.values())]
    return ["product", *found], [*rows, mean] if rows else []


def by_size(report: Report) -> Table:
    """Rows the methods and parts."""
    rows = []
    for name, found in report["detectors"].items():
        for size in SIZES:
            one = found["sizes"][size]
            if one["images"]:
                share = f"{100 * one['largest']:.2g} %"
                rows.append([name, size, share, *(number(one[metric]) for metric in METRICS_BY_SIZE)])
    return ["method", "damage", "largest, mean", *(NAMES[metric] for metric in METRICS_BY_SIZE)], rows


def methods(report: Report) -> Table:
    """What is behind each name."""
    rows = [
        [name, found["about"], f"{found['image_size']} px", f"{found['seconds']:.0f}"]
        for name, found in report["detectors"].items()
    ]
    return ["method", "what it is", "input", "seconds"], rows


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
