"""What the console says of each picture of a stream."""

import pytest

from stream_ad.commands.score import show
from stream_ad.commands.stream import show_results
from stream_ad.domain.result import Verdict
from tests.ops_kit import result


def line(capsys, **changes) -> str:
    show_results([result(**changes)])
    return capsys.readouterr().out.strip()


def test_a_picture_of_no_known_product_is_told_with_the_nearest_one_as_no_more_than_that(capsys):
    told = line(capsys, verdict=Verdict.UNKNOWN, score=185.987, subject="a.png")
    assert told == "unknown product a.png  nearest: nut (score 185.987, NG above 100.000)"


def test_a_score_by_words_has_no_threshold_to_tell(capsys):
    told = line(capsys, verdict=Verdict.UNKNOWN, score=1.5, threshold=None, subject="a.png")
    assert told == "unknown product a.png  nearest: nut (score 1.500)"


def test_a_declared_product_is_named_with_what_the_picture_looks_like(capsys):
    alarm = "header stands for task 'nut', but the picture looks like no known product"
    told = line(capsys, verdict=Verdict.UNKNOWN, score=1.5, alarm=alarm, subject="a.png")
    assert told == f"unknown product a.png  nut  score 1.500 (NG above 100.000)  {alarm}"


@pytest.mark.parametrize(("verdict", "task"), [("OK", "nut"), ("unknown product", "nearest: nut")])
def test_score_says_of_an_unknown_product_that_the_task_is_only_the_nearest(capsys, verdict, task):
    row = {"file": "a.png", "verdict": verdict, "task": "nut", "detector": "cmpmb/3", "score": 1.0, "threshold": 2.0}
    show([{**row, "p_value": 0.5, "alarm": None}], as_json=False)
    cells = [cell for cell in capsys.readouterr().out.splitlines()[1].split("  ") if cell]
    assert [cell.strip() for cell in cells[:4]] == ["a.png", verdict, task, "cmpmb/3"]
