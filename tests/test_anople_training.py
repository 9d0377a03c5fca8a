"""AnoPLe's training: what it changes, what a kill costs, and what its weights are good for."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stream_ad.backbones.views import Views
from stream_ad.detectors import shared_weights
from stream_ad.detectors.anople import Anople
from stream_ad.detectors.anople_fusion import even_distance
from stream_ad.detectors.anople_network import FINE, AnopleShape, Coupling
from stream_ad.detectors.anople_pictures import Auxiliary
from stream_ad.detectors.anople_training import AnopleOptions, AnopleTraining, disturb
from stream_ad.detectors.base import uncalibrated
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.bank import BankEntry
from stream_ad.errors import BankError, DataError, NoSharedWeights, WeightsError
from tests.continual_kit import product
from tests.models import cached, tiny, untaught, untaught_anople
from tests.pictures import NUT, Pictures, checks, disc, quiet

SHORT = AnopleOptions(steps=5, batch=2, save_every=2, shape=AnopleShape(channels=8))
PRODUCTS = {
    "washer": Auxiliary("washer", Pictures([disc(seed) for seed in range(3)])),
    "board": Auxiliary("board", Pictures([checks(seed) for seed in range(3)])),
}


def trained(folder: Path, options: AnopleOptions = SHORT) -> AnopleTraining:
    training = AnopleTraining(folder, options, tiny(), PRODUCTS)
    training.run()
    return training


def arrays(training: AnopleTraining) -> Mapping[str, np.ndarray]:
    return training.result()[0]


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, at):
    def die(step: int, loss: float) -> None:
        if step == at:
            raise Killed

    whole = trained(tmp_path / "whole").write(tmp_path / "weights")
    with pytest.raises(Killed):
        AnopleTraining(tmp_path / "cut", SHORT, tiny(), PRODUCTS).run(told=die)
    again = AnopleTraining(tmp_path / "cut", SHORT, tiny(), PRODUCTS)
    assert again.step == at // 2 * 2
    again.run()
    assert again.write(tmp_path / "weights") == whole  # the name is the content's hash


def test_another_seed_products_or_options_are_another_run(tmp_path):
    one = trained(tmp_path)
    assert AnopleTraining(tmp_path, replace(SHORT, seed=1), tiny(), PRODUCTS).step == 0
    assert AnopleTraining(tmp_path, replace(SHORT, alignment=0.0), tiny(), PRODUCTS).step == 0
    assert AnopleTraining(tmp_path, SHORT, tiny(), {"washer": PRODUCTS["washer"]}).step == 0
    # the name fills the texts
    renamed = {**PRODUCTS, "board": Auxiliary("plank", PRODUCTS["board"].normals)}
    assert AnopleTraining(tmp_path, SHORT, tiny(), renamed).step == 0
    assert AnopleTraining(tmp_path, replace(SHORT, save_every=9), tiny(), PRODUCTS).step == one.step


def test_training_moves_all_that_is_learned_and_nothing_of_the_backbone(tmp_path):
    backbone = tiny()
    parts = [*backbone.visual.parameters(), *backbone.text.tower.parameters()]
    before = [part.clone() for part in parts]
    training = AnopleTraining(tmp_path, SHORT, backbone, PRODUCTS)
    start = {name: array.copy() for name, array in arrays(training).items()}
    training.run()
    for name, array in arrays(training).items():
        assert (array != start[name]).any() == (name != "pair"), name  # the pair stands in for texts
    assert all(part.equal(old) and part.grad is None for part, old in zip(parts, before, strict=True))


def test_training_lowers_the_loss(tmp_path):
    losses = []
    options = AnopleOptions(steps=24, batch=4, crops_a_step=0, latent=0.0, alignment=0.0, rate=1e-2)
    training = AnopleTraining(tmp_path, options, tiny(), PRODUCTS)
    training.run(told=lambda step, loss: losses.append(loss))
    assert np.mean(losses[-6:]) < np.mean(losses[:6])


@pytest.mark.parametrize(
    "options",
    [
        replace(SHORT, steps=1, shape=AnopleShape(channels=8, text=False, coupling=Coupling.NONE)),
        replace(SHORT, steps=1, shape=AnopleShape(channels=8, prefixes=False), crops_a_step=0),
        replace(SHORT, steps=1, crops_a_step=4, alignment=0.0),
    ],
    ids=["no text", "one scale", "all crops"],
)
def test_every_ablation_trains_and_scores(tmp_path, options):
    weights = shared_weights.load(trained(tmp_path, options).write(tmp_path))
    detector = Anople(cached(), weights)
    entry = adapted(detector)
    assert torch.isfinite(detector.predict(Views(cached(), [disc(9)]), [entry]).scores["fused"]).all()
    assert weights.about["losses"].keys() >= {"focal", "dice", "image"}


def test_without_pictures_nothing_can_be_trained(tmp_path):
    with pytest.raises(DataError, match="needed good pictures of at least one product to train anople"):
        AnopleTraining(tmp_path, SHORT, tiny(), {})


def test_a_disturbed_box_is_its_truth_and_nothing_else_changes():
    patches = torch.randn(3, 36, 8, generator=torch.Generator().manual_seed(0))
    found, where = disturb(patches, 1.0, torch.Generator().manual_seed(1))
    changed = (found != patches).any(-1).unflatten(1, (6, 6))
    assert where.equal(changed.repeat_interleave(FINE, 1).repeat_interleave(FINE, 2))
    assert ((changed.sum((1, 2)) >= 1) & (changed.sum((1, 2)) <= 4)).all()


# --- weights and entries --------------------------------------------------------------------------


def adapted(detector: Anople, count: int = 1) -> BankEntry:
    made = detector.adapt(NUT, Pictures([disc(seed) for seed in range(count)]), roi=None, seed=0, progress=quiet)
    return uncalibrated(detector, NUT, made, cached().spec)


def test_weights_are_saved_under_their_hash_with_a_card(tmp_path):
    folder = trained(tmp_path / "run").write(tmp_path)
    weights = shared_weights.load(folder)
    assert folder.name == f"anople-{weights.sha256[:16]}"
    card = (folder / "README.md").read_text()
    for told in (
        "AnoPLe",
        "6 good pictures of 2 products: board, washer",
        "Steps: 5",
        "no real one",
        "tiny",
    ):
        assert told in card


def test_the_card_says_how_many_labelled_pictures_were_learned_from(tmp_path):
    washer = Auxiliary("washer", PRODUCTS["washer"].normals, product("disc", good=2, bad=3).test)
    training = AnopleTraining(tmp_path, SHORT, tiny(), {**PRODUCTS, "washer": washer})
    card = (training.write(tmp_path) / "README.md").read_text()
    assert "6 good pictures of 2 products, and 3 labelled ones of damaged parts: board, washer" in card
    assert "painted by us, and real ones" in card


@pytest.mark.parametrize("count", [1, 2, 4])
def test_one_picture_is_enough(count):
    detector = Anople(cached(), untaught_anople())
    entry = adapted(detector, count)
    scores = detector.predict(Views(cached(), [disc(20), disc(20, scratched=True)]), [entry] * 2).scores["fused"]
    assert torch.isfinite(scores).all()
    assert scores[1] > scores[0]


def test_at_inference_the_prefix_of_the_whole_picture_stands_alone():
    weights = untaught_anople()
    scales = weights.arrays["scales"].copy()
    scales[1:] = 7.0  # those of the crops
    changed = replace(weights, arrays={**weights.arrays, "scales": scales})
    one, two = Anople(cached(), weights), Anople(cached(), changed)
    views = Views(cached(), [disc(20, scratched=True)])
    assert one.predict(views, [adapted(one)]).maps["fused"].equal(two.predict(views, [adapted(two)]).maps["fused"])
    scales[0] = 7.0
    three = Anople(cached(), replace(weights, arrays={**weights.arrays, "scales": scales}))
    assert (
        not one.predict(views, [adapted(one)]).maps["fused"].equal(three.predict(views, [adapted(three)]).maps["fused"])
    )


def test_an_entry_names_its_weights_and_others_refuse_it():
    detector = Anople(cached(), untaught_anople())
    entry = adapted(detector)
    assert entry.shared_weights == detector.shared_weights == "a6" * 32
    other = Anople(cached(), replace(untaught_anople(), sha256="b7" * 32))
    with pytest.raises(BankError, match=r"set detector.anople.weights to it"):
        other.predict(Views(cached(), [disc(0)]), [entry])


def test_weights_of_another_detector_or_backbone_are_refused():
    with pytest.raises(WeightsError, match="needed shared weights of 'anople', got those of 'mpa'"):
        Anople(cached(), untaught())
    foreign = {"name": "ViT-B-16/openai", "weights_sha256": "c8" * 32}
    about = {**untaught_anople().about, "backbone": foreign}
    with pytest.raises(WeightsError, match="belong to the backbone 'ViT-B-16/openai'"):
        Anople(cached(), replace(untaught_anople(), about=about))


def test_without_weights_every_use_says_how_to_get_some():
    detector = make_detector("anople", cached())
    with pytest.raises(NoSharedWeights, match="stream-ad train anople"):
        detector.adapt(NUT, Pictures([disc(0)]), roi=None, seed=0, progress=quiet)


def test_even_is_how_far_rows_lie_apart():
    rows = np.array([[[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 4.0]]], np.float32)  # 4 and 3 and 3 to the nearest
    memory = {"coreset": rows, "units": np.array([2.0], np.float32), "levels": np.array([[1, 5]])}
    assert even_distance(memory) == pytest.approx((4 + 3 + 3) / 3 / 2)
