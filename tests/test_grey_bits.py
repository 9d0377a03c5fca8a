"""The depth of 16-bit grey pictures is said once: learning, judging and every entry follow it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stream_ad
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.errors import BankError, UndecodableImage
from tests.pictures import disc

SMALL = "calibration: {folds: 2}\ndetector: {name: patchcore}\n"


def deep(folder: Path, count: int, *, lit: float) -> Path:
    """A 12-bit camera's pictures; `lit` is how much of its range they use."""
    folder.mkdir(parents=True)
    for row in range(count):
        values = disc(row)[..., 0].astype(np.float64) / 255 * 4095 * lit
        Image.fromarray(values.astype(np.uint16)).save(folder / f"{row:03d}.png")
    return folder


def config(tmp_path: Path, grey_bits: int | None) -> Path:
    file = tmp_path / f"grey-{grey_bits}.yaml"
    file.write_text(f"backbone: {{image_size: 96, grey_bits: {grey_bits or 'null'}}}\n{SMALL}")
    return file


def test_a_dark_picture_of_a_deep_camera_stays_dark_when_its_depth_is_said(tmp_path):
    dark = deep(tmp_path / "dark", 1, lit=0.05) / "000.png"
    assert stream_ad.read_picture(dark, grey_bits=16).max() == 0
    assert stream_ad.read_picture(dark, grey_bits=12).max() < 14
    with pytest.raises(UndecodableImage, match=r"backbone\.grey_bits is 8"):
        stream_ad.read_picture(deep(tmp_path / "lit", 1, lit=1.0) / "000.png", grey_bits=8)


def test_what_was_learned_of_one_depth_is_not_scored_as_another(tmp_path):
    good = deep(tmp_path / "good", 12, lit=1.0)
    bench = stream_ad.open_workbench(backbone="tiny", config=config(tmp_path, 12))
    entry = bench.adapt("nut", good, class_name="metal nut")
    assert entry.features.decoder == "pillow-rgb8/grey12"
    assert bench.score([good / "003.png"])[0].score is not None

    settings = load_settings(config(tmp_path, None))
    with App(settings.model_copy(update={"backbone": settings.backbone.model_copy(update={"id": "tiny"})})) as app:
        assert app.backbone.spec.decoder == "pillow-rgb8", "what was learned before there was a choice still fits"
        with pytest.raises(BankError, match=r"grey12, this program is set to .*grey_bits"):
            app.model(bench.bank)
