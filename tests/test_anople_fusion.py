"""AnoPLe's two opinions as one: the harmonic mean, what the decoder may take away, and memories in training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.detectors.anople_fusion import AnopleMemoryOptions, Memories, fused, remembered
from stream_ad.detectors.anople_network import AnopleNetwork, AnopleShape
from stream_ad.detectors.anople_pictures import Auxiliary, Drawn, turned
from stream_ad.detectors.anople_training import AnopleOptions, AnopleTraining
from tests.continual_kit import Labelled
from tests.models import cached, tiny
from tests.pictures import Pictures, checks, disc

FEW_ROWS = AnopleMemoryOptions(coreset_rows=32)
SHORT = AnopleOptions(steps=2, batch=2, shape=AnopleShape(channels=8), memory=FEW_ROWS)
LOPSIDED = np.ascontiguousarray(np.concatenate([disc(1)[:, :48], checks(1)[:, 48:]], axis=1))
NONE = np.zeros((96, 96), bool)

odds = st.lists(st.floats(-8, 8), min_size=4, max_size=4)


def grid(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 2, 2)


@given(odds, odds)
def test_the_score_is_the_harmonic_mean_of_two_probabilities(memory: list[float], decoder: list[float]):
    p, q = torch.sigmoid(grid(memory)), torch.sigmoid(grid(decoder))
    found = torch.sigmoid(fused(grid(memory), grid(decoder)))
    torch.testing.assert_close(found, 2 * p * q / (p + q))


@given(odds, odds)
def test_a_decoder_with_much_margin_leaves_memory_as_it_is(memory: list[float], decoder: list[float]):
    found = fused(grid(memory), grid(decoder) + 40)
    torch.testing.assert_close(found - found[0, 0, 0], grid(memory) - grid(memory)[0, 0, 0])


def test_usual_of_the_decoder_counts_as_its_margin_and_temperature_is_what_divides():
    network = AnopleNetwork(AnopleShape(), tiny(), torch.Generator().manual_seed(0))
    network.fusion.data = torch.tensor([np.log(4.0), 1.5])
    said = torch.tensor([2.0, 6.0])
    torch.testing.assert_close(network.decoded(said, torch.tensor(2.0)), torch.tensor([1.5, 2.5]))


def test_a_finer_memory_is_met_on_its_own_grid():
    assert fused(torch.zeros(1, 4, 4), torch.zeros(1, 2, 2)).shape == (1, 4, 4)


def test_at_the_even_distance_memory_says_neither():
    assert remembered(torch.tensor([0.5, 1.0, 2.0]), 1.0).sign().tolist() == [-1, 0, 1]


@pytest.fixture(scope="module")
def memories() -> Memories:
    product = Auxiliary("washer", Pictures([LOPSIDED]))
    return Memories(cached(), {"washer": product}, FEW_ROWS, seed=0)


def said(memories: Memories, shown: Drawn) -> float:
    return float(memories.remembered(["washer"], [shown], np.random.default_rng(0)).mean())


def test_a_picture_that_is_turned_round_is_compared_with_ones_that_are(memories: Memories):
    known = said(memories, Drawn(LOPSIDED, NONE))
    assert said(memories, Drawn(turned(LOPSIDED), NONE, turned=True)) == pytest.approx(known, abs=0.5)
    assert said(memories, Drawn(turned(LOPSIDED), NONE)) > known + 1


def test_what_memory_has_not_seen_lies_farther(memories: Memories):
    broken = LOPSIDED.copy()
    broken[20:40, 20:40] = (230, 40, 30)
    assert said(memories, Drawn(broken, NONE)) > said(memories, Drawn(LOPSIDED, NONE))


def test_the_papers_plain_mean_has_nothing_to_learn_about_itself(tmp_path):
    products = {"washer": Auxiliary("washer", Pictures([disc(seed) for seed in range(3)]))}
    plain = AnopleTraining(tmp_path, replace(SHORT, fused=0.0), tiny(), products)
    plain.run()
    assert plain.result()[0]["fusion"].tolist() == [0.0, 0.0]
    assert "fused" not in plain.last
    ours = AnopleTraining(tmp_path, SHORT, tiny(), products)
    before = ours.result()[0]["fusion"].copy()
    ours.run()
    assert (ours.result()[0]["fusion"] != before).all()


def test_a_product_that_is_shown_damaged_all_over_can_be_learned_from(tmp_path):
    everywhere = Labelled([disc(7)], [np.ones((96, 96), bool)])
    products = {"washer": Auxiliary("washer", Pictures([disc(1)]), everywhere)}
    training = AnopleTraining(tmp_path, replace(SHORT, batch=1, real=1.0), tiny(), products)
    training.run()
    assert all(np.isfinite(value) for value in training.last.values())
