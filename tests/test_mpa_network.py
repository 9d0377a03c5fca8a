"""The parts that MPA and MPAMA learn: losses, perceptions, experts, prompts."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.detectors.mpa_network import Experts, MpaShape, Prompts, Texts, patch_logits
from stream_ad.functional.experts import combined, routed
from stream_ad.functional.losses import dice_loss, focal_loss, hinge_loss
from stream_ad.functional.perception import perceive, window_weights
from tests.models import tiny

SHAPE = MpaShape()


def drawn(*sizes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def truth_of(*sizes: int, seed: int = 1) -> torch.Tensor:
    return (drawn(*sizes, seed=seed) > 0.8).float()


# --- losses, against slow and obvious versions ----------------------------------------------------


def test_focal_loss_is_that_of_the_formula():
    logit, truth = 3 * drawn(2, 4, 5), truth_of(2, 4, 5)
    slow = 0.0
    for x, t in zip(logit.flatten().double(), truth.flatten(), strict=True):
        right = torch.sigmoid(x) if t else 1 - torch.sigmoid(x)
        slow -= float((1 - right) ** 2 * right.log()) / logit.numel()
    assert float(focal_loss(logit, truth)) == pytest.approx(slow, rel=1e-5)


def test_focal_loss_of_one_who_is_sure_and_wrong_is_finite():
    logit = torch.tensor([200.0, -200.0], requires_grad=True)
    loss = focal_loss(logit, torch.tensor([0.0, 1.0]))
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert logit.grad is not None
    assert logit.grad.isfinite().all()


def test_dice_loss_is_that_of_the_formula_and_nothing_where_all_is_right():
    probability, truth = torch.sigmoid(drawn(3, 4, 5)), truth_of(3, 4, 5)
    slow = 0.0
    for p, t in zip(probability, truth, strict=True):
        common = sum(float(a * b) for a, b in zip(p.flatten(), t.flatten(), strict=True))
        slow += (1 - (2 * common + 1) / (float(p.sum()) + float(t.sum()) + 1)) / 3
    assert float(dice_loss(probability, truth)) == pytest.approx(slow, rel=1e-5)
    assert float(dice_loss(truth, truth)) == pytest.approx(0)
    assert float(dice_loss(torch.zeros(1, 4, 5), torch.zeros(1, 4, 5))) == 0


def test_hinge_loss_is_that_of_the_formula_and_counts_each_side_by_itself():
    probability, truth = torch.sigmoid(drawn(3, 4, 5)), truth_of(3, 4, 5)
    pairs = list(zip(probability.flatten().tolist(), truth.flatten().tolist(), strict=True))
    good = [max(p - 0.4, 0) for p, t in pairs if not t]
    bad = [max(0.6 - p, 0) for p, t in pairs if t]
    slow = sum(good) / len(good) + sum(bad) / len(bad)
    assert float(hinge_loss(probability, truth, 0.4, 0.6)) == pytest.approx(slow, rel=1e-5)
    assert float(hinge_loss(torch.full((4,), 0.7), torch.zeros(4))) == pytest.approx(0.2)  # nothing damaged
    assert float(hinge_loss(torch.full((4,), 0.3), torch.ones(4))) == pytest.approx(0.2)  # nothing good


# --- perceptions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_window_is_the_mean_of_what_it_covers(width):
    tokens = drawn(25, 3)
    seen = perceive(tokens, width).unflatten(0, (5, 5))
    square = tokens.unflatten(0, (5, 5))
    for row in range(5):
        for column in range(5):
            total, area = torch.zeros(3), 0.0
            for i in range(5):
                for j in range(5):
                    part = 1.0
                    for middle, cell in ((row, i), (column, j)):
                        left, right = max(middle - width / 2, cell - 0.5), min(middle + width / 2, cell + 0.5)
                        part *= max(right - left, 0.0)
                    total, area = total + part * square[i, j], area + part
            torch.testing.assert_close(seen[row, column], total / area)


@given(st.integers(1, 9), st.integers(1, 14))
def test_every_window_is_a_mean_and_none_is_shifted(width, grid):
    weights = window_weights(grid, width)
    torch.testing.assert_close(weights.sum(1), torch.ones(grid))
    assert (weights >= 0).all()
    torch.testing.assert_close(weights, weights.flip(0, 1))


def test_patches_are_pooled_before_they_are_routed():
    """Post-aggregation would route single patches: the results differ."""
    dense = F.normalize(drawn(16, 64), dim=-1)
    experts = Experts(SHAPE, 64, torch.Generator().manual_seed(3))
    with torch.no_grad():
        experts.learned.add_(drawn(*experts.learned.shape) * 0.1)
    texts = Texts(F.normalize(drawn(1, 2, 64, seed=5), dim=-1), drawn(2, 64))
    pooled = F.normalize(experts(perceive(dense, 3)), dim=-1)
    late = F.normalize(perceive(experts(dense), 3), dim=-1)
    found = patch_logits(dense, texts, (3,), experts)[0]
    torch.testing.assert_close(found, pooled @ (texts.levels[0, 1] - texts.levels[0, 0]) / 0.07)
    assert not torch.allclose(found, late @ (texts.levels[0, 1] - texts.levels[0, 0]) / 0.07, atol=1e-3)


# --- experts --------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(1, 4))
def test_shares_are_those_of_the_best_experts_and_sum_to_one(seed, active):
    scores = drawn(7, 5, seed=seed)
    shares = routed(scores, active)
    torch.testing.assert_close(shares.sum(-1), torch.ones(7))
    assert ((shares > 0).sum(-1) == active).all()
    for row, share in zip(scores, shares, strict=True):
        assert row[share > 0].min() >= row[share == 0].max()


def test_the_frozen_expert_changes_nothing_and_the_zero_expert_says_nothing():
    tokens, learned = drawn(6, 8), drawn(3, 8, 8)
    one = torch.eye(5)
    assert combined(tokens, one[0].expand(6, 5), learned).equal(tokens)
    assert combined(tokens, one[4].expand(6, 5), learned).equal(torch.zeros(6, 8))
    torch.testing.assert_close(combined(tokens, one[2].expand(6, 5), learned), tokens @ learned[1])


def test_before_its_first_step_mpama_is_mpa():
    dense = F.normalize(drawn(2, 36, 64), dim=-1)
    texts = Texts(F.normalize(drawn(4, 2, 64, seed=5), dim=-1), drawn(2, 64))
    experts = Experts(SHAPE, 64, torch.Generator().manual_seed(3))
    bare = patch_logits(dense, texts, SHAPE.levels)
    torch.testing.assert_close(patch_logits(dense, texts, SHAPE.levels, experts), bare, rtol=1e-4, atol=1e-4)


# --- the text side --------------------------------------------------------------------------------


def test_each_prompt_has_its_own_words_and_the_shared_ones_first():
    prompts = Prompts(SHAPE, 8, torch.Generator().manual_seed(0))
    local = prompts.local()
    assert local.shape == (4, 2, 12, 8)
    assert all(level[:, :2].equal(prompts.shared) for level in local)
    assert not local[0, :, 2:].equal(local[1, :, 2:])


def test_whole_prompts_take_in_the_maximum_of_the_levels():
    prompts = Prompts(SHAPE, 8, torch.Generator().manual_seed(0))
    before = prompts.bridged()
    with torch.no_grad():
        prompts.own[2, 1, 0] = 10.0  # the highest of all levels
    changed = (prompts.bridged() - before).abs().sum(-1) > 0
    assert changed.nonzero().tolist() == [[1, 2]]
    raised = prompts.bridged()
    with torch.no_grad():
        prompts.own[1, 1, 0] = 9.0  # below it
    assert prompts.bridged().equal(raised)


def test_texts_of_all_prompts_in_one_batch_are_those_of_each_by_itself():
    backbone = tiny()
    prompts = Prompts(SHAPE, backbone.text_width, torch.Generator().manual_seed(0))
    texts = prompts.texts(backbone)
    alone = backbone.encode_text(["[P] damaged object"], context=prompts.local()[2, 1])
    torch.testing.assert_close(texts.levels[2, 1], alone[0])
    torch.testing.assert_close(texts.whole[0], backbone.encode_text(["[P] object"], context=prompts.bridged()[0])[0])


def test_gradients_reach_every_learned_number_and_nothing_of_the_backbone():
    backbone = tiny()
    generator = torch.Generator().manual_seed(0)
    prompts = Prompts(SHAPE, backbone.text_width, generator)
    experts = Experts(SHAPE, backbone.joint_width, generator)
    texts = prompts.texts(backbone)
    dense = F.normalize(drawn(2, 36, backbone.joint_width), dim=-1)
    logits = patch_logits(dense, texts, SHAPE.levels, experts)
    (logits.square().sum() + (texts.whole[1] - texts.whole[0]).square().sum()).backward()
    for module in (prompts, experts):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None for parameter in backbone.visual.parameters())
    assert all(parameter.grad is None for parameter in backbone.text.tower.parameters())


def test_every_patch_asks_as_many_experts_as_are_active():
    experts = Experts(SHAPE, 8, torch.Generator().manual_seed(0))
    tokens = drawn(3, 7, 8)
    slow = torch.zeros(5)
    for token in tokens.flatten(0, 1):
        for place in (token @ experts.router).topk(2).indices:
            slow[place] += 1
    assert experts.asked(tokens).equal(slow)
