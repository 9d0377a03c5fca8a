"""The paper's tables, and how figures are rendered beside them."""

import json
import re
from typing import Any

import pytest

from stream_ad.domain.evaluation import METRICS
from stream_ad.evaluation.continual import published
from stream_ad.evaluation.continual.differences import differences
from stream_ad.evaluation.continual.published import TABLES
from stream_ad.evaluation.continual.renderings import to_html, to_markdown
from stream_ad.evaluation.continual.results import data, figures, gallery
from stream_ad.evaluation.continual.results import test_reads as reads_of
from tests.continual_kit import bench

JPEG = b"\xff\xd8 no picture \xff\xd9"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"table {table.number}")
def test_rows_have_the_printed_averages_or_a_remark(table: published.PublishedTable):
    for row in table.rows:
        assert len(row.values) == len(table.categories)
        assert all(0 <= value <= 1 for value in row.values)
        mean = sum(row.values) / len(row.values)
        remark = published.REMARKS.get((table.number, row.method), "")
        if abs(mean - row.average) > 0.0008:
            assert f"{row.average:.3f} is not that of its row, {mean:.3f}" in remark


def test_remarks_are_about_rows_that_there_are():
    rows = {(table.number, row.method) for table in TABLES for row in table.rows}
    assert published.REMARKS.keys() <= rows
    assert [table.row(published.THEIRS).average for table in TABLES] == [0.974, 0.604, 0.901, 0.365]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, list[tuple[str, bytes]]]]:
    made = bench(
        tmp_path_factory.mktemp("state"),
        ["patchcore_same", "patchcore@budget", "sequence@budget"],
        draw=lambda picture, inspection, truth: JPEG,
    )
    made.run()
    provenance = {
        "date": "2026-01-02T03:04:00+00:00",
        "preset": "fast",
        "features": ["tiny@96px"],
        "seeds": [0],
        "limit": None,
        "caveat": "tiny is untrained",
        "data": data(made),
        "test_reads": reads_of(made),
    }
    return {**figures(made), "differences": differences(made), "provenance": provenance}, gallery(made)


def test_markdown_has_the_figures_and_says_what_is_context(report):
    text = to_markdown(report[0])
    value = report[0]["detectors"]["patchcore_same"]["average"]["pixel_ap"]
    assert f"{value:.3f}" in text
    assert "*other split*" in text
    assert "In a fixed number of rows" in text
    assert "tiny is untrained" in text
    assert "| CMPMB (the paper's own) | 0.974 / 0.009 |" in text


def test_the_page_needs_nothing_else(report):
    html = to_html(*report)
    assert not re.search(r"(?:src|href)=\"(?!data:)", html)
    assert not re.search(r"<script|@import|url\((?!data:)", html)
    assert html.count("data:image/jpeg;base64,") == sum(len(shown) for shown in report[1].values()) > 0
    assert html.count('class="heat"') == 2 * 3
    assert "data:image/svg+xml" in html


def beside(report: dict[str, Any], categories: list[str], *, complete: bool) -> str:
    """The report as if its products were of MVTec AD."""
    told = json.loads(json.dumps(report))
    for one, category in zip(told["provenance"]["data"].values(), categories, strict=True):
        one |= {"dataset": "MVTec AD", "category": category, "complete": complete}
    return to_markdown(told)


def test_figures_of_a_published_set_stand_below_the_published_rows(report):
    text = beside(report[0], ["bottle", "cable", "screw"], complete=True)
    assert "Table 1 of the paper: image AUROC on MVTec AD" in text
    assert "| method | bottle | cable | screw | average | FM |" in text
    assert "| UCAD | 1.000 | 0.751 | 0.739 | 0.930 | 0.010 |" in text
    assert "| patchcore_same (ours, other split) |" in text
    assert "Other split: 12 products are missing." in text
    assert "Protocols differ" in text
    assert "the printed average 0.229 is not that of its row, 0.656" in text
    assert "*other split*" not in text


def test_the_report_says_when_defects_are_painted_or_the_look_was_quick(report):
    told = json.loads(json.dumps(report[0]))
    told["provenance"]["limit"] = 8
    next(iter(told["detectors"].values()))["per_task"]["disc"]["synthetic"] = True
    text = to_markdown(told)
    assert "no figure here is a result" in text
    assert "Some defects are synthetic" in text


def test_what_was_not_measured_is_a_dash(report):
    told = json.loads(json.dumps(report[0]))
    for found in told["detectors"].values():
        for metric in METRICS:
            found["per_task"]["disc"]["routed"][metric] = None
    assert re.search(r"\| disc \| – \| – \| – \|", to_markdown(told))
