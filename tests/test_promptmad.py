"""PromptMAD: what is rebuilt, what words may say, refinement, training that is cut off, and its weights."""

from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.backbones.views import Views
from stream_ad.detectors import shared_weights
from stream_ad.detectors.base import uncalibrated
from stream_ad.detectors.memory import MemoryOptions, within
from stream_ad.detectors.promptmad import PromptMadDetector
from stream_ad.detectors.promptmad_network import Judged, PromptMad, PromptMadShape, Reference, Seen
from stream_ad.detectors.promptmad_training import CARD, Half, PromptMadOptions, kept, training
from stream_ad.detectors.training_run import TrainingRun
from stream_ad.errors import BankError, ConfigError, TooFewImages, WeightsError
from stream_ad.functional.diffusion import denoised, noised, signal_left
from tests.continual_kit import product
from tests.models import cached, learned, tiny, untaught_promptmad
from tests.pictures import NUT, Pictures, disc, quiet

SHAPE = PromptMadShape(width=12, detail=8, fine=2)
MEMORY = MemoryOptions(coreset_rows=32, blocks=(3, 5), whitening=8)
SHORT = PromptMadOptions(shape=SHAPE, memory=MEMORY, normals=6, painted=8, steps=4, batch=4)
GRID, LEVELS, CHANNELS, JOINT = 4, 2, 6, 5


def drawn(*sizes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def network(shape: PromptMadShape = SHAPE, *, seed: int = 0) -> PromptMad:
    """One that has learned something: no layer is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = PromptMad(shape, LEVELS, CHANNELS, JOINT)
        for parameter in made.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
    return made


def reference(**changes: torch.Tensor) -> Reference:
    texts = torch.nn.functional.normalize(drawn(2, 3, JOINT, seed=2), dim=-1)
    made = Reference(drawn(LEVELS, 9, CHANNELS, seed=1), torch.ones(LEVELS), torch.ones(LEVELS, CHANNELS), texts)
    return made._replace(**changes)


def seen(batch: int = 3, seed: int = 3) -> Seen:
    dense = torch.nn.functional.normalize(drawn(batch, GRID**2, JOINT, seed=seed), dim=-1)
    side = SHAPE.fine * GRID
    return Seen(drawn(batch, LEVELS, GRID**2, CHANNELS, seed=seed), dense, drawn(batch, 3, side, side, seed=seed))


# --- the network ------------------------------------------------------------------------------------


@torch.no_grad()
def test_what_is_rebuilt_is_a_mean_of_what_is_known():
    found, rows = network()(seen(), reference()).rebuilt, reference().known
    low, high = rows.amin(1)[:, None], rows.amax(1)[:, None]
    assert ((found >= low - 1e-5) & (found <= high + 1e-5)).all()


@torch.no_grad()
def test_before_training_a_known_patch_is_rebuilt_and_a_strange_one_is_not():
    fresh, of = PromptMad(SHAPE, LEVELS, CHANNELS, JOINT), reference(unit=torch.full((LEVELS,), 0.3))
    one = seen(1)
    one.tokens[0, :, 0] = of.known[:, 4]
    one.tokens[0, :, 1] = of.known[:, 4] + 5
    judged = fresh(one, of)
    assert judged.rebuilt[0, :, 0].allclose(of.known[:, 4], atol=1e-3)
    assert judged.coarse[0, 0, 0, 1] > judged.coarse[0, 0, 0, 0]


@torch.no_grad()
def test_words_say_something_and_nothing_to_a_network_without_text():
    swapped = reference(texts=reference().texts.flip(0))
    with_text, without = network(), network(replace(SHAPE, text=False))
    assert not with_text(seen(), swapped).coarse.equal(with_text(seen(), reference()).coarse)
    assert without(seen(), swapped).coarse.equal(without(seen(), reference()).coarse)
    nothing = seen()._replace(dense=torch.zeros(3, GRID**2, 1))
    assert without(nothing, reference()).coarse.equal(without(seen(), reference()).coarse)


@torch.no_grad()
def test_with_attention_a_patch_sees_all_others_and_without_its_surroundings_alone():
    shape = replace(SHAPE, text=False)
    one, grid = seen(1), 16
    tokens = drawn(1, LEVELS, grid**2, CHANNELS)
    other = tokens.clone()
    other[:, :, -1] += 3
    for attention in (True, False):
        made = network(replace(shape, attention=attention))
        first, second = (made(one._replace(tokens=each), reference()).coarse[0, 0, 0, 0] for each in (tokens, other))
        assert (first != second) == attention


@torch.no_grad()
def test_what_is_not_inspected_is_not_judged():
    inside = torch.arange(GRID**2) >= GRID  # not the first row
    of, strange = reference(inside=inside), seen()
    strange.tokens[:, :, :GRID] += 20
    shape = replace(SHAPE, text=False)
    made = network(shape)
    made.asked.weight.zero_()  # else a patch's query knows its surroundings
    assert made(strange, of).coarse.allclose(made(seen(), of).coarse, atol=1e-4)


@given(steps=st.integers(1, 12), seed=st.integers(0, 50))
@settings(max_examples=20)
@torch.no_grad()
def test_refinement_stays_finite_and_its_map_a_probability(steps: int, seed: int):
    made = network(seed=seed % 3)
    one = seen(2, seed)
    logit = made.refined(made(one, reference()), one.detail, steps)
    assert logit.shape == (2, 1, 8, 8)
    assert logit.isfinite().all()
    assert ((torch.sigmoid(logit) >= 0) & (torch.sigmoid(logit) <= 1)).all()


@torch.no_grad()
def test_no_refinement_is_the_coarse_map_and_refinement_is_always_the_same():
    made, one = network(), seen()
    judged = made(one, reference())
    assert made.refined(judged, one.detail, 0).equal(made.enlarged(judged.coarse))
    assert made.refined(judged, one.detail, 3).equal(made.refined(judged, one.detail, 3))
    assert not made.refined(judged, one.detail, 3).equal(made.refined(judged, one.detail, 0))


def test_a_mask_that_is_known_is_found_in_any_number_of_steps():
    truth = torch.where(drawn(1, 1, 6, 6) > 0, 1.0, -1.0)
    for steps in (1, 3, 10):
        asked = []

        def predict(noisy: torch.Tensor, signal: torch.Tensor, asked: list = asked) -> torch.Tensor:
            asked.append(noisy)
            return 20 * truth

        found = denoised(predict, drawn(1, 1, 6, 6), steps)
        assert found.sign().equal(truth)
        left = float(signal_left(torch.tensor(1 / steps)))
        if steps > 1:  # the last mask that was asked about was made of the truth and the first noise
            assert asked[-1].allclose(noised(truth, torch.tensor([left]), drawn(1, 1, 6, 6)), atol=1e-4)


def test_signal_falls_from_all_to_nothing():
    left = signal_left(torch.linspace(0, 1, 20))
    assert left[0] == 1
    assert left[-1] == pytest.approx(0, abs=1e-6)
    assert (left.diff() < 0).all()


# --- training ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def data(folder: Path) -> tuple[list[Half], dict[str, list[str]]]:
    return kept(folder, SHORT, cached(), [product("disc"), product("checks", first=50)], quiet)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Half], dict[str, list[str]]]:
    return data(tmp_path_factory.mktemp("features"))


def run(folder: Path, features, options: PromptMadOptions = SHORT) -> TrainingRun:
    return training(folder, options, tiny(), features)


def test_pictures_are_painted_and_encoded_once(tmp_path, features, monkeypatch):
    halves, ids = features
    assert [len(half.good.tokens) for half in halves] == [3, 3, 3, 3]
    assert [len(half.truth) for half in halves] == [4, 4, 4, 4]
    assert list(ids) == ["checks", "disc"]
    products = [product("disc")]
    one = kept(tmp_path, SHORT, cached(), products, quiet)

    def refused(*arguments, **options):
        raise AssertionError("nothing is to be encoded")

    monkeypatch.setattr("stream_ad.detectors.promptmad_training._encoded", refused)
    two = kept(tmp_path, SHORT, cached(), products, quiet)
    assert one[0][1].painted.tokens.equal(two[0][1].painted.tokens)


def test_half_of_a_products_pictures_are_not_in_the_memory_that_they_are_seen_against(features):
    halves, _ = features
    for half in halves:
        nearest = torch.cdist(half.good.tokens[0, 0].float(), half.of.known[0]).amin(1)
        assert (nearest > 0.01 * half.of.unit[0]).all()


def test_training_lowers_what_is_left_over_of_normals(tmp_path, features):
    options = replace(SHORT, steps=40, rate=5e-2, rebuilding=1.0)
    going = run(tmp_path, features, options)

    @torch.no_grad()
    def left_over() -> float:
        total = 0.0
        for half in features[0]:
            good = Seen(*(one.float() for one in half.good))
            far = going.network(good, half.of).rebuilt - good.tokens
            total += float((far.square().sum(-1) / half.of.unit.square()[:, None]).mean())
        return total

    before = left_over()
    going.run()
    assert left_over() < 0.98 * before


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, features, monkeypatch):
    monkeypatch.setattr("stream_ad.detectors.training_run.TrainingRun.save_every", 2)

    def die(step: int, loss: float) -> None:
        if step == 3:
            raise Killed

    whole = run(tmp_path / "whole", features)
    whole.run()
    with pytest.raises(Killed):
        run(tmp_path / "cut", features).run(told=die)
    again = run(tmp_path / "cut", features)
    assert again.step == 2
    again.run()
    assert again.write(tmp_path, *CARD) == whole.write(tmp_path, *CARD)  # the name is the content's hash


def test_other_options_pictures_or_seeds_are_another_run(tmp_path, features):
    run(tmp_path, features).run()
    assert run(tmp_path, features).step == SHORT.steps
    assert run(tmp_path, features, replace(SHORT, focal=False)).step == 0
    assert run(tmp_path, features, replace(SHORT, seed=1)).step == 0
    assert run(tmp_path, (features[0][:2], {"checks": features[1]["checks"]})).step == 0


def test_a_product_of_few_pictures_is_refused(tmp_path):
    with pytest.raises(TooFewImages, match="needs at least 4"):
        kept(tmp_path, SHORT, cached(), [product("disc", train=3)], quiet)


def test_the_last_block_stands_for_those_that_a_backbone_does_not_have():
    assert within(PromptMadOptions().memory, 5).blocks == (3, 4)
    assert within(PromptMadOptions().memory, 12).blocks == (3, 5, 7)


# --- weights and detector -----------------------------------------------------------------------------


def test_weights_are_saved_with_a_card_and_score_by_themselves_alone(tmp_path, features):
    first, other = run(tmp_path / "a", features), run(tmp_path / "b", features, replace(SHORT, seed=1))
    first.run()
    other.run()
    folder = first.write(tmp_path, *CARD)
    assert folder.name == f"promptmad-{shared_weights.load(folder).sha256[:16]}"
    card = (folder / "README.md").read_text()
    for told in ("PromptMAD", "checks, disc", "Steps: 4", "tiny", "coarse"):
        assert told in card
    detector = PromptMadDetector(cached(), folder)
    arrays = detector.adapt(NUT, Pictures([disc(seed) for seed in range(4)]), roi=None, seed=0, progress=quiet)
    entry = uncalibrated(detector, NUT, arrays, tiny().spec)
    raw = detector.predict(Views(cached(), [disc(60), disc(60, scratched=True)]), [entry] * 2)
    assert raw.scores["visual"][1] > raw.scores["visual"][0]
    with pytest.raises(BankError, match=r"detector\.promptmad\.weights"):
        PromptMadDetector(cached(), other.write(tmp_path, *CARD)).predict(Views(cached(), [disc(0)]), [entry])


def test_weights_of_another_backbone_or_detector_are_refused():
    own = untaught_promptmad()
    foreign = replace(own, about={**own.about, "backbone": {"name": "ViT-B-16/openai", "weights_sha256": "0" * 64}})
    with pytest.raises(WeightsError, match=r"belong to the backbone 'ViT-B-16/openai'.*stream-ad train promptmad"):
        PromptMadDetector(tiny(), foreign)
    with pytest.raises(WeightsError, match="needed shared weights of 'promptmad', got those of 'mpa'"):
        PromptMadDetector(tiny(), replace(own, kind="mpa"))


def test_without_weights_the_detector_says_how_to_get_some():
    with pytest.raises(ConfigError, match=r"stream-ad train promptmad.*detector\.promptmad\.weights"):
        PromptMadDetector(tiny()).adapt(NUT, Pictures([disc(0)]), roi=None, seed=0, progress=quiet)


def test_a_learned_entry_names_the_shared_weights():
    entry = learned(NUT, Pictures([disc(seed) for seed in range(6)]), "promptmad")
    assert entry.shared_weights == untaught_promptmad().sha256


def test_a_shape_is_what_json_keeps_of_it():
    assert PromptMadShape(**asdict(SHAPE)) == SHAPE
    assert Judged._fields == ("rebuilt", "coarse", "features")
