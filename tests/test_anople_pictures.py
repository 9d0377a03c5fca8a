"""What AnoPLe's training shows: damage where the truth says, and nothing of pictures that it may not learn."""

from collections.abc import Sequence

import numpy as np
import pytest

from stream_ad.detectors.anople_network import CROPS, FINE, WHOLE
from stream_ad.detectors.anople_pictures import Auxiliary, Drawn, drawn, shown
from tests.continual_kit import Labelled
from tests.models import cached
from tests.pictures import Pictures, disc

SCRATCH = np.zeros((96, 96), bool)
SCRATCH[44:50, 30:66] = True
RED = (230, 40, 30)


def product(masks: Sequence[np.ndarray | None] = (None, SCRATCH)) -> Auxiliary:
    pictures = [disc(9), disc(10, scratched=True)][: len(masks)]
    return Auxiliary("washer", Pictures([disc(seed) for seed in range(3)]), Labelled(pictures, masks))


def draws(one: Auxiliary, *, damaged: bool, real: float, crops: Sequence[int] = (2,)) -> list[Drawn]:
    return [drawn(one, np.random.default_rng(seed), damaged=damaged, real=real, crops=crops) for seed in range(20)]


def test_good_pictures_are_those_to_learn_from_and_have_no_damage():
    known = {disc(seed).tobytes() for seed in range(3)} | {disc(seed)[:, ::-1].tobytes() for seed in range(3)}
    for one in draws(product(), damaged=False, real=1.0):
        assert not one.mask.any()
        assert one.picture.tobytes() in known


def test_labelled_damage_lies_where_its_mask_says_also_when_it_is_turned_round():
    found = draws(product(), damaged=True, real=1.0)
    for one in found:
        assert (one.picture[one.mask] == RED).all()
        assert one.mask.sum() == SCRATCH.sum()
    assert len({one.picture.tobytes() for one in found}) == 2  # as it is, and turned round


def test_painted_damage_lies_in_the_crop_that_is_shown():
    for one in draws(product(), damaged=True, real=0.0, crops=(2,)):
        assert one.mask.any()
        assert not one.mask[:48].any()  # the third crop is below, at the left; turned round at the right
        assert one.mask[:, :48].any() != one.mask[:, 48:].any()


@pytest.mark.parametrize("masks", [(None,), (None, np.zeros((96, 96), bool))], ids=["good alone", "marked empty"])
def test_damage_is_painted_where_none_is_marked(masks):
    for one in draws(product(masks), damaged=True, real=1.0):
        assert one.mask.any()


def test_what_may_be_shown_is_what_the_weights_say_that_they_learned():
    one = product()
    assert one.defects is not None
    assert list(one.ids) == [*one.normals.ids, one.defects.ids[1]]  # the good labelled one is never shown
    assert list(Auxiliary("washer", one.normals).ids) == list(one.normals.ids)


def test_a_crop_is_a_quarter_of_the_picture_with_its_own_truth():
    backbone = cached()
    scales = shown(backbone, [Drawn(disc(10, scratched=True), SCRATCH)], crops=range(CROPS**2))
    assert list(scales) == [WHOLE, 1, 2, 3, 4]
    side = FINE * backbone.grid
    assert {batch.truth.shape for batch in scales.values()} == {(1, side, side)}
    assert {batch.pixels.shape for batch in scales.values()} == {scales[WHOLE].pixels.shape}
    # the scratch lies across the middle: in all four crops, each has its own end of it
    assert all(batch.truth.any() for batch in scales.values())
    assert scales[1].truth[0, -1].any()
    assert scales[3].truth[0, 0].any()
