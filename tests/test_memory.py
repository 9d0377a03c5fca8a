"""Memories of several levels: what is read out, how it is whitened, and how far a patch is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.backbones.views import Views
from stream_ad.detectors.memory import MemoryOptions, build_memory, frozen, patch_distances
from stream_ad.detectors.registry import make_detector
from stream_ad.functional.whitening import fit_whitening
from stream_ad.presets import DEPARTURES, PRESETS, detector_options
from tests.detector_checks import CHECKS, GOOD, NEW, adapted
from tests.models import cached, tiny
from tests.pictures import NUT, Pictures, checks, disc, quiet

LEVELS = {"blocks": (1, 2), "scales": (1, 2), "whitening": 8, "coreset_rows": 48}
BRIEF = {"prompt_steps": 2, "text_steps": 3}


def cloud(seed: int, n: int = 200, channels: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(1, -1, channels)
    return torch.randn(n, channels, generator=generator) * spread


# --- whitening ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(0, 20))
def test_whitening_never_makes_a_distance_longer(seed, rank):
    points = cloud(seed)
    whitened = fit_whitening(points, rank)(points)
    before, after = (one.diff(dim=0).norm(dim=1) for one in (points, whitened))
    assert (after <= before * (1 + 1e-4)).all()


def test_whitened_directions_vary_as_much_as_the_others_do_on_average():
    points = cloud(3)
    variances = torch.linalg.eigvalsh(torch.cov(fit_whitening(points, 5)(points).T))
    rest = torch.linalg.eigvalsh(torch.cov(points.T))[:-5].mean()
    near = (variances - rest).abs() < 1e-3 * rest
    assert int(near.sum()) >= 5


def test_rank_zero_changes_nothing_and_constant_points_are_no_error():
    points = cloud(4)
    assert torch.equal(fit_whitening(points, 0)(points), points)
    same = torch.ones(30, 6)
    assert torch.isfinite(fit_whitening(same, 3)(same)).all()
    assert fit_whitening(points[:2], 8).directions.shape == (1, 12)


# --- tiles ----------------------------------------------------------------------------------------


def test_tiles_are_the_parts_of_the_finer_picture():
    views = Views(tiny(), [checks(1), disc(2)])
    fine = tiny().preprocess([checks(1), disc(2)], scale=2)
    tiles = views.at(2).pixels
    for place in range(8):
        image, row, column = place // 4, place // 2 % 2, place % 2
        part = fine[image, :, row * 96 : (row + 1) * 96, column * 96 : (column + 1) * 96]
        assert torch.equal(tiles[place], part)
    assert views.at(1) is views


def test_tokens_of_tiles_come_back_in_their_places():
    views = Views(tiny(), [disc(0), disc(1)])
    grid = tiny().grid
    at = torch.arange(2 * grid)
    whole = torch.stack(torch.meshgrid(at, at, indexing="ij"), dim=-1).float()  # (2g, 2g, 2): each token's place
    cut = [whole[r * grid : (r + 1) * grid, c * grid : (c + 1) * grid] for r in range(2) for c in range(2)]
    tokens = torch.stack([tile.flatten(0, 1) for tile in cut * 2])
    assert torch.equal(views.assemble(tokens, 2), whole.flatten(0, 1).expand(2, -1, -1))


def test_some_of_the_images_keep_their_tiles():
    pictures = [disc(0), checks(1), disc(2, scratched=True)]
    views = Views(tiny(), pictures)
    views.at(2).compute([1])
    chosen = views.select([2, 0])
    alone = Views(tiny(), [pictures[2], pictures[0]])
    assert torch.equal(chosen.at(2).pixels, alone.at(2).pixels)
    assert torch.equal(chosen.at(2).block(1), alone.at(2).block(1))


# --- memories -------------------------------------------------------------------------------------


def memory(normals: Pictures = GOOD, **changed) -> dict[str, np.ndarray]:
    options = MemoryOptions(**{**LEVELS, **changed})
    return build_memory(frozen, cached(), normals, options, roi=None, seed=1, progress=quiet)


def test_a_memory_has_one_coreset_per_block_and_scale():
    arrays = memory()
    assert arrays["levels"].tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert arrays["coreset"].shape == (48, 4, cached().width)
    assert arrays["coreset"].dtype == np.float16
    assert arrays["directions"].shape == (4, 8, cached().width)
    assert (arrays["units"] > 0).all()


def test_fewer_rows_are_the_first_of_more():
    """Greedy k-center is nested: an entry shrinks by keeping its first rows."""
    few, many = (memory(coreset_rows=rows, scales=(1,), blocks=(2,))["coreset"] for rows in (10, 48))
    np.testing.assert_array_equal(few, many[:10])


def test_few_pictures_give_as_many_rows_as_they_have_patches():
    grid = cached().grid
    assert len(memory(Pictures([disc(0)]), coreset_rows=10_000)["coreset"]) == grid * grid


def test_distances_are_those_of_the_slow_way():
    detector = make_detector("patchcore", cached(), LEVELS)
    entry = adapted(detector)
    views = Views(cached(), NEW)
    found = patch_distances(frozen, views, entry)
    arrays = entry.arrays
    finest = 2 * cached().grid
    for image in range(len(NEW)):
        total = np.zeros((finest, finest))
        for level, (scale, block) in enumerate(arrays["levels"]):
            tokens = views.assemble(views.at(int(scale)).block(int(block)), int(scale))[image].double()
            tokens = (tokens - tokens.mean(1, keepdim=True)) / (
                tokens.var(1, unbiased=False, keepdim=True) + 1e-5
            ).sqrt()
            map_ = torch.eye(tokens.shape[1]).double()
            for direction, gain in zip(arrays["directions"][level], arrays["gains"][level], strict=True):
                map_ += float(gain) * torch.outer(*(torch.from_numpy(direction).double(),) * 2)
            rows = torch.from_numpy(arrays["coreset"][:, level]).double()
            nearest = ((tokens @ map_)[:, None] - rows).norm(dim=2).amin(dim=1) / float(arrays["units"][level])
            side = int(scale) * cached().grid
            grid = nearest.reshape(1, 1, side, side)
            grid = torch.nn.functional.interpolate(grid, (finest, finest), mode="bilinear")[0, 0]
            total += int(scale) * grid.numpy()
        np.testing.assert_allclose(found[image].numpy(), total / 6, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_detector_of_several_levels_keeps_the_promises_of_one(check):
    check(make_detector("patchcore", cached(), LEVELS))


def test_a_levelled_result_does_not_depend_on_the_batch():
    detector = make_detector("cmpmb", tiny(), LEVELS | BRIEF)  # nothing is remembered: each pass is computed
    entry = adapted(detector)
    together = detector.predict(Views(tiny(), NEW), [entry] * 3)
    for row, picture in enumerate(NEW):
        alone = detector.predict(Views(tiny(), [picture]), [entry])
        for branch in together.scores:
            assert torch.equal(alone.scores[branch][0], together.scores[branch][row])
            assert torch.equal(alone.maps[branch][0], together.maps[branch][row])


def test_a_tile_sees_what_the_squashed_picture_loses():
    """A mark of three pixels: half a patch of a tile, an eighth of one of the whole."""
    marked = [disc(seed) for seed in range(40, 44)]
    clean = [picture.copy() for picture in marked]
    for picture in marked:
        picture[46:49, 46:49] = 0

    def separation(scales: tuple[int, ...]) -> float:
        detector = make_detector("patchcore", cached(), {**LEVELS, "scales": scales})
        entry = adapted(detector)
        scores = [detector.predict(Views(cached(), each), [entry] * 4).scores["visual"] for each in (marked, clean)]
        return float((scores[0].mean() - scores[1].mean()) / scores[1].std())

    assert separation((1, 2)) > separation((1,))


# --- presets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_and_every_departure_makes_a_detector(preset):
    options = detector_options(preset)
    for name in ("anople", "cmpmb", "mpa", "patchcore", "zero-shot"):
        make_detector(name, cached(), options[name])
    for changed in DEPARTURES.values():
        assert make_detector("cmpmb", cached(), detector_options("paper", changed)["cmpmb"])


def test_on_a_shallow_backbone_a_preset_reads_the_last_block_for_those_that_are_missing():
    assert detector_options("accurate", depth=12)["cmpmb"]["blocks"] == (3, 5, 7)
    assert detector_options("accurate", depth=7)["patchcore"]["blocks"] == (3, 5, 6)
    assert detector_options("accurate", depth=6)["cmpmb"]["blocks"] == (3, 5)
    # what somebody asked for by number is no preset's, and an error where it is not there
    assert detector_options("accurate", {"blocks": (9,)}, depth=7)["cmpmb"]["blocks"] == (9,)


def test_the_papers_literal_settings_run():
    options = {**detector_options("paper")["cmpmb"], "prompt_steps": 2, "text_steps": 2, "blocks": (2,)}
    entry = adapted(make_detector("cmpmb", cached(), options), task=NUT)
    assert entry.arrays["coreset"].shape[2] == 1024
    assert entry.arrays["visual_prompts"].min() >= 0  # U(0, 1), and 5e-5 a step moves nothing
