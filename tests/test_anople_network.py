"""AnoPLe's parts: who sees whom, what a loss is bounded by, and what a score is."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stream_ad.backbones.blocks import block_forward
from stream_ad.backbones.vit import VitBackbone
from stream_ad.detectors.anople_network import (
    WHOLE,
    AnopleNetwork,
    AnopleShape,
    Coupling,
    alignment_loss,
    evidence,
    place_logits,
)
from stream_ad.domain.bank import FeatureSpec
from stream_ad.functional.harmonic import harmonic_log_odds
from tests.models import tiny
from tests.pictures import disc


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(**shape) -> AnopleNetwork:
    return AnopleNetwork(AnopleShape(**shape), tiny(), torch.Generator().manual_seed(0))


def pixels() -> Tensor:
    return tiny().preprocess([disc(0), disc(1, scratched=True)])


# --- prompts in the towers ------------------------------------------------------------------------


def test_prefixes_of_tokens_do_what_the_tokens_do_in_the_sequence():
    """The slow way: the tokens stand in the sequence and are dropped after the block."""
    block = tiny().visual.transformer.resblocks[0]
    x, tokens = drawn(2, 10, tiny().width), drawn(3, tiny().width, seed=1)
    slow = block_forward(block, torch.cat([tokens.expand(2, -1, -1), x], dim=1))[:, 3:]
    fast = block_forward(block, x, tiny().prefixes(tokens[None])[0])
    torch.testing.assert_close(fast, slow)


def test_deep_words_replace_the_first_ones_in_later_blocks():
    context, deep = drawn(2, tiny().text_width), drawn(1, 2, tiny().text_width, seed=1)
    texts = ["[P] nut", "a [P] abnormal nut", "a nut"]
    shallow = tiny().encode_text(texts, context=context)
    found = tiny().encode_text(texts, context=context, deep=deep)
    torch.testing.assert_close(found[2], shallow[2])  # no place for them
    assert not torch.allclose(found[:2], shallow[:2], atol=1e-3)
    alone = tiny().encode_text(texts[1:2], context=context, deep=deep)
    torch.testing.assert_close(found[1], alone[0])
    none = tiny().encode_text(texts, context=context, deep=torch.zeros(0, 2, tiny().text_width))
    assert none.equal(shallow)


TOWARDS = {  # whether the image's loss reaches the words, and the text's loss the marks
    Coupling.BOTH: (True, True),
    Coupling.TEXT_TO_IMAGE: (True, False),
    Coupling.IMAGE_TO_TEXT: (False, True),
    Coupling.NONE: (False, False),
}


@pytest.mark.parametrize("coupling", Coupling)
def test_coupling_is_the_way_that_gradients_go(coupling):
    net, backbone = network(coupling=coupling), tiny()
    seen = net.seen(backbone, pixels(), net.prompts(backbone))
    (seen.whole.sum() + seen.patches.square().sum()).backward()
    texts, images = TOWARDS[coupling]
    assert (net.words.grad is not None and bool(net.words.grad.any())) == texts
    assert net.marks.grad is not None
    net.zero_grad()
    net.texts(backbone, ["nut"])[:, 1].sum().backward()
    assert (net.marks.grad is not None and bool(net.marks.grad.any())) == images
    assert net.words.grad is not None


def test_both_ways_gradients_reach_every_block_of_both_towers():
    net, backbone = network(), tiny()
    seen = net.seen(backbone, pixels(), net.prompts(backbone, WHOLE))
    texts = net.texts(backbone, ["nut"])[0]
    logits = place_logits(net.decoder(seen.patches), texts)
    (logits.square().sum() + seen.whole.sum()).backward()
    for tokens in (net.words, net.marks, net.to_words, net.to_marks):
        assert tokens.grad is not None
        assert (tokens.grad.flatten(1).norm(dim=1) > 0).all()
    assert net.scales.grad is not None
    assert net.scales.grad[WHOLE].any()
    assert not net.scales.grad[1:].any()  # crops have their own
    assert all(parameter.grad is None for parameter in backbone.visual.parameters())
    assert all(parameter.grad is None for parameter in backbone.text.tower.parameters())


def test_blocks_are_coupled_with_those_as_deep_in_the_other_tower():
    net = network()
    assert (tiny().depth, tiny().text_depth) == (8, 2)
    assert net.with_text == [0, 0, 0, 0, 1, 1, 1, 1]
    assert net.with_image == [0, 4]


def test_each_scale_has_its_own_prefix_and_without_prefixes_all_are_alike():
    net, bare = network(), network(prefixes=False)
    assert not net.prompts(tiny(), WHOLE).equal(net.prompts(tiny(), 1))
    assert bare.prompts(tiny(), WHOLE).equal(bare.prompts(tiny(), 1))
    assert net.prompts(tiny()).shape[2] == bare.prompts(tiny()).shape[2] + 1


def test_without_text_the_name_of_the_product_says_nothing():
    bare = network(text=False)
    nut, tile = bare.texts(tiny(), ["nut", "tile"])
    assert nut.equal(tile)
    named = network().texts(tiny(), ["nut", "tile"])
    assert not torch.allclose(named[0], named[1], atol=1e-4)


def test_the_papers_backbone_constructs():
    """ViT-B-16-plus-240's form, drawn at random: towers of width 896 and 640, 12 blocks each."""
    import open_clip

    config = open_clip.get_model_config("ViT-B-16-plus-240")
    assert config is not None
    config = {**config, "vision_cfg": {**config["vision_cfg"], "layers": 2}, "text_cfg": {**config["text_cfg"]}}
    config["text_cfg"] |= {"layers": 2, "vocab_size": 49408}
    with torch.device("meta"):  # 60 million numbers need not be drawn
        model = open_clip.CLIP(**config)
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    spec = FeatureSpec(backbone="ViT-B-16-plus-240", weights_sha256="0" * 64, image_size=48)
    backbone = VitBackbone(model, spec=spec, mean=(0.5,) * 3, std=(0.5,) * 3, device=torch.device("cpu"))
    assert (backbone.width, backbone.text_width, backbone.joint_width) == (896, 640, 640)
    net = AnopleNetwork(AnopleShape(), backbone, torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = net.seen(backbone, backbone.preprocess([disc(0)]), net.prompts(backbone))
        places = net.decoder(seen.patches)
        assert place_logits(places, net.texts(backbone, ["nut"])).shape == (1, 36)


# --- losses and scores ----------------------------------------------------------------------------


@given(st.integers(0, 1000))
def test_alignment_loss_is_between_nothing_and_two(seed):
    whole, other = F.normalize(drawn(3, 8, seed=seed), dim=-1), F.normalize(drawn(3, 8, seed=seed + 1), dim=-1)
    assert -1e-6 <= float(alignment_loss(whole, other)) <= 2 + 1e-6
    assert float(alignment_loss(whole, whole)) == pytest.approx(0, abs=1e-6)
    assert float(alignment_loss(whole, -whole)) == pytest.approx(2)


def test_evidence_is_where_the_map_says_abnormal():
    places = F.normalize(drawn(1, 5, 8), dim=-1)
    logits = torch.tensor([[-50.0, -50.0, 50.0, -50.0, -50.0]])
    torch.testing.assert_close(evidence(places, logits)[0], places[0, 2])


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_the_score_is_the_harmonic_mean(p, q):
    first, second = torch.tensor([p, q], dtype=torch.float64), torch.tensor([q, p], dtype=torch.float64)
    found = torch.sigmoid(harmonic_log_odds(torch.logit(first), torch.logit(second)))
    np.testing.assert_allclose(found, 2 * p * q / (p + q), rtol=1e-9)
    assert found[0] == found[1]


def test_the_score_rises_with_both_and_nothing_overflows():
    sure = torch.tensor([-200.0, 0.0, 200.0])
    assert harmonic_log_odds(sure, torch.zeros(3)).isfinite().all()
    assert (harmonic_log_odds(sure, torch.zeros(3)).diff() > 0).all()
    # the lower one decides
    torch.testing.assert_close(
        harmonic_log_odds(torch.tensor(50.0), torch.tensor(1.0)), torch.tensor(1.0 + math.log(2))
    )


def test_decoder_begins_at_the_joint_space_tokens():
    net = network()
    patches = drawn(1, 36, sum(net.decoder.read))
    with torch.no_grad():
        net.decoder.last.weight.zero_()
        found = net.decoder(patches).unflatten(1, (12, 12))
    dense = F.normalize(patches[0, :, -net.decoder.read[-1] :], dim=-1).unflatten(0, (6, 6))
    torch.testing.assert_close(found[0, ::2, 1::2], dense)
