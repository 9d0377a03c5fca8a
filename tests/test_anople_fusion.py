"""AnoPLe's two opinions as one: the harmonic mean, and what the decoder may take away."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.detectors.anople_fusion import fused

odds = st.lists(st.floats(-8, 8), min_size=4, max_size=4)


def grid(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(2, 2)


def score(memory: list[float], decoder: list[float], margin: float = 0.0) -> torch.Tensor:
    return fused(grid(memory).exp(), grid(decoder), even=1.0, usual=0.0, margin=margin)


@given(odds, odds)
def test_the_score_is_the_harmonic_mean_of_two_probabilities(memory: list[float], decoder: list[float]):
    p, q = torch.sigmoid(grid(memory)), torch.sigmoid(grid(decoder))
    torch.testing.assert_close(torch.sigmoid(score(memory, decoder)), 2 * p * q / (p + q))


@given(odds, odds)
def test_a_decoder_with_much_margin_leaves_memory_as_it_is(memory: list[float], decoder: list[float]):
    found = score(memory, decoder, margin=40.0)
    torch.testing.assert_close(found - found[0, 0], grid(memory) - memory[0])


@given(odds, odds, st.floats(0, 3))
def test_a_margin_never_takes_away_more(memory: list[float], decoder: list[float], margin: float):
    assert (score(memory, decoder, margin) >= score(memory, decoder)).all()


def test_a_finer_memory_is_met_on_its_own_grid():
    assert fused(torch.ones(4, 4), torch.zeros(2, 2), even=1.0, usual=0.0, margin=0.0).shape == (4, 4)


def test_each_side_is_measured_against_what_is_usual():
    distance, said = torch.full((1, 1), 3.0), torch.full((1, 1), 5.0)
    assert fused(distance, said, even=3.0, usual=5.0, margin=0.0).item() == 0.0  # neither says anything
