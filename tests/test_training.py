"""Training weights: a run is repeatable, resumable, and its result is what the program reads."""

from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.backbones.registry import load_backbone
from stream_ad.training import objectives
from stream_ad.training.card import card
from stream_ad.training.lines import Line, Shot
from stream_ad.training.model import FEATURE_BLOCK, SIZE, new_model
from stream_ad.training.pool import Pool
from stream_ad.training.reading import read
from stream_ad.training.trainer import Trainer, TrainingOptions
from stream_ad.training.views import coverage, views_of
from stream_ad.training.weights_folder import write_weights
from stream_ad.training.words import Words

DEFECTS = ("scratch", "hole")
FEW = TrainingOptions(
    steps=4, lines=2, fresh=1, first=3, capacity=4, shots=4, good=2, damaged=2, support=1, rendered=48, warmup=2
)


def said(noun: str, defect: str | None, rng: np.random.Generator) -> str:
    return f"a photo of a {noun} with a {defect}" if defect else f"a photo of a flawless {noun}"


WORDS = Words(DEFECTS, said)


def line(number: int, *, size: int = 48) -> Line:
    rng = np.random.default_rng(number)
    plain = rng.integers(60, 200, (size, size, 3), dtype=np.uint8)
    shots = []
    for defect in (None, None, *DEFECTS):
        picture, mask = plain.copy(), np.zeros((size, size), dtype=bool)
        if defect:
            mask[10:30, 15:35] = True
            picture[mask] = 255
        shots.append(Shot(picture, mask, defect, said("nut", defect, rng)))
    return Line("nut", shots)


def trained(folder: Path, steps: int) -> Trainer:
    """The run in that folder, as it is after so many of its steps."""
    trainer = Trainer(folder, FEW, WORDS)
    lines = (line(number) for number in count(trainer.pool.taken))
    trainer.run(lines, until=lambda: trainer.step == steps)
    return trainer


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_run_that_was_interrupted_ends_with_the_same_weights_bit_for_bit(tmp_path):
    whole = trained(tmp_path / "whole", FEW.steps)
    trained(tmp_path / "parts", 2)
    parts = trained(tmp_path / "parts", FEW.steps)
    assert parts.step == whole.step == FEW.steps
    ours, theirs = whole.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_result_is_read_by_the_program_and_by_open_clip_with_the_stem_alike(tmp_path):
    import open_clip  # after the guard of stream_ad.backbones
    from safetensors.torch import load_file

    from stream_ad.backbones.texture import textured
    from stream_ad.backbones.weights import WEIGHTS_FILE

    trainer = trained(tmp_path, 1)
    folder = write_weights(trainer.model, tmp_path / "weights", card(trainer))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10e6
    assert "scratch, hole" in (folder / "README.md").read_text()
    backbone = load_backbone(f"local-dir:{folder}", image_size=SIZE, weights_dir=tmp_path)
    with pytest.raises(RuntimeError, match=r"conv1\.mix\.weight"):  # never a wrong model without a word
        open_clip.create_model(f"local-dir:{folder}")
    theirs: Any = open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()
    textured(theirs)
    theirs.load_state_dict(load_file(folder / WEIGHTS_FILE))
    pixels = backbone.preprocess([line(7, size=SIZE).shots[2].picture])
    with torch.no_grad():
        embedding = torch.nn.functional.normalize(theirs.encode_image(pixels), dim=-1)
        text = torch.nn.functional.normalize(
            theirs.encode_text(open_clip.SimpleTokenizer()(["a scratched nut"])), dim=-1
        )
    torch.testing.assert_close(backbone.encode(pixels, [], embedding=True).embedding, embedding, atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.encode_text(["a scratched nut"]), text, atol=1e-4, rtol=0)


def test_what_is_trained_is_what_is_read_out(tmp_path):
    model: Any = new_model(3).eval()  # Any: torch types every attribute of a module as tensor or module
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    folder = write_weights(model, tmp_path, "")
    backbone = load_backbone(f"local-dir:{folder}", image_size=SIZE, weights_dir=tmp_path)
    pixels = backbone.preprocess([shot.picture for shot in line(1, size=SIZE).shots])
    with torch.no_grad():
        textures = model.visual.conv1.texture.described(pixels).flatten(2).transpose(1, 2)
        found = read(model.visual, pixels, textures, FEATURE_BLOCK)
    theirs = backbone.encode(pixels, [FEATURE_BLOCK], embedding=True, dense=True)
    tokens = torch.nn.functional.layer_norm(theirs.blocks[FEATURE_BLOCK], (backbone.width,))
    torch.testing.assert_close(found.tokens, tokens, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.dense, theirs.dense, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.embedding, theirs.embedding, atol=1e-4, rtol=1e-3)


def test_the_ring_holds_the_newest_lines_and_opens_as_it_was_saved(tmp_path):
    def opened() -> Pool:
        return Pool(tmp_path, capacity=3, shots=4, size=48, defects=DEFECTS)

    pool = opened()
    for number in range(5):
        pool.take(line(number))
    pool.save()
    again = opened()
    assert (again.taken, len(again)) == (5, 3)
    drawn = again.draw(np.random.default_rng(0), 9, 2, 2)
    seen = sorted(picture.tobytes() for picture in drawn.pictures[:, 0])
    assert seen == sorted(line(number).shots[0].picture.tobytes() for number in (2, 3, 4))
    assert [row[:2] + sorted(row[2:]) for row in drawn.kinds.tolist()] == [[-1, -1, 0, 1]] * 3


def test_a_cut_shows_the_damage_where_its_mask_says(tmp_path):
    pool = Pool(tmp_path, capacity=2, shots=4, size=48, defects=DEFECTS)
    for number in range(2):
        pool.take(line(number))
    drawn = pool.draw(np.random.default_rng(0), 2, 2, 2)
    for seed in range(8):
        pixels, masks = views_of(drawn, np.random.default_rng(seed), size=64)
        changed = (pixels[:, 2] - pixels[:, 0]).abs().amax(1)  # the same part with and without damage, other noise
        inside, outside = changed[masks[:, 2] > 0.99], changed[masks[:, 2] < 0.01]
        if len(inside):
            assert inside.median() > 2 * outside.median()
    assert coverage(masks, 16).shape == (2, 4, 16)


@given(st.integers(1, 50), st.integers(1, 50))
def test_damaged_and_flawless_weigh_the_same_however_many_there_are(bad, good):
    logits = torch.cat([torch.full((bad,), 0.7), torch.full((good,), -0.2)])
    damaged = torch.arange(bad + good) < bad
    expected = (torch.nn.functional.softplus(torch.tensor(-0.7)) + torch.nn.functional.softplus(torch.tensor(-0.2))) / 2
    torch.testing.assert_close(objectives.balanced(logits, damaged, ~damaged), expected)


def test_the_distance_of_the_comparison_is_that_to_the_nearest_patch_of_the_memory():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 4, 5, 8, generator=generator)
    damaged = torch.zeros(2, 4, 5, dtype=torch.bool)
    damaged[:, 3, 2] = True
    _, relative = objectives.comparison(tokens, damaged, ~damaged, 2, torch.tensor(1.0), torch.tensor(1.0))
    for row in range(2):
        memory, queries = tokens[row, :2].flatten(0, 1), tokens[row, 2:].flatten(0, 1)
        slow = torch.stack([min((query - one).square().mean() for one in memory) for query in queries])
        slow = (slow + 1e-4).sqrt()
        unit = slow[~damaged[row, 2:].flatten()].mean()
        torch.testing.assert_close(relative[row].flatten(), slow / unit, atol=1e-4, rtol=1e-4)


def test_captions_of_the_same_state_are_no_mistakes_for_each_other():
    texts = torch.nn.functional.normalize(torch.eye(4)[[0, 0, 1, 2]], dim=-1)
    same = texts @ texts.T > 0.5
    right = objectives.captions(texts, texts, same, torch.tensor(50.0))
    assert right < 0.7  # the two that say the same share their probability: -log(1/2), for half of them
    assert objectives.captions(texts, texts.flip(0), same, torch.tensor(50.0)) > 5


def test_lines_do_not_depend_on_how_many_processes_render():
    from stream_ad.demo.families import Split
    from stream_ad.demo.training_lines import rendered_line, stream

    lines = stream(Split.TRAIN, 3, shots=2, size=32, processes=2)
    try:
        for number, found in zip((3, 4, 5), islice(lines, 3), strict=True):
            alone = rendered_line(Split.TRAIN, number, shots=2, size=32)
            assert found.noun == alone.noun
            for one, other in zip(found.shots, alone.shots, strict=True):
                assert one.caption == other.caption
                np.testing.assert_array_equal(one.picture, other.picture)
    finally:
        lines.close()
