"""What a plant is promised, through real jobs, the real database and the real store of entries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import JobState
from stream_ad.domain.result import Verdict
from stream_ad.errors import BankError, UndecodableImage
from tests.pictures import NUT, TILE, checks, disc
from tests.plant import open_plant, save, scores, teach

NUTS = replace(NUT, product_ids=("4711",))
SEEN = [disc(seed, scratched=seed % 2 == 0) for seed in range(80, 88)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pictures")
    save(place / "nut", [disc(seed) for seed in range(20)])
    save(place / "tile", [checks(seed) for seed in range(20)])
    return place


def hashes(app) -> set[str]:
    return {entry.sha256 for entry in app.database.banks.load()}


def test_old_scores_do_not_move_a_bit_and_the_order_of_arrival_leaves_no_trace(pictures, tmp_path):
    """Saved, loaded, another task added, rolled back, in batches of 1 and 8, learned the other way round."""
    with open_plant(tmp_path / "one") as app:
        assert teach(app, NUTS, pictures / "nut", detector="cmpmb").state is JobState.PUBLISHED
        before = scores(app, SEEN, "4711")
    with open_plant(tmp_path / "one") as app:  # another process would load the same files
        assert scores(app, SEEN, "4711") == before
        assert teach(app, TILE, pictures / "tile").state is JobState.PUBLISHED
        assert scores(app, SEEN, "4711") == before
        assert scores(app, SEEN, "4711", batch_size=1) == before
        grown = app.database.banks.load()
        app.database.banks.use(1, who="test", reason="back", at=app.clock.now())
        assert scores(app, SEEN, "4711") == before
        app.database.banks.use(2, who="test", reason="forth", at=app.clock.now())
        assert scores(app, SEEN, "4711") == before
    with open_plant(tmp_path / "other") as app:
        teach(app, TILE, pictures / "tile")
        teach(app, NUTS, pictures / "nut", detector="cmpmb")
        assert app.database.banks.load().sha256 == grown.sha256
        assert hashes(app) == {entry.sha256 for entry in grown}


def test_a_bank_of_another_backbone_is_refused_with_what_to_set(pictures, tmp_path):
    with open_plant(tmp_path) as app:
        teach(app, TILE, pictures / "tile")
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("image_size: 96", "image_size: 64"))
    with open_plant(tmp_path) as app, pytest.raises(BankError, match=r"set backbone.id, image_size and grey_bits"):
        app.scorer()


def test_a_broken_picture_among_good_ones_is_refused_by_name_before_anything_is_written(tmp_path):
    folder = save(tmp_path / "tile", [checks(seed) for seed in range(12)])
    whole = (folder / "007.png").read_bytes()
    (folder / "007.png").write_bytes(whole[: len(whole) // 2])
    with open_plant(tmp_path) as app:
        with pytest.raises(UndecodableImage, match=r"007\.png: .*damaged or truncated"):
            teach(app, TILE, folder)
        assert app.database.tasks.all() == []


def test_a_learned_picture_saved_anew_among_the_heldout_ones_fails_the_job_by_name(pictures, tmp_path):
    save(tmp_path / "held" / "good", [checks(100)])
    save(tmp_path / "held" / "defect", [checks(101)])
    Image.fromarray(checks(3)).save(tmp_path / "held" / "good" / "again.bmp")  # other bytes, the same pixels
    with open_plant(tmp_path) as app:
        ended = teach(app, TILE, pictures / "tile", heldout=tmp_path / "held")
        assert ended.state is JobState.FAILED
        assert "003.png" in str(ended.message)
        assert "again.bmp" in str(ended.message)


def test_nothing_outside_the_region_of_interest_counts_in_verdicts_maps_and_figures(pictures, tmp_path):
    inside, outside = np.zeros((96, 96), bool), np.zeros((96, 96), bool)
    inside[70:80, 40:60], outside[4:14, 40:60] = True, True
    roi = np.zeros((96, 96), np.uint8)
    roi[32:] = 255
    Image.fromarray(roi).save(tmp_path / "roi.png")

    def damaged(seed: int, where: np.ndarray) -> np.ndarray:
        picture = disc(seed)
        picture[where] = (120, 60, 60)
        return picture

    held = tmp_path / "held" / "test"
    save(held / "good", [disc(seed) for seed in range(100, 104)])
    for kind, where, seeds in (("inside", inside, range(110, 114)), ("outside", outside, range(120, 124))):
        save(held / kind, [damaged(seed, where) for seed in seeds])
        masks = save(tmp_path / "held" / "ground_truth" / kind, [])
        for row in range(len(seeds)):
            Image.fromarray(where.astype(np.uint8) * 255).save(masks / f"{row:03d}_mask.png")

    with open_plant(tmp_path / "plant") as app:
        ended = teach(app, NUTS, pictures / "nut", heldout=tmp_path / "held", roi=tmp_path / "roi.png")
        assert ended.state is JobState.PUBLISHED, ended.message
        good, bad, elsewhere = app.scorer().inspect(
            [disc(200), damaged(200, inside), damaged(200, outside)], declared=[None] * 3, cameras=[None] * 3
        )
        assert [one.verdict for one in (good, bad, elsewhere)] == [Verdict.OK, Verdict.NG, Verdict.OK]
        for one in (good, bad, elsewhere):
            assert one.map is not None
            assert np.isneginf(one.map[:32]).all()
            assert np.isfinite(one.map[32:]).all()
        for half in Half:
            (evaluation,) = app.database.evaluations.all(half)
            figures = evaluation.tasks[NUT.id]
            assert figures.n_defective == 2
            assert figures.routed["image_auroc"] == 1.0
            assert any("outside the region of interest" in note for note in figures.notes)
