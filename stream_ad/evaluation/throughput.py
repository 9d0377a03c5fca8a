"""What a picture costs: figures of the throughput benchmark, and its table.

Every whole is measured in turn with the bare forward, several times over, so that a machine that grows slower in
between slows both. A ratio is taken within each turn; of these the median counts, with the order statistics around it
as an interval (exact for any distribution, as long as turns are alike).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.95


class Cost(NamedTuple):
    """Of one picture, in milliseconds."""

    #: CPU time of the process, all its threads together
    core_ms: float
    #: by the clock on the wall
    wall_ms: float


class Interval(NamedTuple):
    """A median, and where the true one lies."""

    median: float
    low: float
    high: float
    #: share of such intervals that hold the true median; with few turns less than wanted
    confidence: float


@dataclass(frozen=True, slots=True)
class Row:
    """One way of serving, beside the bare forward that it contains."""

    name: str
    #: what the forward is of, in words
    forward: str
    served: Sequence[Cost]
    bare: Sequence[Cost]
    #: pictures by verdict, over all turns
    verdicts: Mapping[str, int]


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The median between the order statistics that hold the true one with at least `confidence`, else all values."""
    ordered = sorted(values)
    n = len(ordered)
    inside = [1 - 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n for k in range((n + 1) // 2)]
    k = max((k for k, held in enumerate(inside) if held >= confidence), default=0)
    return Interval(float(np.median(ordered)), ordered[k], ordered[n - 1 - k], max(inside[k], 0.0))


def ratios(row: Row) -> dict[str, Interval]:
    """What share of the bare forward's speed the whole reaches, in work (`core`) and by the clock (`wall`)."""
    pairs = list(zip(row.bare, row.served, strict=True))
    return {
        "core": median_interval([bare.core_ms / served.core_ms for bare, served in pairs]),
        "wall": median_interval([bare.wall_ms / served.wall_ms for bare, served in pairs]),
    }


def figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [
        {
            "name": row.name,
            "forward": row.forward,
            "served": summary(row.served),
            "bare": summary(row.bare),
            "ratio": {name: interval._asdict() for name, interval in ratios(row).items()},
            "pictures_per_s": 1000 / float(np.median([cost.wall_ms for cost in row.served])),
            "verdicts": dict(row.verdicts),
        }
        for row in rows
    ]


def summary(costs: Sequence[Cost]) -> dict[str, Any]:
    """Least and median of both clocks, and every turn."""
    told: dict[str, Any] = {}
    for clock in Cost._fields:
        values = [getattr(cost, clock) for cost in costs]
        told[clock] = {"min": min(values), "median": float(np.median(values)), "turns": values}
    return told


def to_markdown(report: Mapping[str, Any]) -> str:
    """The report as tables."""
    settings, made = report["settings"], report["provenance"]
    lines = [
        "# Throughput",
        "",
        f"{made['features']}; preset {settings['preset']}; batches of {settings['batch_size']};"
        f" {settings['pictures']}; {len(settings['tasks'])} tasks. {made['cores']} cores ({made['processor']}),"
        f" {made['threads']} threads of torch, device {made['device']}.",
    ]
    if made["caveat"]:
        lines += ["", f"Note: {made['caveat']}."]
    lines += [
        "",
        "## The whole",
        "",
        f"Per picture, {settings['images']} in each of {settings['repeats']} turns; least / median. A core-millisecond"
        " is CPU time of the process over all its threads.",
        "",
        "| | core-ms | wall ms | pictures/s | bare forward | core-ms | wall ms | ratio, core | ratio, wall |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["whole"]:
        cells = [
            row["name"],
            *_clocks(row["served"]),
            f"{row['pictures_per_s']:.1f}",
            row["forward"],
            *_clocks(row["bare"]),
            *(_interval(row["ratio"][clock]) for clock in ("core", "wall")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if report["whole"]:
        confidence = report["whole"][0]["ratio"]["core"]["confidence"]
        lines += [
            "",
            f"Ratio: bare forward / whole within each turn; median, and its {confidence:.1%} interval by order"
            " statistics.",
            "Verdicts: " + "; ".join(f"{row['name']}: {_verdicts(row['verdicts'])}" for row in report["whole"]) + ".",
        ]
    lines += [
        "",
        "## Stage by stage",
        "",
        "Each alone, per picture; least / median.",
        "",
        "| stage | core-ms | wall ms | |",
        "|---|---|---|---|",
    ]
    for stage in report["stages"]:
        lines.append(f"| {stage['name']} | {' | '.join(_clocks(stage['cost']))} | {stage['note']} |")
    return "\n".join(lines) + "\n"


def _clocks(cost: Mapping[str, Any]) -> list[str]:
    return [f"{cost[clock]['min']:.2f} / {cost[clock]['median']:.2f}" for clock in Cost._fields]


def _interval(interval: Mapping[str, float]) -> str:
    return f"**{interval['median']:.2f}** ({interval['low']:.2f} to {interval['high']:.2f})"


def _verdicts(verdicts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "none"
