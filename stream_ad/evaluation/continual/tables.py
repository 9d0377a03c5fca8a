"""The figures of a run as tables of text: a heading and rows, for Markdown and HTML alike."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stream_ad.evaluation.charts import NAMES
from stream_ad.evaluation.continual import published
from stream_ad.evaluation.continual.variants import BUDGET

Report = Mapping[str, Any]
Table = tuple[list[str], list[list[str]]]

PROTOCOL = (
    "Protocols differ. Theirs: as printed; how epochs and b of Eq. 14 were chosen without labels is not said."
    " Ours: every picture alone, its product guessed, nothing chosen on test pictures"
)


def headline(report: Report, *, budgeted: bool) -> Table:
    """After the last task, each picture alone. With several orders: mean and standard deviation over them."""
    heading = ["method", "image AUROC", "image AP", "pixel AUROC", "pixel AP", "PRO", "FM image", "FM pixel AP"]
    heading += ["regret", "rows", "MB"]
    rows = []
    for name, found in report["detectors"].items():
        if name.endswith(BUDGET) is not budgeted:
            continue
        cells = [over_orders(found, "average", metric) for metric in NAMES]
        cells += [over_orders(found, "fm", metric, with_sign=True) for metric in ("image_auroc", "pixel_ap")]
        cells += [signed(found["regret"]["image_auroc"]), str(found["rows"]), f"{found['megabytes']:.2f}"]
        rows.append([name, *cells])
    return heading, rows


def methods(report: Report) -> Table:
    """What is behind each name."""
    rows = [
        [name, found["about"], f"{found['image_size']} px", str(found["budget_rows"] or "–"), f"{found['seconds']:.0f}"]
        for name, found in report["detectors"].items()
    ]
    return ["method", "what it is", "input", "rows allowed", "seconds"], rows


def routing(report: Report) -> Table:
    """Methods that guess the product."""
    heading = ["method", "product recognised", "known, refused", "unseen, refused", "verdicts changed", "of"]
    rows = []
    for name, found in report["detectors"].items():
        if found["routing_accuracy"] is None:
            continue
        flips = found["flips"]
        rows.append(
            [
                name,
                number(found["routing_accuracy"], 4),
                number(found["unknown_rate_known"], 4),
                number(found["unknown_rate_unseen"], 4),
                "–" if flips is None else str(flips),
                "–" if flips is None else str(found["flips_detail"]["compared"]),
            ]
        )
    return heading, rows


def false_alarms(report: Report) -> Table:
    """Pooled over the products for which the rate can be promised."""
    heading = ["method", "promised", "good pictures", "alarms", "chance allows", "inside", "cannot be promised for"]
    rows = []
    for name, found in report["detectors"].items():
        for rate, pooled in (found["false_alarms"] or {}).items():
            inside = {True: "yes", False: "no", None: "–"}[pooled["inside"]]
            rows.append(
                [
                    name,
                    f"{100 * float(rate):g} %",
                    str(pooled["images"]),
                    str(pooled["alarms"]),
                    f"{pooled['low']} to {pooled['high']}" if pooled["images"] else "–",
                    inside,
                    ", ".join(pooled["cannot_be_promised"]) or "–",
                ]
            )
    return heading, rows


def alarms_per_task(report: Report) -> Table:
    """The first method's false alarms, product by product."""
    found = next(iter(report["detectors"].values()))
    heading = ["product", "calibrated on", "good pictures", *(f"above the {r} threshold" for r in rates(found))]
    heading += ["with refusals"]
    rows = []
    for task in report["tasks"]:
        each = [pooled["per_task"][task] for pooled in (found["false_alarms"] or {}).values()]
        if each:
            counts = [str(one["oracle"]) for one in each]
            rows.append(
                [task, str(each[0]["calibrated_on"]), str(each[0]["good"]), *counts, str(each[0]["routed_or_refused"])]
            )
    return heading, rows


def rates(found: Mapping[str, Any]) -> list[str]:
    return [f"{100 * float(rate):g} %" for rate in found["false_alarms"] or {}]


def per_task(report: Report, metric: str) -> Table:
    """Every product after the last task: rows the products, columns the methods, routed."""
    names = list(report["detectors"])
    rows = [
        [task, *(number(report["detectors"][name]["per_task"][task]["routed"][metric]) for name in names)]
        for task in report["tasks"]
    ]
    return ["product", *names], [*rows, ["mean", *(number(report["detectors"][n]["average"][metric]) for n in names)]]


def differences(report: Report) -> Table:
    """How much the first method is above each other one."""
    found = report["differences"]
    rows = []
    for name, metrics in found["minus"].items():
        cells = []
        for metric in ("image_auroc", "pixel_ap"):
            one = metrics[metric]
            cells += (
                ["–", "–"] if one is None else [signed(one["value"]), f"{signed(one['low'])} to {signed(one['high'])}"]
            )
        rows.append([f"{found['of']} − {name}", *cells])
    return ["", "image AUROC", "95 %", "pixel AP", "95 %"], rows


def forgotten(report: Report, name: str, metric: str) -> Table:
    """R of one method: rows after each task, columns the tasks."""
    tasks = report["tasks"]
    rows = report["detectors"][name]["R"][metric]
    return ["after", *tasks], [
        [task, *("" if value is None and column > row else number(value) for column, value in enumerate(scores))]
        for row, (task, scores) in enumerate(zip(tasks, rows, strict=True))
    ]


def published_tables(report: Report) -> list[tuple[str, Table, list[str]]]:
    """(caption, table, remarks): the paper's rows with ours below, or as context beside other pictures."""
    data = report["provenance"]["data"]
    sets = {one["dataset"] for one in data.values()}
    found = []
    for table in published.TABLES:
        if sets == {table.dataset}:
            found.append(_beside(report, table))
    return found or [_context(report)]


def _beside(report: Report, table: published.PublishedTable) -> tuple[str, Table, list[str]]:
    data = report["provenance"]["data"]
    by_category = {one["category"]: task for task, one in data.items()}
    here = [category for category in table.categories if category in by_category]
    whole = len(here) == len(table.categories) and all(data[by_category[c]]["complete"] for c in here)
    rows = []
    for row in table.rows:
        values = dict(zip(table.categories, row.values, strict=True))
        name = f"{row.method} (the paper's own)" if row.method == published.THEIRS else row.method
        if (table.number, row.method) in published.REMARKS:
            name += " ¹"
        rows.append([name, *(number(values[c]) for c in here), number(row.average), number(row.fm)])
    for name, ours in report["detectors"].items():
        if name.endswith(BUDGET):
            continue
        cells = [ours["per_task"][by_category[category]]["routed"][table.metric] for category in here]
        mark = "ours" if whole else "ours, other split"
        values = [number(value) for value in (*cells, ours["average"][table.metric], ours["fm"][table.metric])]
        rows.append([f"{name} ({mark})", *values])
    remarks = [f"{PROTOCOL}. Backbone of ours: {report['provenance']['features'][0]}."]
    if not whole:
        missing = len(table.categories) - len(here)
        remarks.append(
            f"Other split: {missing} products are missing." if missing else "Other split: not all of its pictures."
        )
        remarks.append("Published averages are over all products of the set.")
    remarks += [f"¹ {method}: {text}." for (n, method), text in published.REMARKS.items() if n == table.number]
    return (
        f"Table {table.number} of the paper: {NAMES[table.metric]} on {table.dataset}",
        (
            ["method", *here, "average", "FM"],
            rows,
        ),
        remarks,
    )


def _context(report: Report) -> tuple[str, Table, list[str]]:
    """Published averages beside another set of pictures: they cannot be compared, and the caption says so."""
    heading = ["method, other split"]
    heading += [f"{table.dataset} {NAMES[table.metric]} / FM" for table in published.TABLES]
    rows = []
    for method in ("PatchCore", "PatchCore*", "UniAD*", "UCAD", published.THEIRS):
        each = [table.row(method) for table in published.TABLES if any(row.method == method for row in table.rows)]
        cells = [f"{number(row.average)} / {number(row.fm)}" for row in each]
        name = f"{method} (the paper's own)" if method == published.THEIRS else method
        rows.append([name, *cells] if len(cells) == len(published.TABLES) else [name, *_with_gaps(method)])
    remarks = [
        "Context only: other pictures, another backbone, another protocol; not to be compared with the figures above.",
        *(f"{method}, Table {n}: {text}." for (n, method), text in published.REMARKS.items() if method == "PatchCore*"),
    ]
    return "Published averages of Zhou et al. 2026, *other split*", (heading, rows), remarks


def _with_gaps(method: str) -> list[str]:
    return [
        next((f"{number(row.average)} / {number(row.fm)}" for row in table.rows if row.method == method), "–")
        for table in published.TABLES
    ]


def pictures(report: Report) -> Table:
    """What was learned from and judged by."""
    heading = ["product", "data set", "whole split", "training pictures", "test good", "test defective", "remarks"]
    rows = []
    for task, one in report["provenance"]["data"].items():
        remarks = [one["note"]] if one["note"] else []
        if one["left_out_because_in_test"]:
            remarks.append(f"{one['left_out_because_in_test']} training pictures left out: they are test pictures too")
        rows.append(
            [
                task,
                one["dataset"] or "–",
                "yes" if one["complete"] else "no",
                str(one["train"]),
                str(one["test_good"]),
                str(one["test_defective"]),
                "; ".join(remarks) or "–",
            ]
        )
    return heading, rows


def provenance(report: Report) -> Table:
    """Where the numbers come from."""
    found = report["provenance"]
    rows = [
        [key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for key, value in found.items()
        if key not in ("data", "test_reads") and value not in (None, "", [])
    ]
    reads = found["test_reads"]
    looks = f"{len(reads)} times, {sum(read['images'] for read in reads)} pictures"
    return ["what", "value"], [*rows, ["test pictures were looked at", looks]]


# --- one cell ---------------------------------------------------------------------------------------


def over_orders(found: Mapping[str, Any], kind: str, metric: str, *, with_sign: bool = False) -> str:
    """Mean and standard deviation over orders of arrival; the plain value of one order."""
    values = [order[kind][metric] for order in found["orders"]]
    if any(value is None for value in values):
        return "–"
    mean = float(np.mean(values))
    text = signed(mean) if with_sign else number(mean)
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):.3f}"


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """With a sign, a true minus, and none for nothing."""
    if value is None:
        return "–"
    return "0" if abs(value) < 1e-9 else f"{value:+.3f}".replace("-", "−")
