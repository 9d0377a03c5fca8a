"""`stream-ad bench throughput`: how its figures are made, and that a whole run gives them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_ad.backbones.registry import load_backbone
from stream_ad.cli import main
from stream_ad.errors import WeightsError
from stream_ad.evaluation.throughput import Cost, Row, figures, median_interval, ratios
from tests.broker import SESSION, broker


def row(served: list[float], bare: list[float]) -> Row:
    return Row(
        name="kafka, declared",
        forward="to block 5",
        served=[Cost(ms, ms / 2) for ms in served],
        bare=[Cost(ms, ms / 2) for ms in bare],
        verdicts={"OK": 3},
    )


def test_an_interval_is_of_order_statistics_and_says_how_sure_it_is():
    six = median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
    assert (six.median, six.low, six.high) == (3.5, 1.0, 6.0)
    assert six.confidence == pytest.approx(1 - 2 / 2**6)
    nine = median_interval([float(n) for n in range(9)])
    assert (nine.low, nine.high) == (1.0, 7.0)  # the second and the last but one: 1 - 2 (1 + 9) / 2^9
    assert nine.confidence == pytest.approx(1 - 20 / 512)


def test_one_turn_alone_is_no_ground_for_confidence():
    assert median_interval([2.0]) == (2.0, 2.0, 2.0, 0.0)


def test_a_ratio_is_taken_within_each_turn_so_a_slow_spell_slows_both():
    found = ratios(row(served=[10.0, 100.0, 20.0], bare=[8.0, 80.0, 16.0]))
    assert found["core"].median == pytest.approx(0.8)
    assert found["core"].low == pytest.approx(found["core"].high)


def test_speed_is_by_the_clock_and_work_by_the_cores():
    (figure,) = figures([row(served=[10.0, 10.0], bare=[8.0, 8.0])])
    assert figure["pictures_per_s"] == pytest.approx(200)
    assert figure["served"]["core_ms"]["median"] == pytest.approx(10)


def test_random_weights_are_the_same_each_time_and_say_that_they_are_random():
    one, other = (
        load_backbone("random:ViT-S-32-alt", image_size=224, weights_dir=Path("nowhere"), device="cpu")
        for _ in range(2)
    )
    assert "random" in one.caveat
    assert one.spec == other.spec


def test_random_weights_need_a_model_that_open_clip_has():
    with pytest.raises(WeightsError, match="no model 'ViT-Z'"):
        load_backbone("random:ViT-Z", image_size=224, weights_dir=Path("nowhere"), device="cpu")


def run(config: Path, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "throughput", "--config", str(config), *arguments])
    return int(ended.value.code or 0)


def written(place: Path, **sections: Any) -> Path:
    settings = {"detector": {"name": "patchcore", "coreset_rows": 32}, "stream": {"batch_size": 4}, **sections}
    (place / "config.yaml").write_text(yaml.safe_dump(settings))
    return place / "config.yaml"


@pytest.mark.needs_broker
def test_a_run_measures_both_sources_both_ways_and_every_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "run.json"
    with broker() as bootstrap:
        config = written(tmp_path, kafka={"bootstrap": bootstrap, **SESSION})
        small = ("--size", "64", "--images", "8", "--repeats", "1", "--tasks", "gasket")
        assert run(config, "--output", str(output), "--backbone", "tiny", *small) == 0
    report = json.loads(output.read_text())
    names = [whole["name"] for whole in report["whole"]]
    assert names == ["kafka, declared", "kafka, routed", "folder, declared", "folder, routed"]
    for whole in report["whole"]:
        assert sum(whole["verdicts"].values()) >= 8
        assert whole["served"]["core_ms"]["min"] > 0
        assert whole["ratio"]["core"]["median"] > 0
    stages = {stage["name"]: stage["cost"]["core_ms"]["min"] for stage in report["stages"]}
    assert {"fetch, kafka", "fetch, folder", "message", "decode", "preprocess", "routing", "overlay"} <= stages.keys()
    assert {"score and map", "write, kafka", "forward, to block 5", "bare forward, to block 5"} <= stages.keys()
    assert report["provenance"]["caveat"].startswith("tiny is untrained")
    assert str(tmp_path) not in output.read_text()
    assert "| kafka, declared |" in capsys.readouterr().out
    assert not (tmp_path / "stream-ad-data").exists(), "what is measured is no business of the plant's database"


def test_a_size_that_the_model_was_not_made_for_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    config = written(tmp_path, backbone={"id": "tiny", "image_size": 96})
    assert run(config, "--output", str(tmp_path / "run.json"), "--sources", "folder") == 2
    assert "needed backbone.image_size 224" in capsys.readouterr().err


def test_a_source_that_there_is_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(written(tmp_path), "--output", str(tmp_path / "run.json"), "--sources", "pipe") == 2
    assert "needs kafka, folder or both" in capsys.readouterr().err
