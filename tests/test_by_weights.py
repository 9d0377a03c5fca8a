"""Weights that are trained again leave what was published before as it was."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stream_ad.adapters.image_folders import ImageFolder
from stream_ad.api import Workbench, open_workbench
from stream_ad.backbones.views import Views
from stream_ad.detectors import shared_weights
from stream_ad.detectors.base import Detector, uncalibrated
from stream_ad.detectors.by_weights import ByWeights
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.job import JobKind, JobState
from stream_ad.errors import BankError, NoSharedWeights, OverlappingSplits, WeightsError
from stream_ad.evaluation.continual.run import Bench
from stream_ad.inspection import BankModel
from tests.continual_kit import Counted, bench, product
from tests.models import cached, untaught
from tests.pictures import NUT, TILE, Pictures, disc, quiet
from tests.plant import CONFIG, open_plant, save, teach

SMALL = "backbone: {image_size: 96}\ncalibration: {folds: 2}\n"
SEEN = [disc(seed) for seed in range(4)]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of weights, made one after the other."""
    known = untaught()
    others = {name: array[::-1].copy() for name, array in known.arrays.items()}
    save_one = [
        shared_weights.save("mpa", arrays, known.about, "", tmp_path / "weights") for arrays in (known.arrays, others)
    ]
    return save_one[0], save_one[1]


def using(folder: Path) -> ByWeights:
    made = make_detector("mpa", cached(), {"weights": folder})
    assert isinstance(made, ByWeights)
    return made


def entry(detector: Detector, task=NUT) -> BankEntry:
    arrays = detector.adapt(task, Pictures([]), roi=None, seed=0, progress=quiet)
    return replace(uncalibrated(detector, task, arrays, cached().spec), sha256=task.id)


def scores(detector: Detector, entries) -> torch.Tensor:
    found = detector.predict(Views(cached(), SEEN[: len(entries)]), entries)
    assert torch.isfinite(found.maps["text"]).all()
    return found.scores["text"]


def test_an_entry_is_scored_by_its_own_weights_whatever_is_in_use_and_whatever_else_is_in_the_batch(two):
    old, new = using(two[0]), using(two[1])
    before, after = entry(old), entry(new, TILE)
    assert before.shared_weights != after.shared_weights
    alone = scores(old, [before] * 4), scores(new, [after] * 4)
    assert not torch.equal(*alone)
    torch.testing.assert_close(scores(new, [before] * 4), alone[0], rtol=0, atol=0)
    mixed = scores(new, [before, after, after, before])
    expected = torch.stack([alone[0][0], alone[1][1], alone[1][2], alone[0][3]])
    torch.testing.assert_close(mixed, expected, rtol=0, atol=0)


def test_weights_that_are_gone_are_named(two):
    before = entry(using(two[0]))
    two[0].rename(two[0].parent / "elsewhere")
    with pytest.raises(BankError, match=rf"no {two[0].name} lies beside them: bring that folder back"):
        scores(using(two[1]), [before])


def test_a_bank_whose_weights_are_gone_is_not_taken_into_use(two):
    """Before its first picture: a scorer then stays with the bank that it has."""
    before = entry(using(two[0]))
    shutil.rmtree(two[0])
    detectors = {"mpa": using(two[1])}
    with pytest.raises(BankError, match=f"no {two[0].name} lies beside them"):
        BankModel(
            cached(),
            detectors,
            MemoryBank(1, {NUT.id: replace(before, arrays={**before.arrays, "key_block": np.array(5)})}),
        )


def test_damaged_weights_are_made_again_by_the_training_that_made_them(two):
    known = shared_weights.load(two[0])
    (two[0] / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(WeightsError, match="damaged"):
        shared_weights.load(two[0])
    assert shared_weights.save("mpa", known.arrays, known.about, "", two[0].parent) == two[0]
    assert shared_weights.load(two[0]).sha256 == known.sha256


def test_what_made_the_weights_cannot_be_rewritten_beside_them(two):
    about = two[0] / "about.json"
    about.write_text(about.read_text().replace('"name": "tiny"', '"name": "other"'))
    with pytest.raises(WeightsError, match=r"about\.json says other things than weights\.safetensors"):
        shared_weights.load(two[0])


def test_pictures_that_weights_were_trained_on_judge_nothing(two):
    known = shared_weights.load(two[0])
    ids = ["ab" * 32, "cd" * 32]
    about = {**known.about, **shared_weights.learned_from({"ring": ids})}
    trained = using(shared_weights.save("mpa", known.arrays, about, "", two[0].parent))
    trained.require_unseen(NUT.id, ["ef" * 32])
    with pytest.raises(OverlappingSplits, match="1 of the held-out pictures of task 'nut' are among those"):
        trained.require_unseen(NUT.id, [ids[1], "ef" * 32])


def taught_on(ids: Sequence[str], folder: Path) -> Path:
    """A folder of weights that say that they learned these pictures."""
    known = untaught()
    about = {**known.about, **shared_weights.learned_from({"ring": ids})}
    return shared_weights.save("mpa", known.arrays, about, "", folder)


def test_a_sequence_is_not_judged_by_pictures_that_weights_were_trained_on(tmp_path):
    """It is said before any method learns; weights of other pictures judge."""

    def run(learned: Sequence[str]) -> tuple[Bench, Counted]:
        counted = Counted()
        made = bench(tmp_path / "state", ["patchcore", "mpa"], products=products, learn=counted)
        given = {"weights": taught_on(learned, tmp_path)}
        methods = [replace(one, options=given) if one.detector == "mpa" else one for one in made.plan.variants]
        return replace(made, plan=replace(made.plan, variants=methods)), counted

    products = [product(name) for name in ("disc", "checks")]
    leaked, counted = run([products[1].test.ids[0], "ab" * 32])
    with pytest.raises(OverlappingSplits, match="1 of the held-out pictures of task 'checks' are among those"):
        leaked.run()
    assert counted.count == 0
    clean, counted = run(["ab" * 32])
    clean.run()
    assert counted.count == 4


def test_a_sequence_of_a_method_without_weights_ends_before_a_picture_is_read(tmp_path):
    told: list[str] = []
    made = bench(tmp_path, ["patchcore", "mpa"])
    kit = replace(made.kit, progress=lambda stage, done, total: told.append(stage))
    with pytest.raises(NoSharedWeights, match="stream-ad train mpa"):
        replace(made, kit=kit).run()
    assert not told


def test_python_refuses_figures_on_pictures_that_an_entrys_weights_learned(two, tmp_path):
    """By the weights that the entry names, whatever is in use by now."""
    held = save(tmp_path / "held" / "good", [disc(seed) for seed in range(100, 103)])
    save(tmp_path / "held" / "defect", [disc(103, scratched=True)])
    images = save(tmp_path / "nut", [disc(seed) for seed in range(12)])
    leaked = taught_on([ImageFolder(held).ids[0]], two[0].parent)

    def workbench(weights: Path) -> Workbench:
        (tmp_path / "config.yaml").write_text(f"{SMALL}detector: {{mpa: {{weights: {weights}}}}}\n")
        return open_workbench(backbone="tiny", config=tmp_path / "config.yaml")

    taught = workbench(leaked)
    taught.adapt("nut", images, detector="mpa")
    for one in (taught, Workbench(workbench(two[1]).app, taught.bank)):
        with pytest.raises(OverlappingSplits, match="1 of the held-out pictures of task 'nut' are among those"):
            one.evaluate({"nut": tmp_path / "held"})
    clean = workbench(two[1])
    clean.adapt("nut", images, detector="mpa")
    assert clean.evaluate({"nut": tmp_path / "held"})


def test_new_weights_come_into_a_plant_by_a_job_of_each_product(two, tmp_path):
    images = save(tmp_path / "nut", [disc(seed) for seed in range(12)])
    place = tmp_path / "plant"
    place.mkdir()

    def plant(weights: Path):
        detector = f"{{name: mpa, mpa: {{weights: {weights}}},"
        (place / "config.yaml").write_text(CONFIG.replace("{name: patchcore,", detector))
        return open_plant(place)

    with plant(two[0]) as app:
        assert teach(app, NUT, images).state is JobState.PUBLISHED
        (first,) = app.database.banks.load()
        before = [one.score for one in app.scorer().inspect(SEEN, declared=[None] * 4, cameras=[None] * 4)]
    with plant(two[1]) as app:
        assert [one.score for one in app.scorer().inspect(SEEN, declared=[None] * 4, cameras=[None] * 4)] == before
        checked = app.check_folders(NUT, images=images, heldout=None, roi=None, detector=None)
        again = app.database.tasks.queue(NUT.id, JobKind.READAPT, checked.payload, app.clock.now())
        app.worker().run(drain=True)
        assert app.database.jobs.get(again.id).state in (JobState.PUBLISHED, JobState.REJECTED)  # the gate has judged
        made = [entry for entry in app.database.banks.load() if entry.shared_weights != first.shared_weights]
        assert len(made) == (app.database.jobs.get(again.id).state is JobState.PUBLISHED)
        assert all(one.shared_weights == using(two[1]).shared_weights for one in made)
