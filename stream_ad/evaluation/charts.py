"""Charts of a forgetting report, as SVG: matplotlib's object interface, no pyplot, no global figure."""

import io
from collections.abc import Collection, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from stream_ad.evaluation.findings import MetricFinding, TaskFinding
from stream_ad.evaluation.forgetting import Confusion

INK, MUTED, LINE = "#1f2933", "#6b7785", "#d9dee3"
BLUE, RED, ORANGE = "#2f6690", "#b3261e", "#c77700"
#: colours that stay apart for the colour-blind and in print (after Okabe and Ito)
PALETTE = ("#2f6690", "#c77700", "#2a8c6c", "#a8487f", "#6b5ca5", "#8a6d3b", "#3a9bc1", "#b3261e")
#: from lost, over unchanged, to gained
CHANGE = LinearSegmentedColormap.from_list("change", ["#c0392b", "#f2a58e", "#f4f6f7", "#a9cbe0", "#2f6690"])
COUNTS = LinearSegmentedColormap.from_list("counts", ["#ffffff", "#2f6690"])
ASTRAY = LinearSegmentedColormap.from_list("astray", ["#fdeceA", "#c0392b"])
#: a change of score from which on a cell has full colour
FULL_CHANGE = 0.05
NAMES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_pro": "PRO to 30 % FPR",
}


def matrix_chart(finding: MetricFinding, painted: Collection[str] = ()) -> str:
    """R with its numbers as SVG; colour shows the change against each product's best earlier score.

    Rows of candidates that the gate refused are labelled so, and show what would have been lost.
    Products whose defects were `painted` get a star.
    """
    matrix = finding.tried
    rows, columns = matrix.scores.shape
    figure = Figure(figsize=(1.5 + 0.78 * columns, 1.0 + 0.36 * rows))
    axes = figure.subplots()
    axes.imshow(
        np.ma.masked_invalid(np.where(np.isnan(matrix.scores), np.nan, np.nan_to_num(finding.change))),
        cmap=CHANGE,
        vmin=-FULL_CHANGE,
        vmax=FULL_CHANGE,
        aspect="auto",
    )
    _grid(axes, rows, columns)
    for row in range(rows):
        for column in range(columns):
            score, change = matrix.scores[row, column], finding.change[row, column]
            if np.isnan(score):
                if matrix.present[row, column]:
                    axes.text(column, row, "n/m", ha="center", va="center", fontsize=8, color=MUTED)
                continue
            strong = abs(change) > 0.8 * FULL_CHANGE
            axes.text(
                column,
                row,
                f"{score:.3f}",
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if strong else INK,
                # the score at which a product started
                fontweight="bold" if np.isnan(change) else "normal",
            )
    names = [_short(task) + ("*" if task in painted else "") for task in matrix.tasks]
    axes.set_xticks(range(columns), labels=names, **_slant(names))
    axes.set_yticks(range(rows), labels=[step.name for step in matrix.steps])
    for step, label in zip(matrix.steps, axes.get_yticklabels(), strict=True):
        label.set_color(INK if step.published else RED)
    axes.xaxis.tick_top()
    return as_svg(figure, f"{NAMES[finding.metric]} of every product after every version")


def curves_chart(finding: MetricFinding) -> str:
    """Each product's routed score over the published versions, as SVG."""
    matrix = finding.routed
    figure = Figure(figsize=(6.6, 3.1 + 0.15 * max(0, len(matrix.tasks) - 8)))
    axes = figure.subplots()
    ends: list[tuple[float, str, str]] = []
    positions = np.arange(len(matrix.steps))
    for column, task in enumerate(matrix.tasks):
        color = PALETTE[column % len(PALETTE)]
        scores = matrix.scores[:, column]
        measured = ~np.isnan(scores)
        if measured.any():
            axes.plot(positions[measured], scores[measured], color=color, marker="o", markersize=3.5, linewidth=1.6)
            ends.append((float(scores[measured][-1]), _short(task), color))
    if ends:
        shown = matrix.scores[~np.isnan(matrix.scores)]
        low, high = float(shown.min()), float(shown.max())
        margin = max(0.01, 0.12 * (high - low))
        axes.set_ylim(low - margin, min(high + margin, 1 + margin / 4))  # nothing is above 1
        heights = _apart([end for end, _, _ in ends], (high - low + 2 * margin) / max(14, 1.1 * len(ends)))
        for (end, name, color), height in zip(ends, heights, strict=True):
            axes.annotate(
                name,
                (positions[-1], end),
                (positions[-1] + 0.02 * max(1, len(positions)), height),
                textcoords="data",
                color=color,
                fontsize=8.5,
                va="center",
                annotation_clip=False,
            )
    axes.set_xlim(-0.15, max(0.5, len(positions) - 1) + 0.02 * max(1, len(positions)))
    axes.set_xticks(positions, labels=[f"version {step.version}" for step in matrix.steps])
    if len(positions) > 8:
        axes.set_xticks(positions, labels=[str(step.version) for step in matrix.steps])
        axes.set_xlabel("version")
    axes.set_ylabel(NAMES[finding.metric])
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    return as_svg(figure, f"{NAMES[finding.metric]} of every product over the versions")


def regret_chart(tasks: Sequence[TaskFinding], metric: str = "image_auroc") -> str:
    """Told the product against guessing it, one line a product, as SVG."""
    figure = Figure(figsize=(6.6, 0.9 + 0.3 * len(tasks)))
    axes = figure.subplots()
    for row, task in enumerate(tasks):
        routed, oracle = task.routed[metric], task.oracle[metric]
        cost = oracle - routed
        axes.plot([routed, oracle], [row, row], color=RED if cost > 0.001 else MUTED, linewidth=2, zorder=1)
        axes.scatter([oracle], [row], s=52, facecolors="white", edgecolors=INK, linewidths=1.3, zorder=2)
        axes.scatter([routed], [row], s=20, color=BLUE, zorder=3)
    axes.scatter([], [], s=52, facecolors="white", edgecolors=INK, linewidths=1.3, label="told the product")
    axes.scatter([], [], s=20, color=BLUE, label="guessing it from the picture")
    _rows(axes, [task.task for task in tasks])
    axes.margins(x=0.08)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_xlabel(NAMES[metric])
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8.5, handletextpad=0.4)
    return as_svg(figure, "score with the product told against guessed, per product")


def alarms_chart(tasks: Sequence[TaskFinding]) -> str:
    """Achieved false alarms with exact intervals, and what was promised, as SVG."""
    figure = Figure(figsize=(6.6, 0.9 + 0.3 * len(tasks)))
    axes = figure.subplots()
    for row, task in enumerate(tasks):
        rate, promise = task.false_alarms, task.promise
        if rate.trials:
            color = RED if task.alarms_too_often else BLUE
            axes.plot([100 * rate.low, 100 * rate.high], [row, row], color=color, linewidth=2, alpha=0.45)
            axes.scatter([100 * rate.value], [row], s=26, color=color, zorder=3)
        if promise is not None:
            axes.plot([100 * promise.rate] * 2, [row - 0.32, row + 0.32], color=INK, linewidth=1.6)
    axes.plot([], [], color=INK, linewidth=1.6, label="promised")
    axes.plot([], [], color=BLUE, marker="o", markersize=4.5, alpha=0.7, label="achieved, with its 95 % interval")
    _rows(axes, [task.task for task in tasks])
    axes.set_xlim(left=-0.5)
    axes.set_xlabel("good parts that raised an alarm, %")
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8.5)
    return as_svg(figure, "false alarms per product, promised and achieved")


def confusion_chart(confusion: Confusion) -> str:
    """True product against product found, as SVG; everything off the diagonal is red."""
    counts = confusion.counts
    rows, columns = counts.shape
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(rows, columns, dtype=bool)
    figure = Figure(figsize=(1.5 + 0.62 * columns, 1.0 + 0.36 * rows))
    axes = figure.subplots()
    axes.imshow(np.ma.masked_where(~right, share), cmap=COUNTS, vmin=0, vmax=1.6, aspect="auto")
    axes.imshow(np.ma.masked_where(right | (counts == 0), share), cmap=ASTRAY, vmin=0, vmax=0.3, aspect="auto")
    _grid(axes, rows, columns)
    for row in range(rows):
        for column in range(columns):
            if counts[row, column] or right[row, column]:
                dark = share[row, column] > 0.2 and not right[row, column]
                axes.text(
                    column,
                    row,
                    counts[row, column],
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white" if dark else INK,
                )
    names = [_short(task) for task in confusion.tasks]
    axes.set_xticks(range(columns), labels=[*names, "refused"], **_slant(names))
    axes.set_yticks(range(rows), labels=names)
    axes.xaxis.tick_top()
    axes.set_ylabel("true product")
    return as_svg(figure, "which product each picture was taken for")


# --- shared -----------------------------------------------------------------------------------------


def as_svg(figure: Figure, title: str) -> str:
    """The figure as an SVG document of its own, equal for equal values."""
    figure.set_layout_engine("constrained")
    figure.set_facecolor("none")
    for axes in figure.axes:
        axes.set_facecolor("none")
        axes.tick_params(length=0, labelsize=8.5)
        axes.xaxis.label.set(color=MUTED, fontsize=8.5)
        axes.yaxis.label.set(color=MUTED, fontsize=8.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "stream-ad", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Title": title})
    return file.getvalue()


def _grid(axes: Axes, rows: int, columns: int) -> None:
    """White lines between cells."""
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), labels=[_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="both", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights moved as little as needed for labels `gap` apart, in their order."""
    order = np.argsort(heights, kind="stable")
    placed = np.array(heights, dtype=float)[order]
    for _ in range(100):
        close = np.diff(placed) < gap - 1e-12
        if not close.any():
            break
        for index in np.flatnonzero(close):
            missing = (gap - (placed[index + 1] - placed[index])) / 2
            if missing > 0:
                placed[index] -= missing
                placed[index + 1] += missing
    result = np.empty(len(placed))
    result[order] = placed
    return result.tolist()


def _slant(names: Sequence[str]) -> dict[str, Any]:
    """Long names stand aslant over their columns."""
    return {"rotation": 25, "ha": "left", "rotation_mode": "anchor"} if max(map(len, names), default=0) > 8 else {}


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"
