import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from stream_ad.functional.anomaly_map import resize_roi, roi_patches, top_mean, upsample
from stream_ad.functional.calibration import STEEPNESS, center_and_scale, fuse
from stream_ad.functional.losses import patch_mse, structure_loss
from stream_ad.functional.neighbors import nearest_distance
from stream_ad.functional.sampling import farthest_point_sampling, trim_isolated

ROWS = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=40)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(ROWS, st.integers(0, 99))
@settings(deadline=None)
def test_fps_visits_every_point_once_and_never_covers_worse(rows, seed):
    points = torch.tensor(rows, dtype=torch.float32)  # integers, so duplicates are common
    order = farthest_point_sampling(points, len(points), generator=seeded(seed))
    gaps = (points[:, None] - points[order][None]).norm(dim=2)  # (n, n)
    radius = gaps.cummin(dim=1).values.amax(dim=0)  # covering radius after 1..n choices
    assert sorted(order.tolist()) == list(range(len(points)))
    assert (radius.diff() <= 0).all()


def test_fps_never_repeats_a_point_in_float32():
    points = torch.randn(196, 768, generator=seeded()) * 10  # where a matrix product leaves points off themselves
    points = torch.cat([points, points])
    chosen = farthest_point_sampling(points, 392, generator=seeded())
    assert len(set(chosen.tolist())) == 392


def test_fps_says_what_it_needs():
    with pytest.raises(ValueError, match=r"count must be in \[1, 3\], got 4"):
        farthest_point_sampling(torch.zeros(3, 2), 4, generator=seeded())


def test_shape_is_checked():
    with pytest.raises(TypeCheckError):
        farthest_point_sampling(torch.zeros(3), 1, generator=seeded())


def test_trimming_drops_the_farthest_first():
    points = torch.cat([torch.randn(199, 4, generator=seeded()), torch.full((1, 4), 50.0)])
    kept = trim_isolated(points, 0.005)
    assert kept.tolist() == list(range(199))


@given(ROWS, ROWS)
@settings(deadline=None)
def test_nearest_distance_is_the_slow_one(queries, rows):
    q, r = torch.tensor(queries, dtype=torch.float32), torch.tensor(rows, dtype=torch.float32)
    slow = (q[:, None] - r[None]).norm(dim=2).amin(dim=1)
    torch.testing.assert_close(nearest_distance(q, r), slow)


def test_an_equal_row_is_at_distance_zero_in_float32():
    rows = torch.randn(500, 768, generator=seeded())
    assert nearest_distance(rows[37:38], rows).item() == 0.0


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=20), st.floats(-3, 3), st.floats(0.1, 5))
def test_fusing_one_branch_is_linear_and_swaps_nothing(raw, center, scale):
    ordered = np.sort(np.array(raw))
    fused = fuse([ordered], [center], [scale], [1.0])
    np.testing.assert_allclose(fused, STEEPNESS * (ordered - center) / scale)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.05, 0.95))
def test_fusion_is_the_papers_sum_as_log_odds(visual, text, weight):
    fused = fuse([np.array([visual]), np.array([text])], [0.5, -0.5], [1.0, 2.0], [weight, 1 - weight])
    p = weight / (1 + np.exp(-1.5 * (visual - 0.5))) + (1 - weight) / (1 + np.exp(-1.5 * (text + 0.5) / 2))
    np.testing.assert_allclose(1 / (1 + np.exp(-fused)), p)


def test_fusion_does_not_tie_far_scores_and_keeps_outside_outside():
    scores = np.array([10.0, 50.0, 100.0, -np.inf])
    fused = fuse([scores, scores], [0.0, 0.0], [1.0, 1.0], [0.9, 0.1])
    assert fused[0] < fused[1] < fused[2]
    assert fused[3] == -np.inf


def test_center_and_scale_of_a_normal_distribution_are_its_own():
    values = np.random.default_rng(0).normal(3, 2, 100_000)
    center, scale = center_and_scale(values)
    assert center == pytest.approx(3 + 2.326 * 2, abs=0.1)
    assert scale == pytest.approx(2, abs=0.05)
    assert center_and_scale(np.full(5, 4.0))[1] > 0


def test_the_region_of_interest_decides_score_and_map():
    grid = torch.zeros(6, 6)
    grid[0, 0], grid[4, 4] = 9.0, 5.0
    roi = np.zeros((60, 60), bool)
    roi[30:, 30:] = True
    assert float(top_mean(grid, 1, roi)) == 5.0
    assert float(top_mean(grid, 1)) == 9.0
    anomaly_map = upsample(grid, 96, roi)
    assert torch.equal(torch.isinf(anomaly_map), torch.from_numpy(~resize_roi(roi, 96)))


def test_a_thin_region_of_interest_still_has_patches():
    roi = np.zeros((96, 96), bool)
    roi[40:42, :] = True
    assert roi_patches(roi, 6).reshape(6, 6)[2].all()
    assert roi_patches(roi, 6).sum() == 6


def test_structure_loss_falls_when_regions_part():
    regions = torch.tensor([[0, 0, 1, 1]])
    parted = torch.tensor([[[1.0, 0], [1, 0], [0, 1], [0, 1]]])
    mixed = torch.tensor([[[1.0, 0], [0, 1], [1, 0], [0, 1]]])
    assert structure_loss(parted, regions) < structure_loss(mixed, regions)


def test_patch_mse_weighs_damage_and_intact_alike():
    share = torch.tensor([[1.0] + [0.0] * 99])
    blind = patch_mse(torch.zeros(1, 100), share)
    assert float(blind) == pytest.approx(0.5)
    assert float(patch_mse(share, share)) == 0
