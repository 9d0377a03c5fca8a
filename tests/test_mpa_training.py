"""MPA's training: what changes, what must not, and what a kill costs."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from stream_ad.backbones.views import Views
from stream_ad.detectors import shared_weights
from stream_ad.detectors.base import uncalibrated
from stream_ad.detectors.mpa import Mpa
from stream_ad.detectors.mpa_network import MpaShape
from stream_ad.detectors.mpa_training import Auxiliary, MpaOptions, MpaTraining, encode, kept, shrunk
from stream_ad.detectors.training_run import once
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import HeldoutImage
from stream_ad.errors import BankError, ConfigError, DataError, WeightsError
from tests.models import cached, learned, tiny, untaught
from tests.pictures import NUT, Pictures, disc, quiet

SHORT = MpaOptions(steps=6, expert_steps=4, batch=4, save_every=4)


class Labelled:
    """A `HeldoutSet` of discs, every other one scratched."""

    def __init__(self, count: int, first: int = 0) -> None:
        pictures = [disc(first + n, scratched=bool(n % 2)) for n in range(count)]
        self.ids = Pictures(pictures).ids
        self.defective = [bool(n % 2) for n in range(count)]
        mask = np.zeros((96, 96), bool)
        mask[44:50, 30:66] = True
        self._images = [
            HeldoutImage(id, picture, bad, mask if bad else None, "scratch" if bad else "good")
            for id, picture, bad in zip(self.ids, pictures, self.defective, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> HeldoutImage:
        return self._images[index]


PRODUCTS = {"washer": Labelled(6), "ring": Labelled(6, first=50)}


@lru_cache(maxsize=1)
def data() -> Auxiliary:
    return encode(cached(), PRODUCTS)


def trained(folder: Path, options: MpaOptions = SHORT, upto: int | None = None) -> MpaTraining:
    training = MpaTraining(folder, options, tiny(), data())
    training.run(until=lambda: upto is not None and training.step >= upto)
    return training


def arrays(training: MpaTraining) -> Mapping[str, np.ndarray]:
    return training.result()[0]


def test_stage_one_learns_the_prompts_and_stage_two_the_experts_alone(tmp_path):
    training = MpaTraining(tmp_path, SHORT, tiny(), data())
    start = {name: array.copy() for name, array in arrays(training).items()}
    router, learned = training.experts.router.clone(), training.experts.learned.clone()
    training.run(until=lambda: training.step == SHORT.steps)
    first = arrays(training)
    assert all((first[name] != start[name]).any() for name in first)
    assert training.experts.router.equal(router)
    training.run()
    second = arrays(training)
    for name in first:
        assert second[name].tobytes() == first[name].tobytes()  # the text side: not a bit
    assert not training.experts.router.equal(router)
    assert not training.experts.learned.equal(learned)


def test_training_changes_nothing_of_the_backbone(tmp_path):
    backbone = tiny()
    parts = [*backbone.visual.parameters(), *backbone.text.tower.parameters()]
    before = [part.clone() for part in parts]
    trained(tmp_path)
    assert all(part.equal(old) and part.grad is None for part, old in zip(parts, before, strict=True))


def test_training_lowers_the_loss(tmp_path):
    losses = []
    training = MpaTraining(tmp_path, MpaOptions(steps=60, expert_steps=0, batch=12), tiny(), data())
    training.run(told=lambda step, loss: losses.append(loss))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [5, 9])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, at):
    def die(step: int, loss: float) -> None:
        if step == at:
            raise Killed

    whole = trained(tmp_path / "whole").write(tmp_path / "weights")
    with pytest.raises(Killed):
        MpaTraining(tmp_path / "cut", SHORT, tiny(), data()).run(told=die)
    again = MpaTraining(tmp_path / "cut", SHORT, tiny(), data())
    assert again.step == at // 4 * 4
    again.run()
    assert again.write(tmp_path / "weights") == whole  # the name is the content's hash


def test_a_run_of_mpa_goes_on_to_mpama(tmp_path):
    bare = MpaOptions(steps=6, expert_steps=0, batch=4)
    first = trained(tmp_path, bare)
    assert first.result()[1]["method"] == "MPA"
    both = MpaTraining(tmp_path, SHORT, tiny(), data())
    assert both.step == 6
    both.run()
    assert both.result()[1]["method"] == "MPAMA"
    assert arrays(both)["texts.levels"].tobytes() == arrays(first)["texts.levels"].tobytes()


def test_runs_with_other_experts_share_the_first_stage(tmp_path):
    trained(tmp_path)
    other = MpaOptions(steps=6, expert_steps=4, batch=4, shape=MpaShape(experts=1))
    assert MpaTraining(tmp_path, other, tiny(), data()).step == 6


@pytest.mark.parametrize("shape", [{"decoupled": False}, {"bridge": False}, {"levels": (2, 3)}])
def test_parts_that_an_ablation_leaves_out_are_not_learned(tmp_path, shape):
    training = MpaTraining(tmp_path, replace(SHORT, shape=MpaShape(**shape)), tiny(), data())
    start = {name: array.copy() for name, array in arrays(training).items()}
    training.run()
    unused = {"prompts.bridge_in", "prompts.bridge_out"} if "levels" not in shape else set()
    unused |= {"prompts.whole"} if "decoupled" in shape else set()
    same = {name for name, array in arrays(training).items() if name in start and (array == start[name]).all()}
    assert same == unused


def test_another_seed_or_other_pictures_are_another_run(tmp_path):
    one = trained(tmp_path)
    assert MpaTraining(tmp_path, MpaOptions(steps=6, expert_steps=4, batch=4, seed=1), tiny(), data()).step == 0
    assert MpaTraining(tmp_path, SHORT, tiny(), encode(cached(), {"washer": PRODUCTS["washer"]})).step == 0
    assert MpaTraining(tmp_path, SHORT, tiny(), data()).step == one.step


def test_features_are_computed_once_and_kept(tmp_path):
    one = kept(tmp_path, cached(), PRODUCTS, quiet)

    def asked(stage: str, done: int, total: int) -> None:
        raise AssertionError("nothing is to be encoded")

    two = kept(tmp_path, cached(), PRODUCTS, asked)
    assert one.dense.equal(two.dense)
    assert two.truth.equal(one.truth)
    assert one.ids == two.ids


def test_a_product_that_comes_later_finds_the_others_features(tmp_path):
    kept(tmp_path, cached(), {"ring": PRODUCTS["ring"]}, quiet)
    told = []
    both = kept(tmp_path, cached(), PRODUCTS, lambda stage, done, total: told.append((done, total)))
    assert told == [(12, 12)]  # the washer's alone
    assert both.embedding.equal(data().embedding)
    assert both.ids == data().ids


def test_damage_smaller_than_a_cell_does_not_vanish():
    mask = np.zeros((96, 96), bool)
    mask[10, 10] = True
    assert shrunk(mask, 24).nonzero().tolist() == [[2, 2]]
    mask[40:80, 40:80] = True
    assert shrunk(mask, 24).sum() == 100  # what is half covered counts
    assert not shrunk(np.zeros((96, 96), bool), 24).any()


def test_pictures_of_one_kind_alone_are_refused():
    good = Labelled(1)
    with pytest.raises(DataError, match="needed good and damaged pictures to train mpa, got 1 and 0"):
        encode(cached(), {"washer": good})


def test_damage_that_nobody_marked_teaches_no_map_and_is_refused():
    unmarked = Labelled(4)
    unmarked._images = [replace(image, mask=None) for image in unmarked._images]
    with pytest.raises(DataError, match="needed damaged pictures with masks to train mpa, got 2 without any"):
        encode(cached(), {"washer": unmarked})


def test_files_of_an_earlier_run_that_cannot_be_read_are_named(tmp_path):
    trained(tmp_path, upto=4)
    (state,) = tmp_path.glob("*.training")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(DataError, match=f"left in {state}, but it is damaged or another version's .*; delete it"):
        trained(tmp_path)
    kept(tmp_path, cached(), {"ring": PRODUCTS["ring"]}, quiet)
    (features,) = tmp_path.glob("*.features")
    features.write_bytes(b"")
    with pytest.raises(DataError, match=f"left in {features}, but it is damaged"):
        kept(tmp_path, cached(), {"ring": PRODUCTS["ring"]}, quiet)


def test_features_that_cannot_be_written_are_an_error_of_the_disk(tmp_path):
    kept(tmp_path, cached(), {"ring": PRODUCTS["ring"]}, quiet)
    (features,) = tmp_path.glob("*.features")
    features.unlink()
    features.with_suffix(".partial").mkdir()
    with pytest.raises(IsADirectoryError):  # which `train` says; neither torch nor safetensors raise an OSError
        kept(tmp_path, cached(), {"ring": PRODUCTS["ring"]}, quiet)
    (tmp_path / "once.partial").mkdir()
    with pytest.raises(IsADirectoryError):
        once(tmp_path / "once.features", lambda: {"one": torch.zeros(1)})


# --- the weights on disk --------------------------------------------------------------------------


def test_weights_are_saved_under_their_hash_with_a_card(tmp_path):
    folder = trained(tmp_path / "run").write(tmp_path)
    weights = shared_weights.load(folder)
    assert folder.name == f"mpa-{weights.sha256[:16]}"
    [found] = shared_weights.found(tmp_path)
    assert (found.folder, found.kind, found.sha256) == (folder, "mpa", weights.sha256)
    card = (folder / "README.md").read_text()
    for told in ("MPAMA", "12 labelled pictures of 2 products: ring, washer", "6 of stage 1", "4 of stage 2", "tiny"):
        assert told in card


def test_weights_of_another_backbone_are_refused(tmp_path):
    folder = trained(tmp_path / "run").write(tmp_path)
    about = (folder / "weights.safetensors").read_bytes()
    other = shared_weights.load(folder)
    changed = {**other.about, "backbone": {"name": "ViT-B-16/openai", "weights_sha256": "0" * 64}}
    foreign = shared_weights.save("mpa", other.arrays, changed, "", tmp_path)
    assert (foreign / "weights.safetensors").read_bytes() != about
    with pytest.raises(
        WeightsError, match=r"belong to the backbone 'ViT-B-16/openai'.*but 'tiny'.*stream-ad train mpa"
    ):
        Mpa(tiny(), foreign)


def test_damaged_or_missing_weights_are_refused(tmp_path):
    folder = trained(tmp_path / "run").write(tmp_path)
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="are damaged"):
        Mpa(tiny(), folder)
    with pytest.raises(WeightsError, match="stream-ad weights list"):
        Mpa(tiny(), tmp_path / "nowhere")


# --- the detector ---------------------------------------------------------------------------------


def entry_of(detector: Mpa) -> BankEntry:
    arrays = detector.adapt(NUT, Pictures([]), roi=None, seed=0, progress=quiet)
    return uncalibrated(detector, NUT, arrays, tiny().spec)


def test_trained_words_find_the_damage_of_pictures_they_have_not_seen(tmp_path):
    folder = trained(tmp_path, MpaOptions(steps=60, expert_steps=0, batch=12)).write(tmp_path)
    detector = Mpa(cached(), folder)
    pictures = [disc(200), disc(201, scratched=True)]
    raw = detector.predict(Views(cached(), pictures), [entry_of(detector)] * 2)
    assert raw.scores["text"][1] > raw.scores["text"][0]
    scratch = torch.zeros(96, 96, dtype=torch.bool)
    scratch[44:50, 30:66] = True
    assert raw.maps["text"][1][scratch].mean() > raw.maps["text"][1][~scratch].mean()


def test_without_weights_the_detector_says_how_to_get_some():
    with pytest.raises(ConfigError, match=r"stream-ad train mpa.*detector\.mpa\.weights"):
        entry_of(Mpa(tiny()))


def test_an_entry_is_scored_by_the_weights_that_it_names_and_no_others(tmp_path):
    one = Mpa(cached(), trained(tmp_path / "a").write(tmp_path))
    other = Mpa(cached(), trained(tmp_path / "b", MpaOptions(steps=3, expert_steps=0, batch=4)).write(tmp_path))
    with pytest.raises(BankError, match=r"detector\.mpa\.weights"):
        other.predict(Views(cached(), [disc(0)]), [entry_of(one)])


def test_a_learned_entry_names_the_shared_weights():
    entry = learned(NUT, Pictures([disc(seed) for seed in range(6)]), "mpa")
    assert entry.shared_weights == untaught().sha256
    assert learned(NUT, Pictures([disc(seed) for seed in range(6)]), "zero-shot").shared_weights is None
