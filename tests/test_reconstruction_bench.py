"""`stream-ad train promptmad` and `stream-ad bench reconstruction`, as people use them."""

import json
from functools import partial
from pathlib import Path

import pytest

from stream_ad.detectors.promptmad_training import PromptMadOptions
from stream_ad.errors import ConfigError
from stream_ad.evaluation.by_product.folds import halves
from stream_ad.evaluation.by_product.reconstruction import PROMPTMAD, TABLES, methods
from tests.bench_kit import command_line, save, write_set
from tests.continual_kit import product
from tests.models import cached
from tests.pictures import disc, quiet
from tests.test_promptmad import MEMORY, SHAPE


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for first, name in ((0, "ring"), (50, "washer")):
        write_set(root, name, train=6, good=2, bad=2, first=first)
    return root


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "config.yaml").write_text("backbone: {id: tiny, image_size: 64}\n")
    monkeypatch.chdir(tmp_path)
    small = partial(PromptMadOptions, shape=SHAPE, memory=MEMORY, normals=4, painted=4, batch=2)
    monkeypatch.setattr("stream_ad.detectors.promptmad_training.PromptMadOptions", small)  # as commands find it
    return command_line(capsys)


def test_weights_are_trained_listed_and_named_in_the_settings(run, sets: Path, tmp_path: Path):
    train = ("train", "promptmad", "--data", sets, "--tasks", "ring", "--steps", "2")
    code, out, _ = run(*train)
    assert code == 0
    weights = Path(out.split("weights: ")[1].split("}")[0])
    assert weights.name.startswith("promptmad-")
    assert run(*train)[:2] == (0, out)  # nothing was left to do
    assert weights.name in run("weights", "list")[1]
    (tmp_path / "config.yaml").write_text(
        f"backbone: {{id: tiny, image_size: 64}}\ndetector: {{promptmad: {{weights: {weights}}}}}\n"
    )
    assert f"detector.promptmad.weights is {weights}" in run("weights", "list")[1]
    code, _, err = run("add-task", "washer", "--images", sets / "washer/train/good", "--detector", "promptmad")
    assert code == 0, err


def test_good_pictures_alone_are_enough_to_train_on(run, tmp_path: Path):
    for n in range(6):
        save(tmp_path / "good" / "ring" / "train/good" / f"{n}.png", disc(n))
    code, _, err = run("train", "promptmad", "--data", "good", "--steps", "1")
    assert code == 0, err
    code, _, err = run("train", "anople", "--painted", "--data", "good", "--steps", "1")
    assert code == 0, err
    code, _, err = run("train", "anople", "--data", "good", "--steps", "1")
    assert code == 2
    assert "needed pictures in good/ring/test, found train" in err


def test_a_product_cannot_be_taught_by_weights_that_are_not_there(run, sets: Path):
    code, _, err = run("add-task", "washer", "--images", sets / "washer/train/good", "--detector", "promptmad")
    assert code == 2
    assert "'promptmad' needs shared weights: train some with `stream-ad train promptmad`" in err


def test_figures_are_written_beside_their_baselines(run, sets: Path, tmp_path: Path):
    asked = ("bench", "reconstruction", "--data", sets, "--output", "run.json", "--seeds", "1", "--steps", "1")
    code, out, _ = run(*asked)
    assert code == 0
    report = json.loads((tmp_path / "run.json").read_text())
    assert list(report["detectors"]) == ["PromptMAD", "no text", "PatchCore", "ensemble"]
    assert report["provenance"]["data"]["ring"]["auxiliary"] == ["washer"]
    assert list(report["differences"]["more"][0]["minus"]) == ["PatchCore", "ensemble"]
    assert "PromptMAD, printed" in out
    assert "PromptMAD, ours, *other split*" in out
    code, _, err = run(*asked, "--tasks", "ring")
    assert code == 2
    assert "takes two, got 1" in err


def test_no_product_is_judged_by_what_was_learned_on_itself():
    folds = halves([product(name) for name in ("disc", "checks", "stripes")])
    assert {fold.name: [one.id for one in fold.auxiliary] for fold in folds} == {
        "checks": ["disc", "stripes"],
        "disc": ["checks"],
        "stripes": ["checks"],
    }
    with pytest.raises(ConfigError):
        halves([product("disc")])


def test_the_map_without_refinement_is_of_the_same_training(tmp_path: Path):
    options = PromptMadOptions(shape=SHAPE, memory=MEMORY, normals=4, painted=4, steps=1, batch=2)
    found = {one.name: one for one in methods(cached(), tmp_path, options, ablations=True)}
    assert set(found) > {"no refinement", "cross-entropy", "no attention"}
    fold = halves([product("disc"), product("checks")])[0]
    refined, coarse = (found[name].learn(fold, 0, quiet).said()["weights"] for name in (PROMPTMAD, "no refinement"))
    assert refined == coarse
    assert len(list((tmp_path / "training").glob("*.training"))) == 1


def test_the_paper_is_printed_as_its_abstract_says():
    [row] = TABLES[0].rows
    assert row.values == {"pixel_auroc": 0.9835, "pixel_ap": 0.6654}
