"""Figures of papers, to stand beside ours. Their pictures, backbones and protocols are others: *other split*."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_ad.domain.evaluation import METRICS
from stream_ad.evaluation.charts import NAMES
from stream_ad.evaluation.continual.tables import Table, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """One method on one data set, as printed but in [0, 1]."""

    method: str
    dataset: str
    #: METRICS, those that the paper has
    values: Mapping[str, float]
    #: "1-shot", "trained on VisA"; empty: nothing to say
    setting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    title: str
    #: what keeps the figures from being compared, as sentences
    remarks: Sequence[str]
    rows: Sequence[Printed] = field(repr=False)
    #: methods of ours to stand beside; empty: all
    ours: Sequence[str] = ()

    @property
    def metrics(self) -> list[str]:
        """Those that the paper has."""
        return [metric for metric in METRICS if any(metric in row.values for row in self.rows)]


def beside(report: Mapping[str, Any], table: PublishedTable, metric: str) -> Table:
    """A row a data set: the paper's methods, then ours where products of that set were judged; last ours over all."""
    rows = [row for row in table.rows if metric in row.values]
    theirs = list(dict.fromkeys(_named(row) for row in rows))
    ours = [name for name in report["detectors"] if name in table.ours or not table.ours]
    values = {(row.dataset, _named(row)): row.values[metric] for row in rows}
    by_dataset: dict[str, list[str]] = {}
    for task, one in report["provenance"]["data"].items():
        by_dataset.setdefault(one["dataset"], []).append(task)

    def cells(tasks: Sequence[str]) -> list[str]:
        return [_mean(report["detectors"][name]["per_task"], tasks, metric) for name in ours]

    made = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        tasks = by_dataset.get(dataset, [])
        name = f"{dataset} (ours: {', '.join(tasks)})" if tasks else dataset
        made.append([name, *(number(values.get((dataset, one))) for one in theirs), *cells(tasks)])
    made.append([f"all {len(report['tasks'])} here", *("–" for _ in theirs), *cells(report["tasks"])])
    heading = [
        NAMES[metric],
        *(f"{name}, printed" for name in theirs),
        *(f"{name}, ours, *other split*" for name in ours),
    ]
    return heading, made


def _named(row: Printed) -> str:
    return f"{row.method}, {row.setting}" if row.setting else row.method


def _mean(per_task: Mapping[str, Any], tasks: Sequence[str], metric: str) -> str:
    known = [value for task in tasks if (value := per_task[task]["oracle"][metric]) is not None]
    return number(sum(known) / len(known) if known else None)
