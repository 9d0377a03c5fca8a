"""Pictures spread over threads: sooner, and with the very same bits."""

import copy
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from stream_ad.backbones.spread import Spread, unsplit
from stream_ad.backbones.views import Views
from stream_ad.backbones.vit import GROUP, VitBackbone
from tests.models import tiny
from tests.pictures import checks, disc, stripes

PICTURES = [painter(seed) for seed in range(4) for painter in (disc, checks, stripes)]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def backbone() -> VitBackbone:
    """With as many threads as torch has now."""
    made = copy.copy(tiny())
    made._spread = Spread()
    return made


def test_results_come_in_the_order_of_the_items(two_threads: None):
    assert Spread().map(lambda item: item * item, list(range(20))) == [item * item for item in range(20)]


def test_an_error_of_one_picture_reaches_the_caller(two_threads: None):
    with pytest.raises(ZeroDivisionError):
        Spread().map(lambda item: 1 / item, [1, 0, 1])


def test_operations_are_split_everywhere_but_in_its_threads(two_threads: None):
    spread = Spread()
    assert spread.map(lambda _: torch.get_num_threads(), range(8)) == [1] * 8
    assert spread.alone(lambda _: torch.get_num_threads(), 0) == 2
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 2


def test_several_pictures_are_computed_at_once(two_threads: None):
    both = threading.Barrier(2, timeout=60)
    assert sorted(Spread().map(lambda _: both.wait(), range(2))) == [0, 1]


def test_small_operations_are_not_split_for_a_while(two_threads: None):
    with unsplit():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("count", [1, 2, GROUP, 2 * GROUP, 2 * GROUP + 3])
def test_an_image_has_the_same_bits_in_a_batch_of_any_size(count: int, two_threads: None):
    spread = backbone()
    pixels = spread.preprocess(PICTURES)
    one_by_one = [spread.encode(pixels[row : row + 1], [2, 5], embedding=True) for row in range(count)]
    together = spread.encode(pixels[:count], [2, 5], embedding=True)
    assert together.embedding is not None
    for row, alone in enumerate(one_by_one):
        assert alone.embedding is not None
        assert torch.equal(alone.blocks[5][0], together.blocks[5][row])
        assert torch.equal(alone.embedding[0], together.embedding[row])


def test_a_pass_goes_on_from_where_one_stopped_with_the_same_bits():
    pixels = tiny().preprocess(PICTURES)
    whole = tiny().encode(pixels, [2, 5], embedding=True, dense=True)
    begun = tiny().encode(pixels, [2])
    assert begun.reached is not None
    assert begun.reached.block == 2
    on = tiny().encode(pixels, [5], embedding=True, dense=True, reached=begun.reached)
    assert torch.equal(on.blocks[5], whole.blocks[5])
    assert on.embedding is not None
    assert whole.embedding is not None
    assert torch.equal(on.embedding, whole.embedding)
    assert on.dense is not None
    assert whole.dense is not None
    assert torch.equal(on.dense, whole.dense)


def test_a_block_before_the_one_reached_is_read_all_the_same():
    pixels = tiny().preprocess(PICTURES[:2])
    begun = tiny().encode(pixels, [5])
    assert torch.equal(
        tiny().encode(pixels, [2], reached=begun.reached).blocks[2], tiny().encode(pixels, [2]).blocks[2]
    )


def test_what_routing_adds_to_a_scored_picture_runs_only_the_blocks_that_are_left():
    counted = backbone()
    runs: list[int] = []
    blocks = counted.visual.transformer.resblocks
    hooks = [
        block.ln_1.register_forward_hook(lambda *_, index=index: runs.append(index))
        for index, block in enumerate(blocks)
    ]
    try:
        views = Views(counted, PICTURES[:GROUP])
        views.compute([3])
        runs.clear()
        _ = views.select([1, 2]).embedding
    finally:
        for hook in hooks:
            hook.remove()
    assert set(runs) == set(range(4, len(blocks)))


@pytest.mark.parametrize("shape", [(96, 96), (300, 200), (1031, 117), (640, 480)])
def test_shrinking_a_photograph_is_at_most_one_step_of_255_from_pillows(shape: tuple[int, int]):
    noise = np.random.default_rng(3).integers(0, 256, (*shape, 3)).astype(np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 0.6)  # a lens leaves no neighbouring pixels that differ by 255
    picture.flags.writeable = False
    expected = np.asarray(Image.fromarray(picture).resize((96, 96), Image.Resampling.BICUBIC))
    ours = tiny().preprocess([picture])[0].permute(1, 2, 0)
    values = (ours.double() * torch.tensor(tiny_std()) + torch.tensor(tiny_mean())) * 255
    difference = (values.round() - torch.from_numpy(expected.copy()).double()).abs()
    assert difference.max() <= 1


def tiny_mean() -> list[float]:
    from stream_ad.backbones import tiny as module

    return list(module.MEAN)


def tiny_std() -> list[float]:
    from stream_ad.backbones import tiny as module

    return list(module.STD)
