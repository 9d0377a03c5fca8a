"""`stream-ad train mpa` and `stream-ad weights list`, as people use them."""

import json
import os
from pathlib import Path

import pytest

from stream_ad.app import App
from stream_ad.config import Settings, load_settings
from stream_ad.detectors import shared_weights
from stream_ad.detectors.base import Shared
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.job import JobState
from stream_ad.errors import NoSharedWeights
from stream_ad.evaluation.continual.variants import chosen
from tests.bench_kit import command_line, write_set
from tests.discovery_kit import proposed
from tests.models import tiny, untaught
from tests.pictures import NUT, Pictures, disc, quiet
from tests.plant import CONFIG, open_plant, save, teach


def product(root: Path, name: str, first: int) -> None:
    write_set(root, name, train=1, good=3, bad=3, first=first)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for name in [name for name in os.environ if name.startswith("STREAM_AD_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config.yaml").write_text("backbone: {id: tiny, image_size: 64}\n")
    monkeypatch.chdir(tmp_path)
    return command_line(capsys)


def test_weights_are_trained_listed_and_named_in_the_settings(run, tmp_path: Path) -> None:
    product(tmp_path / "sets", "washer", 0)
    product(tmp_path / "sets", "ring", 100)
    train = ("train", "mpa", "--data", "sets", "--tasks", "washer,ring", "--steps", "3")
    experts = ("--stage", "2", "--expert-steps", "2")
    code, out, _ = run(*train, *experts)
    assert code == 0
    weights = Path(out.split("weights: ")[1].split("}")[0])
    assert weights.parent == tmp_path / "stream-ad-data" / "weights"
    code, again, _ = run(*(part.replace("washer,ring", "ring,washer") for part in train), *experts)
    assert (code, again) == (0, out)  # nothing was left to do
    assert run(*train)[0] == 0  # without experts
    listed = run("weights", "list")[1].splitlines()
    assert [line.split()[1] for line in listed if line.startswith("mpa-")].count("MPAMA") == 1
    assert [line.split()[1] for line in listed if line.startswith("mpa-")].count("MPA") == 1
    line = next(line for line in listed if weights.name in line)
    assert line.split()[3:] == ["ring,", "washer", "-", str(weights)]  # no bank, no task by them
    assert f"weights: {tmp_path / 'made'}/mpa-" in run(*train, "--output", "made")[1]  # whatever folder it is read from

    settings = f"backbone: {{id: tiny, image_size: 64}}\ndetector: {{mpa: {{weights: {weights}}}}}\n"
    (tmp_path / "config.yaml").write_text(settings)
    assert f"detector.mpa.weights is {weights}" in run("weights", "list")[1]


def test_the_list_says_where_weights_lie_and_which_tasks_go_by_them(run, tmp_path: Path) -> None:
    known = untaught()
    others = {name: array[::-1].copy() for name, array in known.arrays.items()}
    about = {**known.about, "method": "MPA", "products": {"ring": {}}}
    place = tmp_path / "elsewhere"
    named, older = (shared_weights.save("mpa", arrays, about, "", place) for arrays in (known.arrays, others))
    chosen_weights = f"{{name: mpa, mpa: {{weights: elsewhere/{named.name}}},"
    (tmp_path / "config.yaml").write_text(CONFIG.replace("{name: patchcore,", chosen_weights))
    assert "which tasks go by shared weights is not known: there is no database" in run("weights", "list")[2]
    with open_plant(tmp_path) as app:
        assert teach(app, NUT, save(tmp_path / "nut", [disc(seed) for seed in range(12)])).state is JobState.PUBLISHED
    _, out, err = run("weights", "list")
    listed = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("mpa-")}
    assert listed == {
        named.name: ["MPA", "tiny", "ring", "nut", str(named)],
        older.name: ["MPA", "tiny", "ring", "-", str(older)],
    }
    assert err == ""
    shown = run("bank", "show")[1].splitlines()
    assert "shared weights" in shown[1]
    assert named.name in shown[2]


@pytest.mark.parametrize("levels", ["0", "1,none", "", "1,9"])
def test_perception_levels_are_windows_that_fit_into_the_picture(run, tmp_path: Path, levels: str) -> None:
    product(tmp_path / "sets", "washer", 0)
    code, _, err = run("train", "mpa", "--data", "sets", "--levels", levels)
    assert code == 2
    assert "--levels needs numbers from 1 to 4 with commas between them" in err


def test_one_perception_level_can_be_learned_alone(run, tmp_path: Path) -> None:
    product(tmp_path / "sets", "washer", 0)
    out = run("train", "mpa", "--data", "sets", "--steps", "1", "--levels", "1")[1]
    about = json.loads((Path(out.split("weights: ")[1].split("}")[0]) / "about.json").read_text())
    assert about["about"]["shape"]["levels"] == [1]


def test_a_product_that_is_not_there_is_said(run, tmp_path: Path) -> None:
    product(tmp_path / "sets", "washer", 0)
    code, _, err = run("train", "mpa", "--data", "sets", "--tasks", "ring")
    assert code == 2
    assert "no product in sets is called 'ring'; products: washer" in err


def test_a_product_cannot_be_taught_by_weights_that_are_not_there(run, tmp_path: Path) -> None:
    product(tmp_path / "sets", "washer", 0)
    code, out, err = run("add-task", "washer", "--images", "sets/washer/test/good", "--detector", "mpa")
    assert (code, out) == (2, "")
    assert "'mpa' needs shared weights: train some with `stream-ad train mpa`" in err
    assert "washer" not in run("tasks")[1]


def test_what_was_proposed_is_not_copied_for_a_detector_without_weights(run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("backbone: {id: tiny, image_size: 96}\ndetector: {name: mpa}\n")
    assert run("init")[0] == 0
    with App(load_settings(tmp_path / "config.yaml")) as app:
        proposed(app.database)
        code, out, err = run("tasks", "approve", "1", "--name", "washer", "--who", "ada")
        assert (code, out) == (2, "")
        assert "'mpa' needs shared weights" in err
        assert not app.settings.task_pictures_dir.exists()
        with pytest.raises(NoSharedWeights):
            app.check_more({"detector": "mpa"}, images=tmp_path, heldout=None)
        with pytest.raises(NoSharedWeights, match="train promptmad"):
            app.check_more({"detector": "mpa"}, images=tmp_path, heldout=None, detector="promptmad")
        assert "'promptmad' needs" in run("tasks", "approve", "1", "--name", "washer", "--detector", "promptmad")[2]
        assert "'--detector'" in run("tasks", "approve", "1", "--name", "washer", "--detector", "mpma")[2]


def test_a_sequence_is_scored_by_the_weights_that_settings_name(tmp_path: Path) -> None:
    weights = shared_weights.save("mpa", untaught().arrays, untaught().about, "", tmp_path)
    (bare,) = chosen(["mpa"], "fast", depth=12)
    (given,) = chosen(["mpa"], "fast", depth=12, weights={"mpa": weights})
    with pytest.raises(NoSharedWeights):
        make_detector(bare.detector, tiny(), bare.options).adapt(NUT, Pictures([]), roi=None, seed=0, progress=quiet)
    detector = make_detector(given.detector, tiny(), given.options)
    assert isinstance(detector, Shared)
    assert detector.shared_weights.startswith(weights.name.removeprefix("mpa-"))
    assert json.loads(json.dumps(given.told)) == {"weights": weights.name}  # of a path only the hash is told


def test_settings_know_which_detectors_need_weights(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("detector: {mpa: {weights: here}}\n")
    assert load_settings(tmp_path / "config.yaml").detector.shared["mpa"] == tmp_path / "here"
    assert "cmpmb" not in Settings().detector.shared
    assert Settings().detector.shared["mpa"] is None
