"""The demo's whole story on three small product lines: the real jobs, gate, daemon and report."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from stream_ad.commands.demo_story import Story
from stream_ad.demo import PRODUCTS, write_product
from stream_ad.errors import ConfigError, NoImages

SMALL = {
    "backbone": {"image_size": 96},
    "detector": {"coreset_rows": 64, "cmpmb": {"prompt_steps": 1, "text_steps": 2}},
}


@pytest.mark.timeout(600)
def test_products_are_learned_while_the_stream_runs_and_a_poisoned_job_is_refused(tmp_path):
    for name in ("blister", "cloth", "insulator"):
        product = replace(PRODUCTS[name], defects=PRODUCTS[name].defects[:2])
        write_product(tmp_path / "products", product, train=10, good=6, per_defect=2, seed=1, size=96)
    told = io.StringIO()
    story = Story(Console(file=told, width=200), tmp_path / "out", tmp_path / "products", "tiny", SMALL)

    assert story.tell()
    text = told.getvalue()
    assert sum(f"bank {version} published with" in text for version in (1, 2, 3)) == 3
    assert "rejected, bank 3 stays in use" in text
    assert "bank 3 stays in use" in text
    assert "bank 2: a good insulator is" in text
    assert "bank 3: a good insulator is" in text
    html = (tmp_path / "out" / "report.html").read_text()
    assert "insulator" in html
    assert (tmp_path / "out" / "report.json").stat().st_size > 0


def test_the_demo_deletes_nothing_of_others(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="name an empty or new folder"):
        Story(Console(file=io.StringIO()), tmp_path, None, "tiny").tell()
    assert (tmp_path / "thesis.txt").exists()


def test_data_without_products_are_said(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(NoImages, match="two or more products in MVTec layout"):
        story_of(tmp_path, "data").tell()


def test_data_that_are_no_folder_are_said(tmp_path):
    (tmp_path / "data.zip").touch()
    with pytest.raises(NoImages, match="does not exist"):
        story_of(tmp_path, "data").tell()
    with pytest.raises(NoImages, match="is a file"):
        story_of(tmp_path, "data.zip").tell()


def test_folders_that_lack_a_part_of_a_product_are_named_and_the_others_shown(tmp_path):
    data = tmp_path / "data"
    for picture in ("train/good", "test/good", "test/bent"):
        touch(data / "metal_nut" / picture / "0.png")
    for picture in ("train/good", "test/good"):
        touch(data / "cable" / picture / "0.png")
    touch(data / "bottle" / "train" / "good" / "0.png")
    touch(data / "bottle" / "test" / "broken" / "notes.txt")
    with pytest.raises(NoImages, match="Got 1; bottle lacks test/good, defects in test; cable lacks defects in test"):
        story_of(tmp_path, "data").tell()

    touch(data / "bottle" / "test" / "broken" / "0.png")
    touch(data / "bottle" / "test" / "good" / "0.png")
    told = io.StringIO()
    lines = story_of(tmp_path, "data", told)._lines()
    assert [(line.name, line.class_name) for line in lines] == [("bottle", "bottle"), ("metal_nut", "metal nut")]
    assert "left out: cable lacks defects in test" in told.getvalue()


def story_of(tmp_path, data: str, told: io.StringIO | None = None) -> Story:
    return Story(Console(file=told or io.StringIO(), width=200), tmp_path / "out", tmp_path / data, "tiny")


def touch(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def test_data_in_the_output_folder_are_not_deleted(tmp_path):
    (tmp_path / "out" / "mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match="which the demo empties"):
        Story(Console(file=io.StringIO()), tmp_path / "out", tmp_path / "out" / "mine", "tiny").tell()
    assert (tmp_path / "out" / "mine").is_dir()
