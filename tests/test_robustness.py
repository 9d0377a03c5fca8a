"""Corruption curves and attacks, on pictures made on the spot."""

import json
import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stream_ad.cli import main
from stream_ad.domain.bank import BranchScale
from stream_ad.evaluation.attack import attacked, fused_score, noisy
from stream_ad.evaluation.robustness import Sample, attack_curves, corruption_curves, level
from stream_ad.evaluation.robustness_report import plain, pooled, to_html, to_markdown
from stream_ad.functional.calibration import fuse
from tests.models import cached, detectors, learned, model
from tests.pictures import NUT, Pictures, disc, quiet

SCRATCH = np.zeros((96, 96), bool)
SCRATCH[44:50, 30:66] = True
CLEAN = [Sample(f"{seed:064x}", disc(seed), False, None) for seed in range(20, 23)]
CLEAN += [Sample(f"{seed:064x}", disc(seed, scratched=True), True, SCRATCH) for seed in range(23, 26)]


@lru_cache(maxsize=2)
def entry(detector):
    return learned(NUT, Pictures([disc(seed) for seed in range(8)]), detector)


def scores_of(detector, pictures):
    ready = model(entry(detector))
    return np.array([found.score for found in ready.find(ready.views(pictures), [entry(detector)] * len(pictures))])


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8), st.floats(0.05, 0.95))
def test_the_score_with_gradients_is_the_score(values, weight):
    scales = {"visual": BranchScale(0.5, 1.0, weight), "text": BranchScale(-0.5, 2.0, 1 - weight)}
    scores = {"visual": np.array([v for v, _ in values]), "text": np.array([t for _, t in values])}
    expected = fuse(list(scores.values()), [0.5, -0.5], [1.0, 2.0], [weight, 1 - weight])
    with_slope = fused_score({name: torch.from_numpy(one) for name, one in scores.items()}, scales)
    np.testing.assert_allclose(with_slope.numpy(), expected, atol=1e-9)
    alone = fused_score({"visual": torch.from_numpy(scores["visual"])}, {"visual": BranchScale(0.5, 2.0, 1.0)})
    np.testing.assert_allclose(alone.numpy(), fuse([scores["visual"]], [0.5], [2.0], [1.0]), atol=1e-12)


@pytest.mark.parametrize("detector", ["cmpmb", "patchcore"])
def test_an_attack_moves_the_score_its_way_further_with_each_bound_and_further_than_noise(detector):
    pictures, raised = [one.picture for one in CLEAN[1:5]], np.array([True, True, False, False])
    found = attacked(cached(), detectors()[detector], entry(detector), pictures, raised, bounds=(1, 4), steps=4)
    clean = noisy(cached(), pictures, 0, seed=0)
    way = np.where(raised, 1, -1)
    none, small, large = (way * scores_of(detector, one) for one in (clean, found[1], found[4]))
    assert (small > none).all()
    assert (large > small).all()
    noise = way * scores_of(detector, noisy(cached(), pictures, 4, seed=0))
    assert (large - none > 2 * np.abs(noise - none)).all()
    for bound, changed in found.items():
        for before, after in zip(clean, changed, strict=True):
            assert after.dtype == np.uint8
            assert np.abs(after.astype(int) - before).max() <= bound


def test_noise_of_the_same_size_is_at_the_corners():
    (clean,), (moved,) = (noisy(cached(), [np.full((96, 96, 3), 90, np.uint8)], bound, seed=1) for bound in (0, 3))
    assert set(np.unique(moved.astype(int) - clean)) == {-3, 3}


@pytest.mark.parametrize("bounds", [(), (0, 1), (2, 1), (1, 1)])
def test_bounds_that_do_not_rise_are_refused(bounds):
    with pytest.raises(ValueError, match="rising bounds"):
        attacked(cached(), detectors()["patchcore"], entry("patchcore"), [], np.zeros(0, bool), bounds=bounds)


def test_curves_start_at_the_undisturbed_level_and_count_at_the_deployed_threshold():
    ready, one = model(entry("patchcore")), entry("patchcore")
    curves = corruption_curves(ready, one, CLEAN, seed=0, progress=quiet)
    assert list(curves) == ["noise", "blur", "light", "jpeg", "shift"]
    undisturbed = level(ready, one, CLEAN, 0)
    scores = scores_of("patchcore", [sample.picture for sample in CLEAN])
    assert undisturbed.false_alarms == (scores[:3] > one.threshold).sum()
    assert undisturbed.detected == (scores[3:] > one.threshold).sum() == 3
    for levels in curves.values():
        assert levels[0] == undisturbed
        assert [step.severity for step in levels] == list(range(6))
    again = corruption_curves(ready, one, CLEAN[::-1], seed=0, progress=quiet)
    assert [step.image_auroc for step in again["noise"]] == [step.image_auroc for step in curves["noise"]]
    assert curves["noise"][5].good_score > undisturbed.good_score


def test_attack_curves_hold_the_reference_and_report_what_was_measured():
    ready, one = model(entry("patchcore")), entry("patchcore")
    curves = attack_curves(ready, one, CLEAN[1:5], (2, 8), 4, seed=0)
    assert list(curves) == ["uniform noise", "attack"]
    assert curves["attack"][2].good_score > curves["uniform noise"][2].good_score
    assert curves["attack"][2].defective_score < curves["uniform noise"][2].defective_score
    figures = plain(curves)
    twice = pooled([figures, figures])
    assert twice["attack"][0]["good"] == 4
    assert twice["attack"][0]["image_auroc"] == figures["attack"][0]["image_auroc"]


def test_what_nobody_marked_is_not_measured():
    unmarked = [*CLEAN[:3], CLEAN[3]._replace(mask=None)]
    measured = level(model(entry("patchcore")), entry("patchcore"), unmarked, 0)
    assert math.isnan(measured.pixel_ap)
    figures = plain({"noise": [measured]})
    assert figures["noise"][0]["pixel_ap"] is None
    assert pooled([figures])["noise"][0]["pixel_ap"] is None


def report():
    levels = [
        {
            "severity": severity,
            "image_auroc": 0.9 - severity / 10,
            "pixel_ap": None,
            "good": 4,
            "false_alarms": severity,
            "defective": 4,
            "detected": 3,
        }
        for severity in range(3)
    ]
    method = {"products": {}, "corruptions": {"noise": levels}, "attack": {"uniform noise": levels, "attack": levels}}
    return {
        "tasks": ["nut"],
        "settings": {"preset": "fast"},
        "methods": {"with text": method, "without text": method},
        "provenance": {"code": "0"},
    }


def test_the_report_shows_both_methods_and_the_reference():
    markdown, page = to_markdown(report()), to_html(report())
    assert "| image AUROC | with text | 0.900 | 0.800 | 0.700 |" in markdown
    assert "| pixel AP | without text | not measured |" in markdown
    assert "| false alarms | with text, uniform noise | 0 of 4 | 1 of 4 | 2 of 4 |" in markdown
    assert page.count("data:image/svg+xml") == 2
    assert "http" not in page.replace("http-equiv", "")


def folder(root):
    """Two products in MVTec layout."""
    for name in ("nut", "disc"):
        for place, count in (("train/good", 4), ("test/good", 2), ("test/scratch", 2), ("ground_truth/scratch", 2)):
            (root / name / place).mkdir(parents=True)
            for index in range(count):
                picture = disc(hash_of(name, place, index), scratched="test/scratch" in place)
                file = f"{index:03d}_mask.png" if "truth" in place else f"{index:03d}.png"
                pixels = np.where(SCRATCH, 255, 0).astype(np.uint8) if "truth" in place else picture
                Image.fromarray(pixels).save(root / name / place / file)
    return root


def hash_of(*parts):
    return sum(map(ord, "".join(map(str, parts))))


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "robustness", *arguments])
    return ended.value.code


def test_the_command_measures_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAM_AD_BACKBONE__IMAGE_SIZE", "96")
    output = tmp_path / "out" / "robust.json"
    common = ("--data", str(folder(tmp_path / "data")), "--backbone", "tiny", "--output", str(output))
    quick = ("--tasks", "nut", "--images", "4", "--attacked", "2", "--bounds", "2", "--steps", "1")
    assert run(*common, *quick) == 0
    first = json.loads(output.read_text())
    assert set(first["methods"]) == {"with text", "without text"}
    nut = first["methods"]["with text"]["products"]["nut"]
    assert len(nut["corruptions"]["blur"]) == 6
    assert [step["severity"] for step in nut["attack"]["attack"]] == [0, 2]
    assert output.with_suffix(".html").exists()
    assert "## Attack (PGD)" in output.with_suffix(".md").read_text()
    marked = output.read_text().replace('"learned": 4', '"learned": 99')
    output.write_text(marked)
    assert run(*common, *quick) == 0
    assert json.loads(output.read_text())["methods"]["with text"]["products"]["nut"]["learned"] == 99
    capsys.readouterr()
    assert run(*common[:4], "--output", "x.txt") == 2
    assert "ends in .json" in capsys.readouterr().err
    assert run(*common, "--bounds", "4,2") == 2
    assert "rising whole numbers" in capsys.readouterr().err
