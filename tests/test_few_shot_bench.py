"""`stream-ad bench few-shot` and `train anople`: what they write, and what they say when something is wrong."""

import json
from collections import Counter
from pathlib import Path

import pytest

from stream_ad.adapters.datasets import find_products
from stream_ad.detectors.anople_training import AnopleOptions
from stream_ad.evaluation.by_product.few_shot import changed, shots
from stream_ad.evaluation.by_product.folds import halves, some
from stream_ad.evaluation.by_product.published_few_shot import TABLES
from tests.bench_kit import command_line, write_set


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for first, name in ((0, "ring"), (50, "washer")):
        write_set(root, name, train=4, good=3, bad=4, first=first)
    return root


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "config.yaml").write_text("backbone: {id: tiny, image_size: 64}\ndetector: {coreset_rows: 16}\n")
    monkeypatch.chdir(tmp_path)
    return command_line(capsys)


def test_figures_are_written_and_a_second_run_has_nothing_left_to_do(run, sets: Path, tmp_path: Path):
    asked = ("bench", "few-shot", "--data", sets, "--output", "run.json", "--k", "1,2", "--seeds", "1", "--steps", "1")
    code, out, _ = run(*asked)
    assert code == 0
    report = json.loads((tmp_path / "run.json").read_text())
    assert list(report["detectors"])[:4] == ["AnoPLe, k=1", "AnoPLe, k=2", "PatchCore, k=1", "PatchCore, k=2"]
    assert {"AnoPLe, k=1, unseen", "PatchCore, k=1, unseen", "ensemble"} <= report["detectors"].keys()
    assert report["provenance"]["data"]["ring"]["auxiliary"] == ["washer"]
    assert "## Products without a picture of their own" in out
    assert "AnoPLe, 1-shot, printed" in out
    hashes = {one["weights"] for one in report["detectors"]["AnoPLe, k=2"]["per_task"]["ring"]["said"]}
    assert hashes == {one["weights"] for one in report["detectors"]["AnoPLe, k=1"]["per_task"]["ring"]["said"]}
    (tmp_path / "run.json").unlink()
    assert run(*asked)[0] == 0
    assert json.loads((tmp_path / "run.json").read_text()) == report


def test_what_is_asked_wrongly_is_said(run, sets: Path):
    asked = ("bench", "few-shot", "--data", sets, "--output", "run.json")
    for options, message in (
        (("--k", "1,none"), "--k needs numbers from 1 on"),
        (("--k", "0"), "--k needs numbers from 1 on"),
        (
            ("--k", "1,5"),
            "k = 5 needs 5 good pictures of each product, but 'ring' has 4, 'washer' has 4",
        ),
        (("--tasks", "ring"), "needed at least two products"),
    ):
        code, _, err = run(*asked, *options)
        assert code == 2
        assert message in err


def test_weights_are_trained_listed_and_a_task_without_them_is_refused(run, sets: Path, tmp_path: Path):
    train = ("train", "anople", "--data", sets, "--tasks", "washer", "--steps", "2")
    code, out, _ = run(*train)
    assert code == 0
    weights = Path(out.split("weights: ")[1].split("}")[0])
    assert weights.parent == tmp_path / "stream-ad-data" / "weights"
    assert run(*train)[:2] == (0, out)  # nothing was left to do
    code, _, err = run("add-task", "ring", "--images", sets / "ring/train/good", "--detector", "anople")
    assert code == 2
    assert "'anople' needs shared weights: train some with `stream-ad train anople`" in err
    settings = f"backbone: {{id: tiny, image_size: 64}}\ndetector: {{anople: {{weights: {weights}}}}}\n"
    (tmp_path / "config.yaml").write_text(settings)
    listed = run("weights", "list")[1]
    assert weights.name in listed
    assert f"detector.anople.weights is {weights}" in listed


def test_fewer_pictures_are_among_more_and_another_seed_draws_others(sets: Path):
    [ring, _] = find_products(sets)
    drawn = {k: shots(ring, ring.train, 0, k).ids for k in (1, 2, 4)}
    assert list(drawn[4][:2]) == list(drawn[2])
    assert list(drawn[2][:1]) == list(drawn[1])
    assert {tuple(shots(ring, ring.train, seed, 2).ids) for seed in range(8)} != {tuple(drawn[2])}


def test_no_half_learns_what_it_judges(sets: Path):
    for fold in halves(find_products(sets), limit=4):
        assert fold.product not in fold.auxiliary
        assert Counter(fold.test.defective) == {False: 2, True: 2}
    [ring, _] = find_products(sets)
    assert len(some(ring.test, 100)) == len(ring.test)


def test_each_ablation_changes_one_thing_and_published_rows_are_shares():
    made = changed(AnopleOptions())
    assert len({repr(options) for _, options in made.values()} | {repr(AnopleOptions())}) == len(made) + 1
    for table in TABLES:
        assert all(0 < value < 1 for row in table.rows for value in row.values.values())
