"""Evaluation through the router, on pictures whose truth is known."""

import math
from collections.abc import Collection

import numpy as np
import pytest

from stream_ad.domain.evaluation import METRICS
from stream_ad.domain.images import HeldoutImage, Mask, Picture
from stream_ad.domain.result import Verdict
from stream_ad.evaluation.protocol import evaluate
from tests.models import learned, model
from tests.pictures import NUT, TILE, Pictures, checks, disc, quiet

SCRATCH = np.zeros((96, 96), bool)
SCRATCH[44:50, 30:66] = True


class Held:
    """A held-out set in memory."""

    def __init__(self, images):
        self.images = images
        self.ids = [image.id for image in images]
        self.defective = [image.defective for image in images]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def held(*pictures: Picture, defective: Collection[int] = (), mask: Mask | None = SCRATCH) -> Held:
    return Held(
        [
            HeldoutImage(
                id=f"{row}-{picture.sum()}",
                pixels=picture,
                defective=row in defective,
                mask=mask if row in defective else None,
                kind="scratch" if row in defective else "good",
            )
            for row, picture in enumerate(pictures)
        ]
    )


@pytest.fixture(scope="module")
def nut():
    return learned(NUT, Pictures([disc(seed) for seed in range(20)]), "patchcore")


@pytest.fixture(scope="module")
def tile():
    return learned(TILE, Pictures([checks(seed) for seed in range(20)]), "patchcore")


def nuts():
    return held(*(disc(seed, scratched=seed >= 104) for seed in range(100, 108)), defective=range(4, 8))


def test_scratches_are_found_and_old_scores_do_not_move_when_a_task_is_added(nut, tile):
    before = evaluate(model(nut), {NUT.id: nuts()}, quiet)[NUT.id]
    after = evaluate(model(nut, tile), {NUT.id: nuts()}, quiet)[NUT.id]
    assert after.routed["image_auroc"] == 1.0
    assert after.routed["pixel_ap"] > 0.2
    assert after.routing_accuracy == 1.0
    assert after.detection_rate == 1.0
    assert dict(after.oracle) == dict(before.oracle)
    assert [o.oracle_score for o in after.outcomes] == [o.oracle_score for o in before.outcomes]


def test_an_image_that_goes_astray_keeps_the_other_tasks_score(nut, tile):
    strays = held(*(checks(seed) for seed in range(100, 103)), disc(5, scratched=True), defective=[3])
    found = evaluate(model(nut, tile, refuse=False), {NUT.id: strays}, quiet)[NUT.id]
    assert found.routing_accuracy == pytest.approx(0.25)
    assert [o.routed_task for o in found.outcomes] == ["tile"] * 3 + ["nut"]
    # the checkerboards are far from any nut, and ordinary tiles
    assert all(o.oracle_score > o.routed_score for o in found.outcomes[:3])
    assert all(o.oracle_verdict is Verdict.NG for o in found.outcomes[:3])


def test_without_defects_or_masks_nothing_is_made_up(nut):
    good = evaluate(model(nut), {NUT.id: held(disc(100), disc(101))}, quiet)[NUT.id]
    assert all(math.isnan(good.routed[metric]) for metric in METRICS)
    assert "not measured" in good.notes[0]
    unmarked = held(disc(100), disc(101, scratched=True), defective=[1], mask=None)
    found = evaluate(model(nut), {NUT.id: unmarked}, quiet)[NUT.id]
    assert found.routed["image_auroc"] == 1.0
    assert math.isnan(found.routed["pixel_ap"])
    assert "1 defective images have no mask" in found.notes[0]


def test_a_defect_outside_the_region_of_interest_is_left_out_and_said():
    roi = np.zeros((96, 96), bool)
    roi[64:] = True
    entry = learned(NUT, Pictures([disc(seed) for seed in range(8)]), "patchcore", roi=roi)
    found = evaluate(model(entry), {NUT.id: nuts()}, quiet)[NUT.id]
    assert found.n_defective == 0
    assert any("outside the region of interest" in note for note in found.notes)
