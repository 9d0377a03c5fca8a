"""`stream-ad bench zero-shot`: what it writes, what it shares, and what it says when something is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from stream_ad.backbones.views import Views
from stream_ad.detectors.mpa_training import MpaOptions
from stream_ad.detectors.text import ensemble
from stream_ad.evaluation.by_product.folds import leave_one_out
from stream_ad.evaluation.by_product.published_zero_shot import METHODS, TABLES
from stream_ad.evaluation.by_product.zero_shot import MPA, MPAMA, methods
from tests.bench_kit import command_line, write_set
from tests.continual_kit import product
from tests.models import cached
from tests.pictures import quiet


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for first, name in ((0, "ring"), (50, "washer")):
        write_set(root, name, train=1, good=3, bad=4, first=first)
    return root


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "config.yaml").write_text("backbone: {id: tiny, image_size: 64}\n")
    monkeypatch.chdir(tmp_path)
    return command_line(capsys, "bench", "zero-shot")


def test_figures_are_written_and_a_second_run_has_nothing_left_to_do(run, sets: Path, tmp_path: Path):
    asked = ("--data", sets, "--output", "run.json", "--seeds", "1", "--steps", "2", "--expert-steps", "1")
    code, out, _ = run(*asked)
    assert code == 0
    report = json.loads((tmp_path / "run.json").read_text())
    assert list(report["detectors"]) == ["MPAMA", "MPA", "ensemble", "pair"]
    assert report["tasks"] == ["ring", "washer"]
    assert report["provenance"]["data"]["ring"]["auxiliary"] == ["washer"]
    assert sum(report["expert_use"]["MPAMA"].values()) == pytest.approx(1)
    assert report["differences"]["of"] == "MPAMA"
    assert list(report["differences"]["more"][0]["minus"]) == ["ensemble", "pair"]
    assert "## How often each expert is asked" in out
    assert "MPAMA, printed" in out
    (tmp_path / "run.json").unlink()
    assert run(*asked)[0] == 0
    assert json.loads((tmp_path / "run.json").read_text()) == report


def test_train_on_some_and_judge_others(run, sets: Path, tmp_path: Path):
    asked = ("--data", sets, "--output", "run.json", "--seeds", "1", "--steps", "1", "--expert-steps", "1")
    assert run(*asked, "--train", "ring", "--test", "washer")[0] == 0
    assert json.loads((tmp_path / "run.json").read_text())["tasks"] == ["washer"]
    for options, message in (
        (("--train", "ring"), "--train and --test go together"),
        (("--train", "ring", "--test", "ring"), "'ring' is to be learned and judged"),
        (("--train", "ring", "--test", "washer", "--tasks", "ring"), "leave --tasks and --unseen-kinds out"),
        (("--unseen-kinds",), "need a product whose test folder has two kinds"),
        (("--tasks", "ring"), "at least two, got 1"),
    ):
        code, _, err = run(*asked, *options)
        assert code == 2
        assert message in err


def test_mpama_goes_on_from_mpa_and_ablations_of_experts_share_its_first_stage(tmp_path: Path):
    fold = leave_one_out([product("disc"), product("checks")])[0]
    found = methods(cached(), tmp_path, MpaOptions(steps=2, expert_steps=1), ablations=True)
    names = [one.name for one in found]
    assert len(set(names)) == len(names) == 26
    assert {MPA, MPAMA, "no bridge", "levels 1,2", "3 experts", "lambda 0", "coupled levels + experts"} < set(names)
    for one in found:
        learned = one.learn(fold, 0, quiet)
        (scored,) = learned.score(Views(cached(), [fold.test[0].pixels]))
        assert np.isfinite(scored.score)
        assert scored.map.shape == (96, 96)
        asked = learned.said().get("expert_use")
        assert (asked is not None) == ("experts" in one.name or one.name == MPAMA)
        assert asked is None or sum(asked.values()) == pytest.approx(1)
    # stage 1: MPA, ten shapes, five weights of the hinge; stage 2: MPAMA, two coupled ones, three pools
    assert len(list((tmp_path / "training").glob("*.training"))) == 16 + 6


def test_the_ensemble_is_the_mean_of_its_texts():
    found = ensemble(cached(), "nut")
    assert found.shape == (2, cached().joint_width)
    assert found.norm(dim=1).tolist() == pytest.approx([1, 1])


def test_every_printed_method_has_its_data_sets():
    rows = TABLES[0].rows
    assert len({row.dataset for row in rows}) == 15
    assert all(0 < value < 1 for row in rows for value in row.values.values())
    [own] = [row for row in rows if (row.dataset, row.method) == ("MVTec AD", "MPAMA")]
    assert own.values == {"image_auroc": 0.945, "image_ap": 0.976, "pixel_auroc": 0.932, "pixel_pro": 0.883}
    assert {row.method for row in rows} == set(METHODS)
