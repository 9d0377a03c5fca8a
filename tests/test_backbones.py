import hashlib
import json
import shutil
import socket
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stream_ad.backbones import tiny as tiny_module
from stream_ad.backbones import vit
from stream_ad.backbones import weights as weights_module
from stream_ad.backbones.cached import CachedBackbone
from stream_ad.backbones.registry import best_available, load_backbone
from stream_ad.backbones.views import Views
from stream_ad.backbones.vit import VitBackbone
from stream_ad.backbones.weights import CONFIG_FILE, PACKAGED, WEIGHTS_FILE, locate, pull, pulled, save
from stream_ad.demo.families import Split, family
from stream_ad.detectors.text import damaged_logit, pair
from stream_ad.errors import ConfigError, WeightsError
from tests.models import tiny
from tests.pictures import checks, disc, stripes

PICTURES = [disc(0), checks(0), stripes(0), disc(1)]


@lru_cache(maxsize=1)
def small() -> VitBackbone:
    """The model that comes with the program, at the size that it was trained at."""
    return load_backbone("small", image_size=128, weights_dir=Path("nowhere"), device="cpu")


def pixels(model: VitBackbone | None = None):
    return (model or tiny()).preprocess(PICTURES)


def test_the_whole_pass_is_open_clips_own():
    backbone = load_backbone("tiny", image_size=224, weights_dir=Path("nowhere"), device="cpu")
    images = backbone.preprocess(PICTURES)
    encoded = backbone.encode(images, [], embedding=True)
    with torch.no_grad():
        expected = backbone.model.encode_image(images, normalize=True)
    torch.testing.assert_close(encoded.embedding, expected)


def test_text_is_open_clips_own():
    texts = ["a photo of a screw", "a photo of a damaged printed circuit board"]
    with torch.no_grad():
        expected = tiny().model.encode_text(vit.open_clip.SimpleTokenizer()(texts), normalize=True)
    torch.testing.assert_close(tiny().encode_text(texts), expected)


@pytest.mark.parametrize("model", [tiny, small])
def test_an_image_is_encoded_alike_in_any_batch_bit_for_bit(model):
    prepared = pixels(model())
    together = model().encode(prepared, [2, 5], embedding=True, dense=True)
    assert together.embedding is not None
    assert together.dense is not None
    for row in range(len(PICTURES)):
        alone = model().encode(prepared[row : row + 1], [2, 5], embedding=True, dense=True)
        assert alone.embedding is not None
        assert alone.dense is not None
        assert torch.equal(alone.blocks[2][0], together.blocks[2][row])
        assert torch.equal(alone.blocks[5][0], together.blocks[5][row])
        assert torch.equal(alone.embedding[0], together.embedding[row])
        assert torch.equal(alone.dense[0], together.dense[row])


def test_early_exit_reads_what_the_whole_pass_reads():
    early = tiny().encode(pixels(), [3])
    late = tiny().encode(pixels(), [3, 7], embedding=True)
    assert torch.equal(early.blocks[3], late.blocks[3])
    assert early.embedding is None


def test_no_prompt_is_no_prompt_and_a_zero_prompt_is_one():
    none = tiny().encode(pixels(), [3]).blocks[3]
    empty = tiny().encode(pixels(), [3], prompts=torch.zeros(4, 2, 0, tiny().width)).blocks[3]
    zero = tiny().encode(pixels(), [3], prompts=torch.zeros(4, 2, 1, tiny().width)).blocks[3]
    assert torch.equal(none, empty)
    assert not torch.allclose(none, zero)  # it takes softmax mass


def test_prompts_get_a_gradient_and_the_backbone_none():
    prompts = torch.full((4, 2, 1, tiny().width), 0.1, requires_grad=True)
    tiny().encode(pixels()[:1], [3], prompts=prompts).blocks[3].square().sum().backward()
    assert prompts.grad is not None
    assert (prompts.grad.flatten(1).norm(dim=1) > 0).all()
    assert not any(parameter.requires_grad for parameter in tiny().model.parameters())


@pytest.mark.parametrize("backbone", [tiny(), CachedBackbone(tiny())], ids=["plain", "cached"])
def test_pixels_that_want_a_gradient_get_one_and_the_same_features(backbone):
    pixels = backbone.preprocess([disc(0), checks(0)])
    frozen = backbone.encode(pixels, [1], embedding=True, dense=True)
    views = Views.of_pixels(backbone, pixels.clone().requires_grad_())
    views.compute([1], embedding=True, dense=True)
    for features, same in ((views.block(1), frozen.blocks[1]), (views.dense, frozen.dense)):
        torch.testing.assert_close(features.detach(), same)
    (views.block(1).square().sum() + views.embedding.sum() + views.dense.sum()).backward()
    assert views.pixels.grad is not None
    assert views.pixels.grad.isfinite().all()
    assert (views.pixels.grad.flatten(1).abs().amax(dim=1) > 0).all()
    assert not backbone.encode(pixels, [1]).blocks[1].requires_grad


def test_prompted_features_do_not_depend_on_the_batch():
    prompts = torch.randn(4, 2, 2, tiny().width, generator=torch.Generator().manual_seed(0))
    together = tiny().encode(pixels(), [3], prompts=prompts).blocks[3]
    alone = tiny().encode(pixels()[2:3], [3], prompts=prompts).blocks[3]
    assert torch.equal(alone[0], together[2])


def test_context_moves_only_the_texts_that_have_a_place_for_it():
    context = torch.randn(5, tiny().text_width, generator=torch.Generator().manual_seed(0))
    texts = ["a photo of a flawless nut with [P]", "a photo of a nut"]
    with_context, without = tiny().encode_text(texts, context=context), tiny().encode_text(["a photo of a nut"])
    torch.testing.assert_close(with_context[1:], without)
    other = tiny().encode_text(texts, context=2 * context)
    assert not torch.allclose(with_context[0], other[0])


def test_a_class_name_that_is_too_long_is_said():
    with pytest.raises(ConfigError, match="choose a shorter class name"):
        tiny().encode_text(["a photo of a " + "very " * 100 + "long nut"])


def test_other_input_sizes_give_other_grids():
    large = load_backbone("tiny", image_size=128, weights_dir=Path("nowhere"), device="cpu")
    assert large.encode(large.preprocess([disc(0)]), [3]).blocks[3].shape == (1, 64, large.width)
    with pytest.raises(ConfigError, match="multiple of the patch size 16"):
        load_backbone("tiny", image_size=100, weights_dir=Path("nowhere"))


def test_pictures_are_squashed_never_cropped():
    wide = np.zeros((50, 200, 3), np.uint8)
    wide[:, :4] = 255  # a defect at the very end
    assert tiny().preprocess([wide])[0, :, :, 0].max() > 0.9


def test_a_block_beyond_the_tower_is_said():
    with pytest.raises(ConfigError, match="blocks 0 to 7; asked for 12"):
        tiny().encode(pixels(), [12])


def test_cached_features_are_the_same_and_bounded():
    cached = CachedBackbone(tiny(), max_bytes=20_000)
    for _ in range(2):
        views = Views(cached, PICTURES)
        views.compute([3, 5], embedding=True, dense=True)
        plain = tiny().encode(pixels(), [3, 5], embedding=True, dense=True)
        assert plain.embedding is not None
        assert plain.dense is not None
        assert torch.equal(views.block(3), plain.blocks[3])
        assert torch.equal(views.embedding, plain.embedding)
        assert torch.equal(views.dense, plain.dense)
    assert cached._bytes <= 20_000


def test_the_cache_counts_what_it_holds():
    cached = CachedBackbone(tiny())
    cached.encode(pixels(), [3])
    cached.encode(pixels(), [3, 5], embedding=True)
    cached.encode(pixels()[[0, 0, 1]], [5], dense=True)
    assert cached._bytes == sum(tensor.nbytes for tensor in cached._kept.values())


def test_tiny_is_the_same_model_every_time():
    one, two = tiny_module.tiny_model().state_dict(), tiny_module.tiny_model().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


# --- the weights in the package -------------------------------------------------------------------


def test_small_needs_nothing_but_the_package(monkeypatch):
    def refuse(*_):
        raise AssertionError("nothing may be asked of a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    loaded = load_backbone("small", image_size=224, weights_dir=Path("nowhere"), device="cpu")
    assert loaded.spec.backbone == "small"
    assert loaded.spec.weights_sha256 == hashlib.sha256((PACKAGED / WEIGHTS_FILE).read_bytes()).hexdigest()
    assert "rendered products alone" in loaded.caveat
    assert "rendering" in (PACKAGED / "README.md").read_text()  # the card says what it was made of


def test_small_says_when_it_is_missing_or_damaged(tmp_path, monkeypatch):
    folder = tmp_path / "small"
    monkeypatch.setattr(weights_module, "PACKAGED", folder)
    with pytest.raises(WeightsError, match="comes with the program; install it again"):
        load_backbone("small", image_size=128, weights_dir=tmp_path)
    shutil.copytree(PACKAGED, folder)
    (folder / WEIGHTS_FILE).write_bytes((PACKAGED / WEIGHTS_FILE).read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"small: the weights in .* do not fit the model"):
        load_backbone("small", image_size=128, weights_dir=tmp_path)
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(WeightsError, match=r"small: needed .*open_clip_config\.json"):
        load_backbone("small", image_size=128, weights_dir=tmp_path)


def test_smalls_words_tell_damaged_products_from_flawless_ones():
    """On families that training never showed: of the same photograph with and without damage, which is damaged?"""
    right = []
    for number in range(6):
        line = family(Split.HELDOUT, number)
        pictures = []
        for seed, defect in enumerate(line.defects[:3]):
            pictures += [line.render(seed, size=128, defect=shown, severity=1.0).picture for shown in (None, defect)]
        damaged = damaged_logit(Views(small(), pictures).dense, small().encode_text(pair(line.noun)))
        good, bad = damaged.topk(3, dim=-1).values.mean(-1).unflatten(0, (-1, 2)).unbind(1)
        right += (bad > good).tolist()
    assert sum(right) / len(right) > 0.67, f"{sum(right)} of {len(right)}"


# --- weights on disk ------------------------------------------------------------------------------


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(WeightsError, match="stream-ad weights pull ViT-B-16/openai"):
        load_backbone("ViT-B-16/openai", image_size=224, weights_dir=tmp_path)
    with pytest.raises(WeightsError, match="or to small, which comes with the program"):
        load_backbone("ViT-B-16/openai", image_size=224, weights_dir=tmp_path)
    with pytest.raises(WeightsError, match="there is no folder"):
        load_backbone(f"local-dir:{tmp_path / 'none'}", image_size=224, weights_dir=tmp_path)


def test_saved_weights_load_and_auto_finds_them_or_takes_small(tmp_path):
    assert best_available(tmp_path) == "small"
    torch.manual_seed(0)
    model = vit.open_clip.CLIP(**tiny_module.CONFIG)
    save(model, tiny_module.CONFIG, tiny_module.MEAN, tiny_module.STD, "ViT-Tiny/ours", tmp_path)
    assert [weights.id for weights in pulled(tmp_path)] == ["ViT-Tiny/ours"]
    loaded = load_backbone("auto", image_size=224, weights_dir=tmp_path, device="cpu")
    assert loaded.spec.backbone == "ViT-Tiny/ours"
    images = loaded.preprocess(PICTURES)
    with torch.no_grad():
        expected = model.eval().encode_image(images, normalize=True)
    torch.testing.assert_close(loaded.encode(images, [], embedding=True).embedding, expected)


def test_saved_weights_may_be_read_by_whom_the_folder_is_open_to(tmp_path):
    """By a service of another user than the person who pulled."""
    kept = save(vit.open_clip.CLIP(**tiny_module.CONFIG), tiny_module.CONFIG, (0.5,) * 3, (0.5,) * 3, "ours", tmp_path)
    assert kept.file.stat().st_mode == (kept.directory / CONFIG_FILE).stat().st_mode


def test_weights_that_do_not_fit_are_said(tmp_path):
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"model_cfg": tiny_module.CONFIG}))
    save_file({"visual.proj": torch.zeros(3, 3)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match="do not fit the model"):
        load_backbone(f"local-dir:{tmp_path}", image_size=224, weights_dir=tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="do not fit the model"):
        load_backbone(f"local-dir:{tmp_path}", image_size=224, weights_dir=tmp_path)
    (tmp_path / CONFIG_FILE).write_text("{}")
    with pytest.raises(WeightsError, match=r"no model_cfg\.vision_cfg"):
        load_backbone(f"local-dir:{tmp_path}", image_size=224, weights_dir=tmp_path)


def test_pull_says_what_cannot_be_downloaded(tmp_path):
    for ours in ("auto", "small", "tiny"):
        with pytest.raises(WeightsError, match="nothing to download"):
            pull(ours, tmp_path)
    with pytest.raises(WeightsError, match="open_clip has no weights 'ViT-B-16/none'; tags of 'ViT-B-16': openai"):
        pull("ViT-B-16/none", tmp_path)


def test_no_such_device_is_said(tmp_path):
    with pytest.raises(ConfigError, match="must be auto, cpu, cuda"):
        load_backbone("tiny", image_size=96, weights_dir=tmp_path, device="toaster")


def test_locate_reads_a_local_folder(tmp_path):
    assert locate(f"local-dir:{tmp_path}", Path("nowhere")).directory == tmp_path
