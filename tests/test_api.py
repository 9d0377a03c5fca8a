import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import stream_ad
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import NoImages
from tests.pictures import checks, disc


def save(folder, pictures):
    folder.mkdir(parents=True)
    for row, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{row:03d}.png")
    return folder


def test_learn_score_evaluate_and_plot_in_five_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "backbone: {image_size: 96}\n"
        "calibration: {folds: 2}\n"
        "detector: {cmpmb: {text_steps: 2, prompt_steps: 1}}\n"
        "routing: {refuse: false}\n"  # untrained, it cannot tell a defect from another product
    )
    good = save(tmp_path / "good", [disc(seed) for seed in range(20)])
    save(tmp_path / "held" / "good", [disc(seed) for seed in range(100, 103)])
    save(tmp_path / "held" / "defect", [disc(seed, scratched=True) for seed in range(103, 106)])

    bench = stream_ad.open_workbench(backbone="tiny")
    bench.adapt("nut", good, class_name="metal nut")
    ok, ng = bench.score([disc(200), tmp_path / "held" / "defect" / "000.png"])
    figures = bench.evaluate({"nut": tmp_path / "held"})

    assert (ok.verdict, ng.verdict) == (Verdict.OK, Verdict.NG)
    assert figures[TaskId("nut")].routed["image_auroc"] == 1.0
    assert np.asarray(stream_ad.plot(disc(200), ok)).ndim == 3
    assert bench.score([checks(0)], product="nut")[0].verdict is not Verdict.OK


def test_the_backbone_is_that_of_the_settings_unless_one_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("backbone: {id: tiny, image_size: 96}\n")
    assert stream_ad.open_workbench(config=tmp_path / "config.yaml").app.backbone.spec.backbone == "tiny"
    named = stream_ad.open_workbench(backbone="small", config=tmp_path / "config.yaml")
    assert (named.app.settings.backbone.id, named.app.settings.backbone.image_size) == ("small", 96)


def test_a_missing_picture_is_said(tmp_path):
    with pytest.raises(NoImages, match="does not exist"):
        stream_ad.read_picture(tmp_path / "none.png")
    with pytest.raises(NoImages):
        stream_ad.read_pictures(tmp_path)


def test_importing_the_package_does_not_load_torch():
    code = "import sys, stream_ad, stream_ad.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
