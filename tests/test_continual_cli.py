"""`stream-ad bench continual` as a command: what it writes, and what it says when something is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stream_ad.cli import main
from tests.pictures import checks, disc


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("products")
    for name, painter in (("disc", disc), ("checks", checks)):
        for seed in range(7):
            save(root / name / "train/good" / f"{seed}.png", painter(seed))
        for seed in range(3):
            save(root / name / "test/good" / f"{seed}.png", painter(100 + seed))
            picture, mask = painter(200 + seed), np.zeros((96, 96), np.uint8)
            picture[30:50, 20 + seed : 44] = (240, 230, 20)
            mask[30:50, 20 + seed : 44] = 255
            save(root / name / "test/blot" / f"{seed}.png", picture)
            save(root / name / "ground_truth/blot" / f"{seed}_mask.png", mask)
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def run(*arguments: str | Path | int) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "continual", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_it_writes_figures_a_table_and_a_page_and_goes_on_where_it_stopped(
    products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "figures" / "run.json"
    asked = ("--data", products, "--backbone", "tiny", "--detectors", "patchcore,sequence", "--output", output)
    assert run(*asked, "--tasks", "disc,checks", "--limit", 6) == 0
    report = json.loads(output.read_text())
    assert report["tasks"] == ["disc", "checks"]
    assert list(report["detectors"]) == ["patchcore", "sequence"]
    assert report["differences"]["minus"].keys() == {"sequence"}
    provenance = report["provenance"]
    assert provenance["caveat"].startswith("tiny is untrained")
    assert {"code", "code_sha256", "weights_sha256", "seeds", "device", "threads", "batch_size"} <= provenance.keys()
    assert str(tmp_path) not in output.read_text()
    assert provenance["data"]["disc"]["train"] == 6
    printed = capsys.readouterr()
    assert "| patchcore |" in printed.out
    assert "no figure here is a result" in output.with_suffix(".md").read_text()
    assert output.with_suffix(".html").read_text().count("data:image/jpeg;base64,") > 0

    assert run(*asked, "--tasks", "disc,checks", "--limit", 6) == 0
    assert json.loads(output.read_text()) == report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "figures.txt"], "needs a file whose name ends in .json, got figures.txt"),
        (["--output", "f.json", "--detectors", "cmpmb,,patchcore"], "--detectors needs names with commas between"),
        (["--output", "f.json", "--detectors", "padim"], "no method 'padim'; choose among cmpmb"),
        (["--output", "f.json", "--detectors", "patchcore,mpa"], "'mpa' needs shared weights: train some with"),
        (["--output", "f.json", "--preset", "best"], "no preset 'best'; choose"),
        (["--output", "f.json", "--tasks", "disc,ring"], "ring"),
        (["--output", "f.json", "--tasks", "disc"], "at least two products, got 1"),
    ],
)
def test_a_wrong_option_is_one_message(
    options: list[str],
    message: str,
    products: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert run("--data", products, "--backbone", "tiny", *options) == 2
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said


def test_a_folder_without_a_data_set_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    assert run("--data", tmp_path / "empty", "--output", tmp_path / "f.json") == 2
    assert "needed a data set in" in " ".join(capsys.readouterr().err.split())
