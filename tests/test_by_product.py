"""Methods judged product by product: folds, figures, resampled pixel metrics, and runs that are cut off."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_ad.backbones.views import Views
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.evaluation import METRICS
from stream_ad.domain.images import HeldoutImage
from stream_ad.domain.product import Product
from stream_ad.errors import ConfigError, DataError
from stream_ad.evaluation.by_product.differences import differences
from stream_ad.evaluation.by_product.folds import Fold, across, leave_one_out, require_disjoint, unseen_kinds
from stream_ad.evaluation.by_product.methods import Learned, Method, of_detector
from stream_ad.evaluation.by_product.published import Printed, PublishedTable
from stream_ad.evaluation.by_product.renderings import to_markdown
from stream_ad.evaluation.by_product.resampled import sampled_pixel_auroc, sampled_pro
from stream_ad.evaluation.by_product.results import data, figures
from stream_ad.evaluation.by_product.results import test_reads as reads_of
from stream_ad.evaluation.by_product.run import ByProduct, Kit, Plan
from stream_ad.evaluation.by_product.sizes import SIZES, by_size, quarters
from stream_ad.evaluation.continual.differences import draws
from stream_ad.evaluation.continual.measure import Scored
from stream_ad.evaluation.continual.parts import Parts
from stream_ad.evaluation.metrics import image_auroc, pixel_auroc, pixel_pro
from tests.continual_kit import Interrupted, Labelled, product
from tests.models import cached


class Kinds(Labelled):
    """Damaged pictures of several kinds in turn."""

    def __init__(self, of: Labelled, kinds: Sequence[str]) -> None:
        self._of, self._names = of, iter(())
        super().__init__([of[row].pixels for row in range(len(of))], [of[row].mask for row in range(len(of))])
        names = list(kinds)
        self._kinds = ["good" if mask is None else names.pop(0) for mask in self._masks]

    @property
    def kinds(self) -> Sequence[str]:
        return self._kinds

    def __getitem__(self, index: int) -> HeldoutImage:
        return replace(super().__getitem__(index), kind=self._kinds[index])


def products() -> list[Product]:
    return [product(name, train=4, good=4, bad=4) for name in ("disc", "checks", "stripes")]


def brightness(views: Views) -> list[Scored]:
    """Damage is what differs from the picture's mean."""
    found = []
    for pixels in views.pixels.mean(1):
        away = (pixels - pixels.mean()).abs().numpy()
        found.append(Scored(float(away.max()), away))
    return found


def method(name: str = "brightness", **changes: Any) -> Method:
    given = {"about": "a rule", "options": {}, "backbone": cached(), "learn": lambda *_: Learned(brightness)}
    return Method(name=name, **(given | changes))


def noise(fold: Fold, seed: int, progress: Any) -> Learned:
    """Scores that are drawn."""
    generator = np.random.default_rng(seed)

    def score(views: Views) -> list[Scored]:
        size = cached().grid
        return [
            Scored(float(generator.random()), generator.random((size, size)).astype(np.float32)) for _ in views.pixels
        ]

    return Learned(score, lambda: {"seed": seed})


def bench(state: Path, methods: Sequence[Method], folds: Sequence[Fold], *, stop_at: int | None = None, **plan: Any):
    def progress(stage: str, done: int, total: int) -> None:
        if stop_at is not None and " on " in stage and done >= stop_at:
            raise Interrupted(stage)

    kit = Kit(parts=Parts(state), now=lambda: datetime(2026, 1, 2, tzinfo=UTC), progress=progress, code="test")
    return ByProduct(Plan(folds=folds, methods=methods, map_size=48, **plan), kit)


# --- folds --------------------------------------------------------------------------------------------


def test_no_product_is_judged_by_what_was_learned_on_itself():
    for fold in leave_one_out(products()):
        assert fold.name not in [one.id for one in fold.auxiliary]
        assert len(fold.auxiliary) == 2
        require_disjoint(fold)


def test_a_product_cannot_be_learned_and_judged():
    disc, checks, stripes = products()
    assert [fold.name for fold in across([disc], [checks, stripes])] == ["checks", "stripes"]
    with pytest.raises(ConfigError, match="'disc' is to be learned and judged"):
        across([disc, checks], [disc])
    with pytest.raises(ConfigError, match="at least two, got 1"):
        leave_one_out([disc])


def test_equal_pictures_under_two_names_are_refused():
    disc, other = product("disc"), replace(product("disc"), id="copy")
    with pytest.raises(DataError, match="6 pictures of disc are among those of copy too"):
        require_disjoint(leave_one_out([disc, other])[0])


def test_an_unseen_kind_is_learned_nowhere_and_judged_alone():
    disc, checks, _ = products()
    base = product("disc", good=4, bad=11)
    assert isinstance(base.test, Labelled)
    assert isinstance(checks.test, Labelled)
    disc = replace(disc, test=Kinds(base.test, ["dent"] * 5 + ["spot"] * 6))
    checks = replace(checks, test=Kinds(checks.test, ["dent", "dent", "dent", "dent"]))
    folds = unseen_kinds([disc, checks])  # checks has one kind
    assert [fold.name for fold in folds] == ["disc/dent", "disc/spot"]
    for fold in folds:
        require_disjoint(fold)
        kind = fold.name.split("/")[1]
        assert sorted(set(fold.test.kinds)) == sorted(["good", kind])
        assert fold.test.kinds.count("good") == 2
        assert all(kind not in one.test.kinds for one in fold.auxiliary)
        own = next(one for one in fold.auxiliary if one.id == "disc")
        assert {*own.test.ids, *fold.test.ids} == set(disc.test.ids)
    with pytest.raises(ConfigError, match="a product whose test folder has two kinds"):
        unseen_kinds([checks])


# --- figures ------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_pictures_and_maps(tmp_path: Path):
    found = products()
    run = bench(tmp_path, [method(seeded=False)], leave_one_out(found), seeds=(0, 1))
    run.run()
    report = figures(run)
    for one in found:
        test = [one.test[row] for row in range(len(one.test))]
        own = brightness(Views(cached(), [image.pixels for image in test]))
        defective = np.array([image.defective for image in test])
        task = report["detectors"]["brightness"]["per_task"][one.id]
        assert task["oracle"]["image_auroc"] == pytest.approx(image_auroc(np.array([s.score for s in own]), defective))
        assert (task["good"], task["defective"]) == (4, 4)
        assert {size: part["images"] for size, part in task["sizes"].items()} == dict.fromkeys(SIZES, 1)
    average = report["detectors"]["brightness"]["average"]
    for metric in METRICS:
        per_task = [report["detectors"]["brightness"]["per_task"][one.id]["oracle"][metric] for one in found]
        assert average[metric] == pytest.approx(np.mean(per_task))
    json.dumps({**report, "differences": differences(run), "data": data(run)}, allow_nan=False)


def test_a_metric_without_good_pictures_or_masks_is_null_and_left_out_of_the_mean(tmp_path: Path):
    disc, checks = products()[:2]
    only_bad = replace(disc, test=Labelled([disc.test[4].pixels, disc.test[5].pixels], [disc.test[4].mask] * 2))
    run = bench(tmp_path, [method(), method("twin")], leave_one_out([only_bad, checks]))
    run.run()
    report = figures(run)
    task = report["detectors"]["brightness"]["per_task"]
    assert task["disc"]["oracle"]["image_auroc"] is None
    assert task["disc"]["oracle"]["pixel_auroc"] is not None
    found = report["detectors"]["brightness"]
    assert found["average"]["image_auroc"] == task["checks"]["oracle"]["image_auroc"]
    assert found["average_over"]["image_auroc"] == 1
    assert differences(run)["minus"]["twin"]["image_auroc"]["tasks"] == 1


def test_a_method_that_draws_nothing_is_judged_once_for_all_seeds(tmp_path: Path):
    run = bench(
        tmp_path, [method(seeded=False), method("noise", learn=noise)], leave_one_out(products()), seeds=(0, 1, 2)
    )
    run.run()
    reads = reads_of(run)
    assert sum(read["method"] == "brightness" for read in reads) == 3
    assert sum(read["method"] == "noise" for read in reads) == 9
    assert {read["seed"] for read in reads if read["method"] == "brightness"} == {0}
    report = figures(run)["detectors"]
    assert [one["average"] for one in report["brightness"]["orders"]] == [report["brightness"]["average"]] * 3
    assert len({one["average"]["pixel_auroc"] for one in report["noise"]["orders"]}) == 3
    assert report["noise"]["per_task"]["disc"]["said"] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]


def test_a_run_that_was_cut_off_goes_on_to_the_same_figures(tmp_path: Path):
    learned: list[tuple[str, int]] = []

    def counted(fold: Fold, seed: int, progress: Any) -> Learned:
        learned.append((fold.name, seed))
        return noise(fold, seed, progress)

    folds, methods = leave_one_out(products()), [method("noise", learn=counted)]
    whole = bench(tmp_path / "whole", methods, folds, seeds=(0, 1))
    whole.run()
    for stop_at in range(6):
        learned.clear()
        with pytest.raises(Interrupted):
            bench(tmp_path / "cut", methods, folds, seeds=(0, 1), stop_at=stop_at).run()
        assert len(learned) == (stop_at > 0)  # what was done is not done again
    again = bench(tmp_path / "cut", methods, folds, seeds=(0, 1))
    again.run()

    def timeless(report: dict[str, Any]) -> dict[str, Any]:
        found = report["detectors"]["noise"]
        return {name: value for name, value in found.items() if not name.endswith("seconds")}

    assert timeless(figures(again)) == timeless(figures(whole))
    assert differences(again) == differences(whole)


def test_other_options_are_measured_anew(tmp_path: Path):
    folds = leave_one_out(products())
    one = bench(tmp_path, [method()], folds)
    one.run()
    other = bench(tmp_path, [method(options={"steps": 3})], folds)
    assert other.part(other.plan.methods[0], folds[0], 0) is None
    with pytest.raises(ConfigError, match="method 'brightness' is there twice"):
        bench(tmp_path, [method(), method()], folds)


def test_a_detector_with_one_branch_is_a_method(tmp_path: Path):
    detector = make_detector("patchcore", cached(), {"coreset_rows": 24, "blocks": (5,)})
    known = of_detector("patchcore", "four normals", {"rows": 24}, detector, cached())
    run = bench(tmp_path, [known, method("noise", learn=noise)], leave_one_out(products()))
    run.run()
    report = figures(run) | {"title": "Detectors", "differences": differences(run)}
    assert report["detectors"]["patchcore"]["average"]["pixel_auroc"] > 0.9
    assert report["differences"]["minus"]["noise"]["pixel_auroc"]["low"] > 0.2
    report["provenance"] = {
        "data": data(run),
        "seeds": [0],
        "split": "Each left out",
        "features": ["tiny"],
        "caveat": "tiny is untrained",
        "test_reads": reads_of(run),
    }
    printed = Printed(method="MPA", dataset="MVTec AD", values={"image_auroc": 0.941})
    text = to_markdown(report, [PublishedTable(title="Printed", remarks=["Not to be compared."], rows=[printed])])
    assert "| image AUROC | MPA, printed | patchcore, ours, *other split* | noise, ours, *other split* |" in text
    assert "| MVTec AD | 0.941 | – | – |" in text
    assert "| all 3 here | – |" in text
    assert "patchcore − noise" in text
    with pytest.raises(ConfigError, match="needed a detector with one branch, got visual, text"):
        of_detector("cmpmb", "two", {}, make_detector("cmpmb", cached(), {"text_weight": 0.1}), cached())


# --- sizes and samples --------------------------------------------------------------------------------


def test_quarters_hold_each_damaged_picture_once_and_rise():
    areas = np.array([0.5, 0.0, 0.1, 0.3, 0.2, 0.0, 0.9, 0.1, 0.4])
    defective = areas > 0
    parts = quarters(areas, defective)
    assert sorted(np.concatenate(parts)) == np.flatnonzero(defective).tolist()
    assert {len(part) for part in parts} <= {1, 2}
    assert all(areas[a].max() <= areas[b].min() for a, b in pairwise(parts))
    nothing = np.zeros((9, 4, 4), bool)
    assert by_size(areas, nothing.astype(np.float32), nothing, np.zeros(9, bool)) == {}


def test_each_sample_of_pixel_metrics_is_as_if_its_pictures_were_copied():
    generator = np.random.default_rng(3)
    defective = np.array([True] * 5 + [False] * 4)
    maps = generator.integers(0, 30, (9, 6, 6)).astype(np.float32)
    masks = np.zeros((9, 6, 6), bool)
    masks[:4, 1:3, 2:5] = True
    masks[1:3, 4:, :2] = True
    maps[masks] += 8
    counts = draws(defective, 20, place=1)
    for sampled, metric in ((sampled_pixel_auroc, pixel_auroc), (sampled_pro, pixel_pro)):
        found = sampled(maps, masks, counts)
        assert found.value == pytest.approx(metric(maps, masks))
        for row, count in enumerate(counts):
            copied = np.repeat(np.arange(9), count)
            assert found.repeats[row] == pytest.approx(metric(maps[copied], masks[copied]), nan_ok=True)
        nothing = sampled(maps, np.zeros_like(masks), counts)
        assert np.isnan(nothing.value)
        assert np.isnan(nothing.repeats).all()
