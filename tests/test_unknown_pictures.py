"""From the first unknown picture to a learned product, by the commands people use; and what a scorer adds to it."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from stream_ad.cli import main
from stream_ad.discovery_parts import zero_shot
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.inspection import BankModel
from stream_ad.services.scoring import Scorer
from tests.models import cached, detectors, learned, tiny, uncached_detectors
from tests.pictures import NUT, TILE, Pictures, checks, disc, stripes


@pytest.fixture(scope="module")
def bank() -> MemoryBank:
    nut = learned(NUT, Pictures([disc(seed) for seed in range(20)]))
    tile = learned(TILE, Pictures([checks(seed) for seed in range(20)]), "patchcore")
    return MemoryBank(0).with_entry(nut, 1).with_entry(tile, 2)


def inspect(
    bank: MemoryBank, *pictures: np.ndarray, declared: str | None = None, words: str | None = None
) -> list[Inspection]:
    score, name = zero_shot(tiny(), uncached_detectors()[words]) if words else (None, "")
    scorer = Scorer(
        lambda bank: BankModel(cached(), detectors(), bank),
        bank,
        embed_unknown=True,
        zero_shot=score,
        zero_shot_name=name,
    )
    nothing = [None] * len(pictures)
    return scorer.inspect(pictures, declared=[declared] * len(pictures), cameras=nothing)


def test_a_picture_of_no_known_product_is_embedded_and_others_are_not(bank: MemoryBank) -> None:
    good, ng, strange = inspect(bank, disc(70), disc(71, scratched=True), stripes(0))
    assert good.embedding is ng.embedding is None
    assert strange.embedding is not None
    assert np.linalg.norm(strange.embedding) == pytest.approx(1, abs=1e-5)


def test_a_product_that_is_declared_and_not_known_is_embedded_whatever_it_looks_like(bank: MemoryBank) -> None:
    [one] = inspect(bank, disc(70), declared="0815")
    assert one.verdict is Verdict.UNKNOWN
    assert one.embedding is not None


def test_a_picture_that_looks_like_another_known_product_is_none_of_a_new_one(bank: MemoryBank) -> None:
    [one] = inspect(bank, checks(70), declared="nut")
    assert one.alarm is not None
    assert one.embedding is None


def test_an_embedding_does_not_depend_on_what_else_is_in_the_batch(bank: MemoryBank) -> None:
    alone = inspect(bank, stripes(0))[0].embedding
    among = inspect(bank, disc(70), stripes(0), checks(70))[1].embedding
    assert alone is not None
    assert among is not None
    np.testing.assert_array_equal(alone, among)


def test_to_an_empty_bank_every_picture_is_new() -> None:
    found = inspect(MemoryBank(0), disc(0), checks(0))
    assert all(one.verdict is Verdict.UNKNOWN and one.embedding is not None for one in found)


@pytest.mark.parametrize(("words", "name"), [("zero-shot", "zero-shot/2"), ("mpa", "mpa/1")])
def test_words_score_an_unknown_picture_and_never_pass_it(bank: MemoryBank, words: str, name: str) -> None:
    good, strange = inspect(bank, disc(70), stripes(0), words=words)
    assert good.detector != name
    assert (strange.verdict, strange.detector) == (Verdict.UNKNOWN, name)
    assert strange.score is not None
    assert np.isfinite(strange.score)
    assert strange.threshold is strange.p_value is None
    [new] = inspect(MemoryBank(0), stripes(0), words=words)
    assert (new.verdict, new.score) == (Verdict.UNKNOWN, strange.score)


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for name in [name for name in os.environ if name.startswith("STREAM_AD_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config.yaml").write_text(
        "backbone: {id: tiny, image_size: 64}\n"
        "detector: {name: patchcore}\n"
        "stream: {settle_s: 0.0, overlays: none, min_free_mb: 0}\n"
        "discovery: {min_images: 12}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("stream_ad"), "propagate", True)

    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, captured.out, " ".join(captured.err.split()))

    return run


def arrive(inbox: Path, name: str, pictures: list[np.ndarray]) -> None:
    inbox.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(inbox / f"{name}-{number:03d}.png")


def test_two_products_that_nobody_named_are_found_named_and_learned(run, tmp_path: Path) -> None:
    inbox = tmp_path / "stream-ad-data" / "inbox"
    assert run("init").code == 0
    arrive(inbox, "a", [disc(seed) for seed in range(16)])
    arrive(inbox, "b", [stripes(seed) for seed in range(14)])
    assert run("serve", "--idle", "1").out.count("unknown product ") >= 30
    assert "no open proposals; 30 pictures" in run("tasks", "proposals").out
    found = run("discover")
    assert (found.code, "proposed: 1 (16 pictures), 2 (14 pictures)" in found.out) == (0, True)
    listed = run("tasks", "proposals").out
    assert "new product  open" in listed
    assert "stream-ad tasks approve 1 --name NAME" in listed

    unclear = run("tasks", "approve", 1)
    assert (unclear.code, "either --name for a new product or --into" in unclear.err) == (2, True)
    rate = ("--false-alarm-rate", "0.1")
    approved = run("tasks", "approve", 1, "--name", "washer", *rate, "--detector", "zero-shot", "--who", "ada")
    assert "proposal 1 is task 'washer'; job 1 is queued" in approved.out
    assert "was approved by ada as task 'washer'" in run("tasks", "reject", 1, "--reason", "no").err
    sheet = tmp_path / "stream-ad-data" / "unknown" / "sheets" / "proposal-2.jpg"
    assert sheet.is_file()
    rejected = run("tasks", "reject", 2, "--reason", "a belt without parts", "--who", "bea")
    assert f"proposal 2 is rejected; its 14 pictures and their sheet {sheet} are deleted" in rejected.out
    assert not sheet.exists()
    decided = [line for line in run("tasks", "proposals", "--all").out.splitlines() if "a belt without parts" in line]
    assert [("bea" in line, "rejected" in line) for line in decided] == [(True, True)]
    assert "washer" in run("tasks").out
    shown = run("jobs", "show", 1).out
    assert (shown.count("washer-proposal-1"), shown.count("zero-shot")) == (1, 1)

    arrive(inbox, "c", [stripes(seed) for seed in range(100, 114)])
    run("serve", "--idle", "1")
    assert "14 forgotten" in run("discover").out
